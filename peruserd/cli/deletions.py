"""`peruserd deletions`: what waits to be dropped, and the operator's word on it."""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from peruserd.cli.connecting import Connected, with_server
from peruserd.cli.loading import complain, load_file
from peruserd.cli.ordering import NotTakenError, answers
from peruserd.cli.parser import EXIT_CONFIGURATION, EXIT_DONE, EXIT_LATER, EXIT_NOT_DONE
from peruserd.core import control
from peruserd.core.config import Config
from peruserd.core.decoding import ConfigError
from peruserd.core.deletions import Entry, Kind, Pause, Saying, Word, most_urgent
from peruserd.core.names import user_name
from peruserd.core.printing import shown
from peruserd.couch.deletions import DeletionJournal
from peruserd.couch.errors import NotFoundError
from peruserd.couch.journal import Journal
from peruserd.daemon.state import StateDirectory

# Work that lasts longer than this says how far it has come.
_QUIET_SECONDS: Final = 2.0

_WORDS: Final = {"cancel": Word.CANCEL, "drop-now": Word.DROP_NOW, "release": Word.RELEASE}


class _Listed(msgspec.Struct, frozen=True):
    user: str
    saying: Saying
    entry: Entry


class _List(msgspec.Struct, frozen=True):
    pause: Pause
    deletions: list[_Listed]


def run(options: argparse.Namespace) -> int:
    """List what waits, or give an order to the daemon; exit 1 where nothing waits for a user that was named."""
    if options.action == "list":
        return with_server(options, lambda connected: _list(connected, options))
    try:
        config = load_file(options.config).config
    except ConfigError as error:
        complain(error)
        return EXIT_CONFIGURATION
    return _Ordering(config, options).run()


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
        print(f"peruserd: there is no database {journal.database} yet: no deletion was ever noted", file=sys.stderr)
        pause, found = Pause(), []
    if options.json:
        print(msgspec.json.encode(_List(pause, found)).decode())
    else:
        print(_in_words(pause, found, time.time()))
    return EXIT_DONE


def _counted(entries: Iterable[Entry]) -> Iterator[Entry]:
    told = time.monotonic() + _QUIET_SECONDS
    for number, entry in enumerate(entries):
        if time.monotonic() > told:
            _say(f"{number:,} entries read")
            told = time.monotonic() + _QUIET_SECONDS
        yield entry


def _in_words(pause: Pause, listed: list[_Listed], now: float) -> str:
    lines = []
    if pause.paused:
        waiting = [each for each in listed if each.entry.is_open and each.entry.kind is Kind.DELETION]
        overdue = [now - each.entry.due_at for each in waiting if each.entry.due_at <= now]
        oldest = f", {len(overdue)} of them overdue, the oldest by {_span(max(overdue))}" if overdue else ""
        lines.append(f"all drops are paused ({pause.why.value}, {_when(pause.at)}): {len(waiting)} wait{oldest}")
    if not listed:
        return "\n".join([*lines, "nothing waits"])
    return "\n".join([*lines, *(_line(each, now) for each in listed)])


def _line(listed: _Listed, now: float) -> str:
    entry, saying = listed.entry, listed.saying
    said = "" if saying.word is Word.NOTHING else f", said: {saying.word.value}"
    return f"{shown(listed.user)}  {shown(entry.database)}  {_state(entry, now)}{said}"


def _state(entry: Entry, now: float) -> str:
    if entry.ending is not None:
        return f"{entry.ending.value} {_when(entry.ended_at or 0.0)}"
    if entry.kind is Kind.RETURN:
        return f"came back {_when(entry.noted_at)}, kept shut"
    if entry.due_at > now:
        return f"deleted {_when(entry.noted_at)}, due in {_span(entry.due_at - now)}"
    return f"deleted {_when(entry.noted_at)}, due {_span(now - entry.due_at)} ago"


def _when(moment: float) -> str:
    try:
        return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        # The journal can hold whatever somebody wrote there.
        return "at no time"


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


# Orders


class _Ordering:
    """Sends the orders that one command makes, and shows the answers."""

    def __init__(self, config: Config, options: argparse.Namespace) -> None:
        self._directory = StateDirectory.configured(config).path
        self._options = options
        self._began = time.monotonic()
        self._code = EXIT_DONE
        self._noted: list[dict[str, Any]] = []

    def run(self) -> int:
        """Send them all, until one is refused; return the exit code."""
        for order in _orders(self._options):
            if not self._send(order):
                break
        if self._options.json:
            print(msgspec.json.encode({"done": self._code == EXIT_DONE, "noted": self._noted}).decode())
        return self._code

    def _send(self, order: control.Order) -> bool:
        try:
            for answer in answers(self._directory, order):
                if isinstance(answer, control.Done | control.Refused):
                    return self._ended(answer)
                self._show(answer)
        except NotTakenError as error:
            self._fail(str(error), error.code)
            return False
        self._fail("the daemon ended before it was done; what was noted stays noted", EXIT_LATER)
        return False

    def _ended(self, answer: control.Done | control.Refused) -> bool:
        if isinstance(answer, control.Refused):
            self._fail(shown(answer.why), EXIT_LATER if answer.again else EXIT_NOT_DONE)
            return False
        if answer.notice:
            _say(shown(answer.notice))
        return True

    def _show(self, answer: control.Answer) -> None:
        match answer:
            case control.Progress(done, total):
                if time.monotonic() - self._began > _QUIET_SECONDS:
                    _say(f"{done:,} of {total:,} users")
            case control.Noted(user, entry, database):
                self._noted.append({"user": user, "entry": entry, "database": database})
                if not self._options.json:
                    print(f"{shown(user)}: noted for {shown(database)}", flush=True)
            case control.Unknown(user, why):
                self._fail(f"{shown(user)}: {shown(why)}", EXIT_NOT_DONE)

    def _fail(self, why: str, code: int) -> None:
        _say(why)
        self._code = max(self._code, code)


def _orders(options: argparse.Namespace) -> Iterator[control.Order]:
    users: list[str] = options.users or []
    parts = [tuple(users[begin : begin + control.MOST_USERS]) for begin in range(0, len(users), control.MOST_USERS)]
    match options.action:
        case "pause" if not parts:
            yield control.PauseAll()
        case "pause":
            yield from (control.Say(Word.HOLD, part) for part in parts)
        case "resume" if not parts:
            yield control.ResumeAll()
        case "resume":
            yield from (control.ResumeOnly(part) for part in parts)
        case action:
            yield from (control.Say(_WORDS[action], part) for part in parts)


def _say(words: str) -> None:
    print(f"peruserd: {words}", file=sys.stderr, flush=True)
