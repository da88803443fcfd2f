"""`peruserd quarantine`: the users whom this node's instance could not serve, and what an operator does about them."""

import argparse
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from peruserd.cli.loading import complain, load_file
from peruserd.cli.ordering import NotTakenError, answers
from peruserd.cli.parser import EXIT_CONFIGURATION, EXIT_DONE, EXIT_LATER, EXIT_NOT_DONE, EXIT_USAGE
from peruserd.core import control
from peruserd.core.decoding import ConfigError
from peruserd.core.inquiries import Wish
from peruserd.core.printing import shown
from peruserd.core.quarantine import KINDS
from peruserd.daemon.state import StateDirectory

_WISHES: Final = {"list": Wish.LIST, "show": Wish.LIST, "retry": Wish.RETRY, "forget": Wish.FORGET}

_DONE: Final = {"retry": "tried now", "forget": "forgotten"}

_NOBODY: Final = "nobody is in quarantine here who was asked for"

# Work that lasts longer than this says how far it has come.
_QUIET_SECONDS: Final = 2.0


def run(options: argparse.Namespace) -> int:
    """Ask the daemon of this node; exit 1 where a user that was named is not in quarantine."""
    if options.action in _DONE and not (options.users or options.kind or options.all):
        _say(f"quarantine {options.action}: name users, or a kind with --kind, or all with --all")
        return EXIT_USAGE
    if options.users and getattr(options, "all", False):
        _say(f"quarantine {options.action}: name users or say --all, not both")
        return EXIT_USAGE
    try:
        config = load_file(options.config).config
    except ConfigError as error:
        complain(error)
        return EXIT_CONFIGURATION
    return _Asking(StateDirectory.configured(config).path, options).run()


class _Asking:
    """Asks for what one command wants, and shows the answers."""

    def __init__(self, directory: Path, options: argparse.Namespace) -> None:
        self._directory = directory
        self._options = options
        self._code = EXIT_DONE
        self._found: list[control.Found] = []
        self._told = time.monotonic() + _QUIET_SECONDS

    def run(self) -> int:
        """Ask, until something fails; return the exit code."""
        for order in _orders(self._options):
            # Users found before something fails are shown all the same: part of it may have been done.
            if not self._send(order):
                break
        self._found.sort(key=lambda each: (each.kept.passing, each.kept.kind, each.user))
        if self._options.json:
            print(msgspec.json.encode(self._as_json()).decode())
        elif words := "\n".join(self._in_words(time.time())):
            print(words)
        return self._code

    def _send(self, order: control.Order) -> bool:
        try:
            for answer in answers(self._directory, order):
                if isinstance(answer, control.Done):
                    return True
                if isinstance(answer, control.Refused):
                    self._fail(shown(answer.why), EXIT_LATER if answer.again else EXIT_NOT_DONE)
                    return False
                self._take(answer)
        except NotTakenError as error:
            self._fail(str(error), error.code)
            return False
        self._fail("the daemon ended before it was done", EXIT_LATER)
        return False

    def _take(self, answer: control.Answer) -> None:
        match answer:
            case control.Found():
                self._found.append(answer)
            case control.Unknown(user, why):
                self._fail(f"{shown(user)}: {shown(why)}", EXIT_NOT_DONE)
        if time.monotonic() > self._told:
            self._told = time.monotonic() + _QUIET_SECONDS
            _say(f"{len(self._found):,} users so far")

    def _fail(self, why: str, code: int) -> None:
        _say(why)
        self._code = max(self._code, code)

    def _as_json(self) -> dict[str, Any]:
        users = [
            {"user": each.user, "listener": each.listener, **msgspec.to_builtins(each.kept)} for each in self._found
        ]
        return {"done": self._code == EXIT_DONE, "users": users}

    def _in_words(self, now: float) -> Iterator[str]:
        action = self._options.action
        if action in _DONE:
            yield from (f"{shown(each.user)}: {_DONE[action]}" for each in self._found)
            if not self._found and self._code == EXIT_DONE:
                yield _NOBODY
            return
        permanent = [each for each in self._found if not each.kept.passing]
        passing = [each for each in self._found if each.kept.passing]
        if not self._found and self._code == EXIT_DONE:
            yield _NOBODY
        for users, title in (
            (permanent, "somebody has to change something for these users"),
            (passing, "these users are tried again and again, and time may help"),
        ):
            if users:
                yield f"{len(users):,}: {title}"
                for each in users:
                    yield from _details(each, now) if action == "show" else (_line(each, now),)


def _orders(options: argparse.Namespace) -> Iterator[control.Quarantine]:
    wish, users = _WISHES[options.action], options.users
    if not users:
        yield control.Quarantine(wish, kind=options.kind)
    for begin in range(0, len(users), control.MOST_USERS):
        yield control.Quarantine(wish, tuple(users[begin : begin + control.MOST_USERS]), options.kind)


def _line(found: control.Found, now: float) -> str:
    kept = found.kept
    what = "deleted user" if kept.deleted else "user"
    times = "1 failure" if kept.failures == 1 else f"{kept.failures} failures"
    return f"  {shown(found.user)}  {kept.kind}  {what}, {times} in {_span(now - kept.since)}, {_next(found)}"


def _details(found: control.Found, now: float) -> Iterator[str]:
    kept = found.kept
    yield f"  {shown(found.user)}"
    details = {
        "document": shown(kept.document) + (", deleted" if kept.deleted else ""),
        "kind": f"{kept.kind}: {KINDS.get(kept.kind, 'another version of peruserd knows more')}",
        "error": shown(kept.error),
        "failures": f"{kept.failures}, the first one {_when(kept.since)} ({_span(now - kept.since)} ago)",
        "next try": _next(found),
        "advice": _ADVICE.get(kept.advice, kept.advice),
        "waits for": ", ".join(map(shown, kept.waits_for)),
        "listener": shown(found.listener),
    }
    yield from (f"    {name:<9} {text}" for name, text in details.items() if text)


_ADVICE: Final = {
    "retry": "none is needed: the same again, later, can succeed",
    "ask_operator": "change what the error names, then `peruserd quarantine retry`",
    "give_up": "nothing but another change of the user document helps",
}


def _next(found: control.Found) -> str:
    seconds = found.kept.next_try_in
    if seconds is None:
        return "tried now, or not before the user document changes"
    return "tried now" if seconds < 1 else f"tried again in {_span(seconds)}"


def _when(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0.0):.0f} s"


def _say(words: str) -> None:
    print(f"peruserd: {words}", file=sys.stderr, flush=True)
