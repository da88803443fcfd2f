"""`peruserd quarantine`: list the users whom this node's instance could not serve, and retry or forget them."""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from peruserd.cli.config_file import load_file
from peruserd.cli.order_command import OrderCommand
from peruserd.cli.output import CommandError, error_fields, print_json, say
from peruserd.cli.parser import EXIT_DONE, EXIT_USAGE
from peruserd.core.common.escaping import counted, date, named, shown, span
from peruserd.core.processes import control
from peruserd.core.users.inquiries import QuarantineAction
from peruserd.core.users.quarantine import KINDS
from peruserd.daemon.state import StateDirectory

_ACTIONS: Final = {
    "list": QuarantineAction.LIST,
    "show": QuarantineAction.LIST,
    "retry": QuarantineAction.RETRY,
    "forget": QuarantineAction.FORGET,
}

_DONE: Final = {"retry": "tried now", "forget": "forgotten"}

_AFTER: Final = {
    "retry": "`peruserd quarantine list` shows in a moment who could not be served again",
    "forget": "peruserd does not try these again; `peruserd audit --repair --user USER` looks at one once more",
}

# More users than this who wait for copies on the same nodes are printed as one line.
_MANY: Final = 20

# Work that lasts longer than this prints its progress.
_QUIET_SECONDS: Final = 2.0


def run(options: argparse.Namespace) -> int:
    """Ask the daemon of this node; exit 1 where a named user is not in quarantine."""
    if options.action in _DONE and not (options.users or options.kind or options.all):
        words = f"quarantine {options.action}: name users, or a kind with --kind, or all with --all"
        raise CommandError(EXIT_USAGE, "usage", words)
    if options.users and getattr(options, "all", False):
        raise CommandError(EXIT_USAGE, "usage", f"quarantine {options.action}: name users or say --all, not both")
    config = load_file(options.config).config
    return _QuarantineCommand(StateDirectory.configured(config).path, options).run()


class _QuarantineCommand(OrderCommand):
    """Asks for users in quarantine."""

    def __init__(self, directory: Path, options: argparse.Namespace) -> None:
        super().__init__(directory, options)
        self._found: list[control.Found] = []
        self._next_progress = time.monotonic() + _QUIET_SECONDS

    def _print(self) -> None:
        self._found.sort(key=lambda each: (each.kept.passing, each.kept.kind, each.user))
        if self._options.json:
            print_json(self._as_json())
        elif words := "\n".join(self._in_words(time.time())):
            print(words)

    def _orders(self) -> Iterator[control.Quarantine]:
        action, kind = _ACTIONS[self._options.action], self._options.kind
        if not self._options.users:
            yield control.Quarantine(action, kind=kind)
        for part in self._parts:
            yield control.Quarantine(action, part, kind)

    def _take(self, answer: control.Answer) -> None:
        match answer:
            case control.Found():
                self._found.append(answer)
            case control.Unknown(user, why):
                self._not_found(user, why)
        if time.monotonic() > self._next_progress:
            self._next_progress = time.monotonic() + _QUIET_SECONDS
            say(f"{counted(len(self._found), 'user')} so far")

    def _as_json(self) -> dict[str, Any]:
        users = [
            {"user": each.user, "listener": each.listener, **msgspec.to_builtins(each.kept)} for each in self._found
        ]
        return {"done": self._code == EXIT_DONE, "users": users, "unknown": self._unknown, **error_fields(self._error)}

    def _in_words(self, now: float) -> Iterator[str]:
        action = self._options.action
        if action in _DONE:
            yield from (f"{named(each.user)}: {_DONE[action]}" for each in self._found)
            if self._found:
                yield _AFTER[action]
            elif self._code == EXIT_DONE:
                yield self._nobody()
            return
        permanent = [each for each in self._found if not each.kept.passing]
        passing = [each for each in self._found if each.kept.passing]
        if not self._found and self._code == EXIT_DONE:
            yield self._nobody()
        for users, title in (
            (permanent, "somebody has to change something for these users"),
            (passing, "these users are tried again and again, and time may help"),
        ):
            if users:
                yield f"{len(users):,}: {title}"
                yield from (
                    (line for each in users for line in _details(each, now)) if action == "show" else _lines(users, now)
                )

    def _nobody(self) -> str:
        kind = self._options.kind
        return "nobody is in quarantine here" + (f" for the reason {kind}" if kind else "")


def _lines(users: list[control.Found], now: float) -> Iterator[str]:
    """Return a line for each user; many users who wait for copies on the same nodes get one line together."""
    together: dict[tuple[str, tuple[str, ...]], list[control.Found]] = {}
    for each in users:
        if each.kept.waits_for:
            together.setdefault((each.kept.kind, each.kept.waits_for), []).append(each)
    many = {key: found for key, found in together.items() if len(found) > _MANY}
    for (kind, nodes), found in many.items():
        since = min(each.kept.since for each in found)
        names = ", ".join(map(shown, nodes))
        yield (
            f"  {len(found):,} users  {kind}  wait for copies on {names}, which cannot be read, the first for "
            f"{span(now - since)}; when one is served, others are tried (`quarantine show` lists all)"
        )
    yield from (_line(each, now) for each in users if (each.kept.kind, each.kept.waits_for) not in many)


def _line(found: control.Found, now: float) -> str:
    kept = found.kept
    what = "deleted user" if kept.deleted else "user"
    times = counted(kept.failures, "failure")
    return f"  {named(found.user)}  {shown(kept.kind)}  {what}, {times} in {span(now - kept.since)}, {_next(found)}"


def _details(found: control.Found, now: float) -> Iterator[str]:
    kept = found.kept
    yield f"  {named(found.user)}"
    details = {
        "document": shown(kept.document) + (", deleted" if kept.deleted else ""),
        "kind": f"{kept.kind}: {KINDS.get(kept.kind, 'a kind of another version of peruserd')}",
        "error": shown(kept.error),
        "failures": f"{kept.failures}, the first one {date(kept.since)} ({span(now - kept.since)} ago)",
        "next try": _next(found),
        "advice": _ADVICE_BY_KIND.get(kept.kind) or _ADVICE.get(kept.advice, kept.advice),
        "waits for": ", ".join(map(shown, kept.waits_for)),
        "listener": shown(found.listener),
    }
    yield from (f"    {name:<9} {text}" for name, text in details.items() if text)


_ADVICE: Final = {
    "retry": "none is needed: a later try can succeed",
    "ask_operator": "change what the error names, then `peruserd quarantine retry`",
    "give_up": "only another change of the user document helps",
}
# What a look at the user does only at the operator's word.
_ADVICE_BY_KIND: Final = {"database_deleted": "`peruserd audit --repair --user` makes the database again"}


def _next(found: control.Found) -> str:
    seconds = found.kept.next_try_in
    if seconds is None and found.kept.kind in _ADVICE_BY_KIND:
        return "waits for the operator's word"
    if seconds is None:
        return "tried now, or not before the user document changes"
    return "tried now" if seconds < 1 else f"tried again in {span(seconds)}"
