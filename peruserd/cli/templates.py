"""`peruserd templates`: compare databases with the configured templates and rights, and roll these out."""

import argparse
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import msgspec

from peruserd.cli.connecting import Connected, need_users, with_server
from peruserd.cli.observing import Observed, observe
from peruserd.cli.output import CommandError, error_fields, print_json, say
from peruserd.cli.parser import EXIT_DONE, EXIT_INTERRUPTED, EXIT_LATER, EXIT_NOT_DONE
from peruserd.cli.progress import announce
from peruserd.cli.rollout import THREADS, Counts, Pace, Rolled, Rollout, Seen, finish, in_groups
from peruserd.cli.template_words import template_words
from peruserd.core.cluster.views import Feed
from peruserd.core.common.escaping import counted, named, shown
from peruserd.core.configuration.choices import Grant
from peruserd.core.users.contents import TemplateStatus
from peruserd.core.users.quarantine import Advice
from peruserd.couch.errors import CouchError, UnauthorizedError
from peruserd.couch.journal import Journal
from peruserd.couch.single_journal import prepare_journal
from peruserd.couch.template_record import TemplateRecord
from peruserd.daemon.templates import DESIGNS_CHANGEABLE

# Longer work prints its progress each time after this.
_QUIET_SECONDS: Final = 2.0

# Without a terminal, a line now and then is enough.
_UNWATCHED_SECONDS: Final = 30.0

# The largest number of unreadable users before `status` stops. It changes nothing, so some do not matter.
_MAX_UNREADABLE: Final = 100


def run(options: argparse.Namespace) -> int:
    """Print the status, or roll out; exit 1 where something remains to be done."""
    command = _Status if options.action == "status" else _RollingOut
    return with_server(
        options,
        lambda connected: command(connected, options).run(),
        connections=THREADS,
        # A rollout finishes its acts, because each write of a security object must be followed by a look at the user
        # document.
        finishes=command is _RollingOut,
    )


class _Failed(msgspec.Struct, frozen=True):
    user: str
    database: str
    why: str


class _Command(ABC):
    """The common part of both actions: going through all users in small groups."""

    def __init__(self, connected: Connected, options: argparse.Namespace) -> None:
        self.connected = connected
        self.templates = connected.templates
        self.options = options
        self.overwrite: bool = getattr(options, "overwrite", False)
        self.counts = Counts(documents={})
        self.failures: list[_Failed] = []
        self.changed = 0
        need_users(connected.client, connected.config.couchdb.auth_db)
        self._total = connected.client.count_user_documents(connected.config.couchdb.auth_db)
        self._next_word = time.monotonic() + _QUIET_SECONDS
        announce(f"looking at {counted(self._total, 'user')}, at most {options.rate:g} a second")

    @abstractmethod
    def run(self) -> int:
        """Carry it out; return the exit code."""

    def groups(self, rollout: Rollout, pool: ThreadPoolExecutor) -> Iterator[list[Seen]]:
        """Yield users in groups at the wanted rate, count them, and print the progress."""
        pace = Pace(self.options.rate, time.monotonic())
        for group in in_groups(rollout.users(), pool, rollout.look):
            for seen in group:
                self.counts.add(seen, overwrite=self.overwrite)
                if seen.why:
                    self.fail(seen, seen.why)
            yield group
            self._print_progress()
            time.sleep(pace.wait_seconds(len(group), time.monotonic()))

    def fail(self, seen: Seen, why: str) -> None:
        """Note and print a failure of one user."""
        self.failures.append(_Failed(seen.user, seen.database, why))
        say(f"{named(seen.user)}: {shown(why)}")

    def _print_progress(self) -> None:
        now = time.monotonic()
        if now < self._next_word:
            return
        self._next_word = now + (_QUIET_SECONDS if sys.stderr.isatty() else _UNWATCHED_SECONDS)
        words = f"{self.counts.users:,} of {counted(max(self._total, self.counts.users), 'user')}"
        say(f"{words}, {self.counts.due:,} not up to date, {self.changed:,} changed, {len(self.failures):,} failed")


class _Status(_Command):
    def run(self) -> int:
        """Count the databases by their status; exit 0 where a rollout would change nothing."""
        feed = observe(self.connected, wait=False).attachment.feed
        rollout = Rollout(self.connected, feed)
        with ThreadPoolExecutor(THREADS) as pool:
            for _ in self.groups(rollout, pool):
                if len(self.failures) > _MAX_UNREADABLE:
                    say(f"stopped, because {counted(len(self.failures), 'user')} could not be read")
                    break
        if self.options.json:
            print_json(self._answer())
        else:
            print("\n".join(_in_words(self.connected, self.counts)))
        if len(self.failures) > _MAX_UNREADABLE:
            return EXIT_LATER
        return EXIT_NOT_DONE if self.counts.due or self.failures else EXIT_DONE

    def _answer(self) -> dict[str, Any]:
        digest = self.templates.digest
        return {"digest": digest, **msgspec.to_builtins(self.counts), "failures": self.failures}


class _RollingOut(_Command):
    def run(self) -> int:
        """Roll out, and stop after the group in which too many failed; exit 0 where all is done."""
        self._changes: list[dict[str, Any]] = []
        self._kept: list[dict[str, Any]] = []
        self._left = 0
        self._trouble: CommandError | None = None
        observed = observe(self.connected, wait=False)
        if observed.apart:
            nodes = ", ".join(sorted({each.node for each in observed.apart}))
            say(f"instances with another configuration: {nodes}; new users get what these have, until a reload")
        if self.templates.designs and self.connected.config.security.grant is Grant.ADMIN:
            say(f"careful: {DESIGNS_CHANGEABLE}")
        if not self.options.dry_run and (why := self._put_on_record(observed)) is not None:
            raise CommandError(EXIT_LATER, "own_database_unusable", why)
        is_whole = False
        code = EXIT_NOT_DONE
        try:
            with ThreadPoolExecutor(THREADS) as pool:
                is_whole = self._through_all(
                    Rollout(self.connected, observed.attachment.feed, overwrite=self.overwrite), pool
                )
        except KeyboardInterrupt:
            say("interrupted")
            code = EXIT_INTERRUPTED
            self._trouble = CommandError(code, "interrupted", "interrupted")
        except CouchError as error:
            # The changes made so far are printed all the same.
            say(str(error))
            code = _code_of(error)
            self._trouble = CommandError(code, error.kind, str(error))
        is_done = is_whole and not self.failures
        self._end(is_whole=is_whole, is_done=is_done)
        return EXIT_DONE if is_done else code

    def _put_on_record(self, observed: Observed) -> str | None:
        """Record the templates of this rollout for later ones; return the reason where that is impossible."""
        client, name = self.connected.client, self.connected.config.cluster.database
        if not self.templates.documents:
            return None
        is_ours = observed.view.leases_readable
        if observed.attachment.feed is Feed.DATABASE:
            is_ours = prepare_journal(client, name)
        if not is_ours:
            return f"the database {name} cannot be used for the record of templates; `peruserd check` says why"
        TemplateRecord(Journal(client.session, name)).keep(self.templates)
        return None

    def _through_all(self, rollout: Rollout, pool: ThreadPoolExecutor) -> bool:
        for group in self.groups(rollout, pool):
            for seen in group:
                self._note_kept(seen)
            due = [seen for seen in group if seen.is_due(overwrite=self.overwrite)]
            act = _nothing if self.options.dry_run else rollout.roll_out
            finish([(seen, pool.submit(act, seen.user)) for seen in due], self._take)
            if len(self.failures) > self.options.max_failures:
                return False
        return True

    def _take(self, seen: Seen, rolled: Rolled) -> None:
        if rolled.is_done:
            self._note_change(seen)
        elif rolled.why:
            self.fail(seen, rolled.why)
        else:
            self._left += 1

    def _note_change(self, seen: Seen) -> None:
        self.changed += 1
        contents = seen.contents
        due = contents.due(overwrite=self.overwrite) if contents is not None else ()
        options = contents.options if contents is not None else ()
        self._changes.append(
            {
                "user": seen.user,
                "database": seen.database,
                "documents": [each.id for each in due],
                "options": list(options),
                "rights": seen.rights_due,
            }
        )
        if not self.options.json:
            did = "would change" if self.options.dry_run else "changed"
            parts = [*(f"{each.id} ({each.status})" for each in due), *options, *(["rights"] * seen.rights_due)]
            print(f"{named(seen.user)}: {did}: {shown(', '.join(parts))}", flush=True)

    def _note_kept(self, seen: Seen) -> None:
        if self.overwrite or seen.contents is None or not seen.contents.kept:
            return
        for each in seen.contents.kept:
            kept = {"user": seen.user, "database": seen.database, "document": each.id, "standing": each.status}
            self._kept.append(kept)
        if not self.options.json:
            parts = ", ".join(f"{each.id} ({each.status})" for each in seen.contents.kept)
            print(f"{named(seen.user)}: kept: {shown(parts)}", flush=True)

    def _end(self, *, is_whole: bool, is_done: bool) -> None:
        if not is_whole:
            words = (
                f"stopped after {counted(self.counts.users, 'user')}, of whom {len(self.failures):,} failed; run it "
            )
            is_to_mend = self.failures or (self._trouble is not None and self._trouble.code == EXIT_NOT_DONE)
            mended = "again once that is mended" if is_to_mend else "again"
            more = ", or let more fail: --max-failures" if self.failures else ""
            say(f"{words}{mended}{more}; it skips what is already right")
        if self.options.json:
            answer = {
                "done": is_done,
                "dry_run": self.options.dry_run,
                "digest": self.templates.digest,
                "users": self.counts.users,
                "up_to_date": self.counts.up_to_date,
                "without_database": self.counts.without_database,
                "left_to_daemons": self._left,
                "changes": self._changes,
                "kept": self._kept,
                "failures": self.failures,
            }
            print_json(answer | error_fields(self._trouble))
            return
        did = "would be changed" if self.options.dry_run else "changed"
        print(
            f"{counted(self.counts.users, 'user')}: {self.changed:,} {did}, {self.counts.up_to_date:,} up to date "
            f"before, {self.counts.without_database:,} without a database yet, {self._left:,} left to the daemons, "
            f"{len(self.failures):,} failed; documents kept as their users changed them: {len(self._kept):,}"
        )


def _code_of(error: CouchError) -> int:
    """Return the exit code of a rollout that ended with this error: 75 only where a repetition can succeed.

    An unauthorized answer counts as passing, because CouchDB locks an account for a while after wrong passwords.
    """
    is_to_mend = error.advice is Advice.ASK_OPERATOR and not isinstance(error, UnauthorizedError)
    return EXIT_NOT_DONE if is_to_mend else EXIT_LATER


def _in_words(connected: Connected, counts: Counts) -> Iterator[str]:
    yield from template_words(connected.templates, connected.config.security.grant)
    yield f"{counted(counts.users, 'user')}, {counts.without_database:,} of them without a database yet"
    statuses = [str(each) for each in TemplateStatus]
    width = max([len(each) for each in counts.documents] + [len("document")])
    if counts.documents:
        yield "  ".join(["document".ljust(width), *(each.rjust(len(each)) for each in statuses)])
    for name, found in sorted(counts.documents.items()):
        yield "  ".join([shown(name).ljust(width), *(f"{found[each]:,}".rjust(len(each)) for each in statuses)])
    grant = connected.config.security.grant.value
    yield f"rights (grant {grant}, roles): {counted(counts.rights_due, 'database')} to be changed"
    if connected.templates.options:
        yield f"options: {counted(counts.options_due, 'database')} to be changed"
    yield _verdict(counts)


def _verdict(counts: Counts) -> str:
    """Return one sentence on what a rollout would do."""
    if counts.due:
        return f"a rollout would change {counted(counts.due, 'database')}"
    if counts.unreadable:
        read = "everything that could be read is up to date" if counts.up_to_date else "nothing could be read"
        return f"{read}; {counted(counts.unreadable, 'database')} could not be"
    if counts.up_to_date:
        return "every database that is there is up to date" if counts.without_database else "everything is up to date"
    if not counts.users:
        return "there are no users, so there is nothing to roll out"
    return "nobody has a database yet, so there is nothing to roll out: daemons make databases as they are configured"


def _nothing(_user: str) -> Rolled:
    return Rolled(is_done=True)
