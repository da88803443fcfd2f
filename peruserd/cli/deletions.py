"""`peruserd deletions`: list the databases that wait to be dropped, and give orders about them."""

import argparse
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from peruserd.cli.config_file import load_file
from peruserd.cli.connecting import Connected, with_server
from peruserd.cli.order_command import OrderCommand
from peruserd.cli.output import error_fields, print_json, say
from peruserd.cli.parser import EXIT_DONE
from peruserd.core.common.escaping import argument, counted, date, named, shown, span
from peruserd.core.common.names import advice_on_id, user_name
from peruserd.core.configuration.config import Config
from peruserd.core.deletions.journal import Entry, Kind, Pause, Saying, Word, most_urgent
from peruserd.core.processes import control
from peruserd.couch.deletions import DeletionJournal
from peruserd.couch.errors import NotFoundError
from peruserd.couch.journal import Journal
from peruserd.daemon.state import StateDirectory

# Work that lasts longer than this prints its progress.
_QUIET_SECONDS: Final = 2.0

_WORDS: Final = {"cancel": Word.CANCEL, "drop-now": Word.DROP_NOW, "release": Word.RELEASE}


class _Listed(msgspec.Struct, frozen=True):
    user: str
    saying: Saying
    entry: Entry


class _Unknown(msgspec.Struct, frozen=True, omit_defaults=True):
    """A named user without an entry; `hint` says which user was probably meant, where the name looks like an id."""

    user: str
    reason: str
    hint: str | None = None


class _List(msgspec.Struct, frozen=True):
    pause: Pause
    deletions: list[_Listed]
    unknown: list[_Unknown]


def run(options: argparse.Namespace) -> int:
    """List the entries, or give an order to the daemon; exit 1 where a named user has no entry."""
    if options.action == "list":
        return with_server(options, lambda connected: _list(connected, options))
    config = load_file(options.config).config
    return _DeletionCommand(config, options).run()


# Listing


def _list(connected: Connected, options: argparse.Namespace) -> int:
    journal = DeletionJournal(Journal(connected.client.session, connected.config.cluster.database))
    try:
        pause, sayings = journal.pause(), journal.sayings()
        found = [
            _Listed(user_name(entry.document) or "", sayings.get(entry.id, Saying()), entry)
            for entry in most_urgent(_counted(entry for kind in Kind for entry in journal.entries(kind)))
            if (options.all or entry.is_open) and (not options.users or user_name(entry.document) in options.users)
        ]
    except NotFoundError as error:
        if not error.is_of_database:
            raise
        say(f"there is no database {journal.database} yet: no deletion was ever noted")
        pause, found = Pause(), []
    unknown = _unknown(options, found)
    for each in unknown:
        say(f"{named(each.user)}: {each.reason}" + (f"; {each.hint}" if each.hint else ""))
    if options.json:
        print_json(_List(pause, found, unknown))
    else:
        print(_in_words(pause, found, time.time()))
    return EXIT_DONE


def _unknown(options: argparse.Namespace, found: Iterable[_Listed]) -> list[_Unknown]:
    reason = "nothing was ever noted" if options.all else "nothing waits"
    listed = {each.user for each in found}
    return [_Unknown(each, reason, advice_on_id(each)) for each in dict.fromkeys(options.users) if each not in listed]


def _counted(entries: Iterable[Entry]) -> Iterator[Entry]:
    next_progress = time.monotonic() + _QUIET_SECONDS
    for number, entry in enumerate(entries):
        if time.monotonic() > next_progress:
            say(f"{counted(number, 'entry', 'entries')} read")
            next_progress = time.monotonic() + _QUIET_SECONDS
        yield entry


def _in_words(pause: Pause, listed: list[_Listed], now: float) -> str:
    lines = []
    if pause.paused:
        waiting = [each for each in listed if each.entry.is_open and each.entry.kind is Kind.DELETION]
        overdue = [now - each.entry.due_at for each in waiting if each.entry.due_at <= now]
        oldest = f", {len(overdue)} of them overdue, the oldest by {span(max(overdue))}" if overdue else ""
        lines.append(f"all drops are paused ({pause.why.value}, {date(pause.at)}): {len(waiting)} wait{oldest}")
    if not listed:
        return "\n".join([*lines, "nothing waits"])
    return "\n".join([*lines, *(_line(each, now) for each in listed)])


def _line(listed: _Listed, now: float) -> str:
    entry, saying = listed.entry, listed.saying
    said = "" if saying.word is Word.NOTHING else f", said: {saying.word.value}"
    return f"{shown(listed.user)}  {shown(entry.database)}  {_state(entry, now)}{said}"


def _state(entry: Entry, now: float) -> str:
    if entry.ending is not None:
        return f"{entry.ending.value} {date(entry.ended_at or 0.0)}"
    if entry.kind is Kind.RETURN:
        return f"came back {date(entry.noted_at)}, kept shut"
    if entry.due_at > now:
        return f"deleted {date(entry.noted_at)}, due in {span(entry.due_at - now)}"
    return f"deleted {date(entry.noted_at)}, due {span(now - entry.due_at)} ago"


# Orders


class _After(msgspec.Struct, frozen=True):
    """The sentence printed after an order was taken, and the command that undoes it, if there is one."""

    words: str
    undo: str | None = None


_AFTER: Final = {
    "cancel": _After(
        "these databases stay for good, and their users stay without access; within seconds that is final, and a "
        "database can then only be deleted by hand"
    ),
    "drop-now": _After("these databases are deleted within seconds, and what is in them is lost"),
    "release": _After(
        "these users are let in within seconds, to all that is in the database; to shut one out again, delete the user "
        "document"
    ),
    "pause": _After("none of these databases is deleted until `{undo}`", "peruserd deletions resume --only {user}"),
    "resume": _After(
        "these deletions go on in spite of any pause; `{undo}` holds them again", "peruserd deletions pause {user}"
    ),
}

_AFTER_ALL: Final = {
    "pause": _After(
        "paused: no instance of the cluster deletes a database until `{undo}`", "peruserd deletions resume"
    ),
    "resume": _After(
        "resumed: databases are deleted again as they fall due; `{undo}` stops that", "peruserd deletions pause"
    ),
}


class _DeletionCommand(OrderCommand):
    """Gives orders about deletions."""

    def __init__(self, config: Config, options: argparse.Namespace) -> None:
        super().__init__(StateDirectory.configured(config).path, options)
        self._began = time.monotonic()
        self._noted: list[dict[str, Any]] = []

    def _print(self) -> None:
        after = self._after()
        if self._options.json:
            print_json(self._as_json(after))
        elif after is not None:
            print(after.words.format(undo=after.undo))

    def _orders(self) -> Iterator[control.Order]:
        match self._options.action:
            case "pause" if not self._options.users:
                yield control.PauseAll()
            case "pause":
                yield from (control.Say(Word.HOLD, part) for part in self._parts)
            case "resume" if not self._options.users:
                yield control.ResumeAll()
            case "resume":
                yield from (control.ResumeOnly(part) for part in self._parts)
            case action:
                yield from (control.Say(_WORDS[action], part) for part in self._parts)

    def _take(self, answer: control.Answer) -> None:
        match answer:
            case control.Progress(done, total):
                if time.monotonic() - self._began > _QUIET_SECONDS:
                    say(f"{done:,} of {counted(total, 'user')}")
            case control.Noted(user, entry, database):
                self._noted.append({"user": user, "entry": entry, "database": database})
                if not self._options.json:
                    print(f"{named(user)}: noted for {shown(database)}", flush=True)
            case control.Unknown(user, why):
                self._not_found(user, why)

    def _after(self) -> _After | None:
        """Return the sentence about the effect of the order; None where nothing was noted."""
        action = self._options.action
        if not self._options.users:
            return None if self._error is not None else _AFTER_ALL[action]
        if not self._noted:
            return None
        after = _AFTER[action]
        if after.undo is None:
            return after
        users = list(dict.fromkeys(argument(each["user"]) for each in self._noted))
        user = users[0] if len(users) == 1 else "USER…"
        return _After(after.words, after.undo.format(user=user))

    def _as_json(self, after: _After | None) -> dict[str, Any]:
        return {
            "done": self._code == EXIT_DONE,
            "action": self._options.action,
            "noted": self._noted,
            "unknown": self._unknown,
            "undo": None if after is None else after.undo,
            **error_fields(self._error),
        }
