"""`peruserd audit`: do a round of the audit now, list the differences, and repair them on demand.

The command itself changes nothing. With `--repair` it sends users to the running daemon, and the listeners look at
them.
"""

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from peruserd.cli.config_file import load_file
from peruserd.cli.connecting import Connected, as_command_error, need_users, with_server
from peruserd.cli.order_command import NotTakenError, answers, refused
from peruserd.cli.output import CommandError, error_fields, print_json, say
from peruserd.cli.parser import EXIT_DONE, EXIT_INTERRUPTED, EXIT_LATER, EXIT_NOT_DONE
from peruserd.cli.progress import Progress, announce
from peruserd.cli.survey import Known, Survey
from peruserd.core.audit.diagnosis import Diagnosis, Rules
from peruserd.core.audit.findings import UNSEEN, Finding, Remedy
from peruserd.core.cluster.views import Feed
from peruserd.core.common.escaping import counted, named, shown
from peruserd.core.common.names import UnservableNameError, advice_on_id, database_name, user_document_id
from peruserd.core.configuration.config import Config
from peruserd.core.processes import control
from peruserd.core.users.evidence import DocumentState
from peruserd.couch.copies import open_layout
from peruserd.couch.errors import CouchError
from peruserd.daemon.state import StateDirectory
from peruserd.listener.template_writer import open_template_writer
from peruserd.supervisor.attaching import attach

_BETWEEN_SECONDS: Final = 2.0

# A look takes moments, but longer when it must wait for others, such as a crowd that signs up.
_NO_BETTER_SECONDS: Final = 30.0


_MAX_UNSEEN: Final = 10


class _Listed(msgspec.Struct, frozen=True):
    user: str
    database: str
    findings: tuple[Finding, ...]
    remedy: Remedy
    words: str


class _Absent(msgspec.Struct, frozen=True):
    """A named user without a document; `silent` are the nodes that may have the document and could not be read.

    `hint` says which user was probably meant, where the name looks like an id.
    """

    user: str
    database: str
    database_exists: bool
    silent: tuple[str, ...] = ()
    hint: str | None = None


class _Result(msgspec.Struct, frozen=True):
    """The result as JSON: `left` are the users who still differ, after the repair if there was one.

    - `sent` are the users who were sent to the daemon, or would have been.
    - `unknown` are the users of the command line who never had a document.
    - `deleted` are those whose document is deleted.
    """

    users: int
    seconds: float
    differing: int
    findings: dict[Finding, int]
    left: list[_Listed]
    sent: list[str]
    unknown: list[_Absent] = []
    deleted: list[_Absent] = []

    @property
    def code(self) -> int:
        """Return 0 where nothing differs, 1 where something does, and 75 where the rest could not be seen."""
        if self.differing or any(not each.silent for each in self.unknown):
            return EXIT_NOT_DONE
        return EXIT_LATER if self.left or self.unknown else EXIT_DONE


def run(options: argparse.Namespace) -> int:
    """Do a round; exit as `_Result.code` says."""
    config = load_file(options.config).config
    # This is checked before the round, which may take an hour.
    _check_names(config, options.users)
    if options.repair and not options.dry_run:
        _send(StateDirectory.configured(config).path, [], [])
    return with_server(options, lambda connected: _audit(connected, options), connections=options.threads)


def _check_names(config: Config, users: Sequence[str]) -> None:
    """Raise CommandError where a named user cannot have a database."""
    problems = []
    for user in users:
        try:
            database_name(config.databases.prefix, user)
        except UnservableNameError as error:
            problems.append(f"{named(user)}: {error}")
    if problems:
        raise CommandError(EXIT_NOT_DONE, "unservable_name", *problems)


def _audit(connected: Connected, options: argparse.Namespace) -> int:
    config = connected.config
    directory = StateDirectory.configured(config).path
    began = time.monotonic()
    need_users(connected.client, config.couchdb.auth_db)
    survey = _survey(connected, options.threads)
    ids = list(dict.fromkeys(map(user_document_id, options.users)))
    who = counted(len(ids), "user") if ids else "all users"
    announce(f"looking at {who}, and at each copy of their databases")
    known = survey.known(ids)
    ids = ids or _all_ids(survey)
    with Progress("users looked at", len(ids)) as progress:
        found = _without(survey.differing(ids, progress), options.ignore)
    sent = [each.user for each in found if each.wants_look] if options.repair else []
    trouble: CommandError | None = None
    if sent and not options.dry_run:
        _report_found(options, config.databases.prefix, found)
        found, sent, trouble = _repaired(directory, survey, found, sent)
        found = _without(found, options.ignore)
    return _report(options, _result(config.databases.prefix, len(ids), began, found, sent, known), trouble)


def _survey(connected: Connected, threads: int) -> Survey:
    config, client = connected.config, connected.client
    attachment = attach(client, config.couchdb)
    nodes = len(client.membership().cluster_nodes) if attachment.feed is Feed.SHARD else None
    auth_db, templates = config.couchdb.auth_db, connected.templates
    rules = Rules(config.databases, config.deletion, nodes, templates.access(config.security.grant))
    layout = open_layout(client, attachment.feed, "_local", auth_db)
    contents = open_template_writer(client, layout, config.cluster.database, templates).reader()
    return Survey(client, attachment.node, attachment.feed, auth_db, rules, threads, contents)


def _all_ids(survey: Survey) -> list[str]:
    with Progress("users found") as progress:
        users = survey.users(progress)
    # They are sorted, so that two rounds take the same users in the same order.
    return [*sorted(users), *survey.nobodies(users, survey.databases())]


def _without(found: Sequence[Diagnosis], ignored: Sequence[Finding]) -> list[Diagnosis]:
    """Return the diagnoses without the kinds that the operator wants to ignore."""
    kept = [
        msgspec.structs.replace(each, findings=tuple(kind for kind in each.findings if kind not in ignored))
        for each in found
    ]
    return [each for each in kept if each.findings]


# The repair


def _repaired(
    directory: Path, survey: Survey, found: Sequence[Diagnosis], users: Sequence[str]
) -> tuple[list[Diagnosis], list[str], CommandError | None]:
    """Send users to the daemon and watch them; return the remaining diagnoses, the users sent, and an early error.

    After an error the diagnoses are kept, because the round can have taken an hour.
    """
    sent: list[str] = []
    left = {each.user: each for each in found}
    trouble: CommandError | None = None
    try:
        _send(directory, users, sent)
        _watch(survey, left)
    except CommandError as error:
        trouble = error
    except CouchError as error:
        trouble = as_command_error(error)
    except KeyboardInterrupt:
        trouble = CommandError(EXIT_INTERRUPTED, "interrupted", "interrupted")
    return [left[user] for user in sorted(left)], sent, trouble


def _send(directory: Path, users: Sequence[str], sent: list[str]) -> None:
    """Send users to the daemon, and note them in `sent`; raises NotTakenError.

    Without users, this only asks whether the daemon answers.
    """
    parts = [users[begin : begin + control.MAX_USERS] for begin in range(0, len(users), control.MAX_USERS)] or [[]]
    for part in parts:
        for answer in answers(directory, control.LookAt(tuple(part))):
            if isinstance(answer, control.Done):
                break
            if isinstance(answer, control.Refused):
                raise refused(answer)
        else:
            raise NotTakenError(EXIT_LATER, "no_answer", "the daemon ended before it took the users")
        sent.extend(part)


def _watch(survey: Survey, left: dict[str, Diagnosis]) -> None:
    """Look at repairable users until none is left or there is no progress; keep the remaining diagnoses in `left`."""
    waiting = {each.user for each in left.values() if each.remedy is Remedy.LOOK}
    better_at = time.monotonic()
    announce(f"waiting until {counted(len(waiting), 'user')} can be seen to be repaired")
    with Progress("users repaired", len(waiting)) as progress:
        while waiting and time.monotonic() - better_at < _NO_BETTER_SECONDS:
            time.sleep(_BETWEEN_SECONDS)
            seen = {each.user: each for each in survey.at_once(map(user_document_id, sorted(waiting)))}
            still = {each.user for each in seen.values() if each.remedy is Remedy.LOOK}
            if len(still) < len(waiting):
                better_at = time.monotonic()
            progress.advance(len(waiting) - len(still))
            for user in waiting:
                left.pop(user, None)
            left.update(seen)
            waiting = still


# Printing


def _result(
    prefix: str,
    users: int,
    began: float,
    found: Sequence[Diagnosis],
    sent: Sequence[str],
    known: Sequence[Known] = (),
) -> _Result:
    kinds = Counter(kind for each in found for kind in each.findings)
    return _Result(
        users=users,
        seconds=round(time.monotonic() - began, 1),
        differing=sum(each.differs for each in found),
        findings={kind: kinds[kind] for kind in Finding if kinds[kind]},
        left=[_listed(prefix, each) for each in found],
        sent=list(sent),
        unknown=[_absent(each) for each in known if each.state is DocumentState.MISSING],
        deleted=[_absent(each) for each in known if each.state is DocumentState.DELETED],
    )


def _absent(known: Known) -> _Absent:
    hint = advice_on_id(known.user) if known.state is DocumentState.MISSING else None
    return _Absent(known.user, known.database, known.database_exists, known.silent, hint)


def _listed(prefix: str, diagnosis: Diagnosis) -> _Listed:
    try:
        database = database_name(prefix, diagnosis.user)
    except UnservableNameError:
        database = ""
    return _Listed(diagnosis.user, database, diagnosis.findings, diagnosis.remedy, diagnosis.words)


def _report(options: argparse.Namespace, result: _Result, trouble: CommandError | None) -> int:
    for words in () if trouble is None else trouble.problems:
        say(words)
    if options.json:
        print_json(msgspec.to_builtins(result) | error_fields(trouble))
    else:
        for each in result.unknown:
            print(f"{named(each.user)}: {_unknown_words(each)}")
        for each in result.deleted:
            print(f"{named(each.user)}: the user was deleted; {_database_words(each)}")
        _print_list(result.left)
        print(_summary(result, options))
    return result.code if trouble is None else trouble.code


def _unknown_words(absent: _Absent) -> str:
    nodes = ", ".join(absent.silent)
    doubt = f" as far as can be seen without {nodes}" if nodes else ""
    words = f"there is no such user{doubt}; {_database_words(absent)}"
    return f"{words}; {absent.hint}" if absent.hint else words


def _database_words(absent: _Absent) -> str:
    return f"the database {absent.database} is {'there' if absent.database_exists else 'not there'}"


def _report_found(options: argparse.Namespace, prefix: str, found: Sequence[Diagnosis]) -> None:
    if not options.json:
        _print_list([_listed(prefix, each) for each in found])
        users = counted(sum(each.wants_look for each in found), "user")
        print(f"sending {users} to the daemon; those that still differ are listed again:", flush=True)


def _print_list(listed: Sequence[_Listed]) -> None:
    """Print a line for each user who differs, and only for some of those who could not be seen."""
    differing = [each for each in listed if not UNSEEN.issuperset(each.findings)]
    unseen = [each for each in listed if UNSEEN.issuperset(each.findings)]
    for each in [*differing, *unseen[:_MAX_UNSEEN]]:
        kinds = ", ".join(each.findings)
        print(f"{named(each.user)}  {each.database}  {kinds}{': ' if each.words else ''}{shown(each.words)}")
    if len(unseen) > _MAX_UNSEEN:
        print(f"… and {counted(len(unseen) - _MAX_UNSEEN, 'user')} more that could not be seen whole")


def _summary(result: _Result, options: argparse.Namespace) -> str:
    lines = [f"{kind.value:<14} {count:,}" for kind, count in result.findings.items()]
    unseen = len(result.left) - result.differing
    words = f"{counted(result.users, 'user')} in {result.seconds:g} s, {result.differing:,} differ"
    words += f", {unseen:,} could not be seen whole" if unseen else ""
    lines.append(words + (f", {len(result.unknown):,} not there" if result.unknown else ""))
    mended = sum(each.remedy is Remedy.LOOK for each in result.left)
    if options.repair and options.dry_run:
        lines.append(f"with --repair alone, {counted(len(result.sent), 'user')} would be sent to the daemon")
    elif mended and not options.repair:
        lines.append(f"`peruserd audit --repair` lets the running daemon repair {mended:,} of them")
    elif mended:
        users = counted(mended, "user")
        lines.append(f"{users} not repaired in time; the daemon's log and `peruserd plan` may say why")
    return "\n".join(lines)
