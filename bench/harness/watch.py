"""The watch notes when each user was served, from outside and at little cost to the cluster.

A long poll on the first node's own list of databases tells when a database appears. Only from then on its security
object is read, until it names the user. So a user costs a few reads, and not a read every few milliseconds.
"""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import msgspec
import requests

from bench.harness.cluster import PREFIX, Cluster
from peruserd.core.common.names import database_name, decode_database_name
from peruserd.core.users.security import is_private

# Between two reads of the same security object. A latency is rounded up by this time and one read, at most.
_LOOK_SECONDS: Final = 0.005

# An unsecured database is read again after this share of the time since it appeared, so that it is no burden.
_PATIENCE: Final = 0.1

_POLL_SECONDS: Final = 1.0


class _Row(msgspec.Struct, frozen=True):
    id: str
    deleted: bool = False


class _Page(msgspec.Struct, frozen=True):
    results: list[_Row]
    last_seq: int


class _Waiting(msgspec.Struct):
    appeared: float
    next_look: float
    looked: bool = False

    @property
    def urgency(self) -> tuple[bool, float]:
        """Return the key by which the next user is chosen: the largest is looked at first.

        A user who has just appeared comes first, and the latest of these before the others. Then come the users whose
        look is longest overdue. The delay of a look counts as latency. For users who have waited long it adds little,
        even if many of them are served at once. A new user who is looked at after all of them would seem to have waited
        as long as they did.
        """
        return not self.looked, self.appeared if not self.looked else -self.next_look


class Watch:
    """A context manager that notes when users are served. `served` is by name, in seconds of `time.monotonic`.

    The watch sees every user whose database appears meanwhile. By default it reads the security objects of all of them.
    With `looked_at` it reads only those of some users; for the others `appeared` is the time when the database was
    there. `check` raises an error that its threads had.
    """

    def __init__(self, cluster: Cluster, looked_at: Callable[[str], bool] = lambda _name: True) -> None:
        self._cluster = cluster
        self._waiting: dict[str, _Waiting] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._failure: Exception | None = None
        self._looked_at = looked_at
        self.served: dict[str, float] = {}
        self.appeared: dict[str, float] = {}
        self._since = int(cluster.ask("/_node/_local/_dbs")["update_seq"])

    def __enter__(self) -> Self:
        """Begin to watch."""
        self._looking = threading.Thread(target=self._guarded, args=(self._look,), daemon=True)
        for thread in (self._looking, threading.Thread(target=self._guarded, args=(self._follow,), daemon=True)):
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Watch no more. The last long poll ends by itself within a second, and is not waited for."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._looking.join()

    def check(self) -> None:
        """Raise the error that a thread had."""
        if self._failure is not None:
            raise self._failure

    def wait_for(self, names: set[str], seconds: float) -> set[str]:
        """Wait until all of these users are served, at most so long; return the users who are not."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while (left := names - self.served.keys()) and self._failure is None:
                if not self._changed.wait(deadline - time.monotonic()):
                    break
        self.check()
        return left

    def _guarded(self, run: Callable[[], None]) -> None:
        try:
            run()
        except Exception as error:  # noqa: BLE001 - raised by `check`
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _follow(self) -> None:
        http = self._cluster.another_session()
        while not self._stopping:
            page = self._poll(http)
            if page is None:
                continue
            now = time.monotonic()
            self._since = page.last_seq
            with self._changed:
                for row in page.results:
                    name = decode_database_name(PREFIX, row.id)
                    if name is None or row.deleted or name in self.served:
                        continue
                    if self._looked_at(name):
                        self._waiting.setdefault(name, _Waiting(now, now))
                    else:
                        self.appeared.setdefault(name, now)
                self._changed.notify_all()

    def _poll(self, http: requests.Session) -> _Page | None:
        query = f"feed=longpoll&since={self._since}&timeout={int(_POLL_SECONDS * 1000)}"
        try:
            answer = http.get(f"{self._cluster.urls[0]}/_node/_local/_dbs/_changes?{query}", timeout=30.0)
            answer.raise_for_status()
        except requests.RequestException:
            # The node is busy or away for a moment. The next answer lists everything since the last one.
            time.sleep(_POLL_SECONDS / 10)
            return None
        return msgspec.json.decode(answer.content, type=_Page)

    def _look(self) -> None:
        http = self._cluster.another_session()
        while (name := self._next()) is not None:
            served = self._is_served(http, name)
            now = time.monotonic()
            with self._changed:
                if served:
                    del self._waiting[name]
                    self.served[name] = now
                    self._changed.notify_all()
                else:
                    waiting = self._waiting[name]
                    waiting.looked = True
                    waiting.next_look = now + max(_LOOK_SECONDS, _PATIENCE * (now - waiting.appeared))

    def _next(self) -> str | None:
        """Wait until the next look is due; return the name of the user, None when stopping."""
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                due = [name for name, each in self._waiting.items() if each.next_look <= now]
                if due:
                    return max(due, key=lambda name: self._waiting[name].urgency)
                next_look = min((each.next_look for each in self._waiting.values()), default=None)
                self._changed.wait(None if next_look is None else next_look - now)
            return None

    def _is_served(self, http: requests.Session, name: str) -> bool:
        try:
            answer = http.get(f"{self._cluster.urls[0]}/{database_name(PREFIX, name)}/_security", timeout=30.0)
        except requests.RequestException:
            return False
        return answer.status_code == 200 and is_private(answer.json(), name)
