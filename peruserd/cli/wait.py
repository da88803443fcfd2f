"""`peruserd wait`: wait until users are served.

The command asks the server itself, as `GET /users/{name}` does, so it needs no daemon on this machine. If a daemon runs
here, it is asked which users are in quarantine.
"""

import argparse
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from peruserd.cli.connecting import Connected, need_users, with_server
from peruserd.cli.local_daemon import LocalDaemon
from peruserd.cli.output import print_json
from peruserd.cli.parser import EXIT_DONE, EXIT_LATER, EXIT_NOT_DONE
from peruserd.cli.progress import Progress, announce
from peruserd.core.common.escaping import counted, harmless, named
from peruserd.core.users.readiness import Readiness, UserState, is_whole_look, pause_seconds, unservable
from peruserd.couch.errors import CouchError, RefusedError, UnauthorizedError
from peruserd.couch.readiness import ReadinessReader, open_reader
from peruserd.supervisor.attaching import attach

# Users looked at in parallel, as many as by the daemon's page.
_THREADS: Final = 4

# A shorter wait than this prints nothing about itself.
_QUIET_SECONDS: Final = 2.0

_WORDS: Final = {
    UserState.SERVED: "served",
    UserState.IN_PROGRESS: "not served yet",
    UserState.UNKNOWN: "unknown: there is no such user document",
    UserState.QUARANTINED: "in quarantine",
    UserState.UNSERVABLE: "cannot be served",
    UserState.UNCLEAR: "not known now",
}


class _Result(msgspec.Struct, frozen=True):
    done: bool
    users: list[Readiness]


def run(options: argparse.Namespace) -> int:
    """Wait until each user is served or cannot be, or the time is over; return the exit code."""
    return with_server(options, lambda connected: _wait(connected, options), connections=_THREADS)


def _wait(connected: Connected, options: argparse.Namespace) -> int:
    need_users(connected.client, connected.config.couchdb.auth_db)
    attachment = attach(connected.client, connected.config.couchdb)
    reader = open_reader(connected.client, attachment.feed, attachment.node, connected.config)
    waiting = _Waiting(reader, LocalDaemon(connected.config.http, _THREADS), list(dict.fromkeys(options.users)))
    waiting.run(time.monotonic() + options.timeout)
    found = waiting.found()
    is_done = all(each.state is UserState.SERVED for each in found)
    if options.json:
        print_json(_Result(is_done, [*found]))
    else:
        for each in found:
            print(f"{named(each.user)}: {harmless(_in_words(each, connected.config.databases.prefix))}")
    return EXIT_DONE if is_done else _code(found)


class _Waiting:
    """Looks at users in rounds, each time only at those without a final state."""

    def __init__(self, reader: ReadinessReader, local_daemon: LocalDaemon, users: list[str]) -> None:
        self._reader = reader
        self._local_daemon = local_daemon
        self._found = {user: Readiness(user, UserState.IN_PROGRESS) for user in users}
        self._until = float("inf")

    def run(self, until: float) -> None:
        """Look until every state is final or the time is over; raises CouchError where the first look fails."""
        number = 0
        began = time.monotonic()
        self._until = until
        is_announced = False
        with (
            ThreadPoolExecutor(_THREADS, thread_name_prefix="look") as pool,
            Progress("users known, waiting for the others", len(self._found)) as progress,
        ):
            while waiting := self._waiting():
                for found in pool.map(self._look, waiting, [number] * len(waiting)):
                    self._found[found.user] = found
                    progress.advance(int(found.is_final))
                pause = min(pause_seconds(number), until - time.monotonic())
                if pause <= 0:
                    return
                if not is_announced and (left := len(self._waiting())) and time.monotonic() - began > _QUIET_SECONDS:
                    is_announced = True
                    announce(f"waiting for {counted(left, 'user')}, up to {until - began:.0f} s")
                if self._waiting():
                    time.sleep(pause)
                number += 1

    def _waiting(self) -> list[str]:
        return [user for user, found in self._found.items() if not found.is_final]

    def found(self) -> list[Readiness]:
        """Return the state of each user, in the order of the command line."""
        return list(self._found.values())

    def _look(self, user: str, number: int) -> Readiness:
        if number and time.monotonic() >= self._until:
            # A round over many users can take longer than the time that is left. Each user was looked at once.
            return self._found[user]
        try:
            found = self._reader.look(user, number)
            if found is None:
                return self._found[user]
            return (found.state is UserState.IN_PROGRESS and self._local_daemon.quarantined(user)) or found
        except (RefusedError, UnauthorizedError):
            raise
        except CouchError as error:
            if number == 0:
                raise
            # The server answered at the beginning, so it may be back within the time.
            return Readiness(user, UserState.UNCLEAR, error.kind) if is_whole_look(number) else self._found[user]


def _code(found: Iterable[Readiness]) -> int:
    """Return 75 where the only trouble is that the server does not answer."""
    silent = (UserState.SERVED, UserState.UNCLEAR)
    return EXIT_LATER if all(each.state in silent for each in found) else EXIT_NOT_DONE


def _in_words(found: Readiness, prefix: str) -> str:
    why = unservable(prefix, found.user) if found.state is UserState.UNSERVABLE else found.kind
    return ": ".join([_WORDS[found.state], *([why] if why else [])]) + (f"; {found.hint}" if found.hint else "")
