"""Users sign up at a steady rate, in an open loop: each at its time, whatever happened to the users before.

User documents are written one by one, as applications write them.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import msgspec
import requests

from bench.harness.cluster import AUTH_DATABASE, Cluster, user_document
from peruserd.core.common.names import user_document_id

# The number of sign-ups that can be under way at once. While all of them are, the next one begins late, and `begun`
# shows it. At 50 sign-ups a second, each may take 0.3 s before that happens.
_THREADS: Final = 16
_TIMEOUT_SECONDS: Final = 30.0

LEAD_SECONDS: Final = 0.2
"""The time from the call to the first sign-up, in which the threads start."""


class SignUp(msgspec.Struct, frozen=True):
    """One user's sign-up, in seconds of `time.monotonic`.

    `due` is when it should begin, `begun` when it did, and `answered` when the user document was written. Where it was
    not written, or where this is not known, `answered` is None and `failure` is the reason.
    """

    number: int
    name: str
    due: float
    begun: float
    answered: float | None = None
    failure: str | None = None

    @property
    def late(self) -> float:
        """Return how many seconds too late it began."""
        return self.begun - self.due


class OpenLoop:
    """A context manager that signs these users up, `rate` a second, at these nodes (counted from 0) in turn.

    - It begins on entering, and the end of the context ends it early. `start` is when the first sign-up is due.
    - A sign-up that fails is kept as such, and stops nothing.
    - After each answer the same thread calls `then`. An error of `then` ends the loop, and `finish` raises it.
    """

    def __init__(
        self,
        cluster: Cluster,
        names: Sequence[str],
        rate: float,
        nodes: Sequence[int],
        then: Callable[[SignUp], None] | None = None,
        *,
        lead_seconds: float = LEAD_SECONDS,
    ) -> None:
        self._lead_seconds = lead_seconds
        self._cluster = cluster
        self._names = names
        self._interval = 1.0 / rate
        self._nodes = nodes
        self._then = then
        self._numbers = iter(range(len(names)))
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._runs: list[Future[list[SignUp]]] = []
        self.start = 0.0

    def __enter__(self) -> Self:
        """Begin."""
        self._pool = ThreadPoolExecutor(_THREADS)
        self.start = time.monotonic() + self._lead_seconds
        self._runs = [self._pool.submit(self._guarded) for _ in range(_THREADS)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Begin no more sign-ups, and wait for those under way."""
        self._stopping.set()
        self._pool.shutdown()

    def stop(self) -> None:
        """Begin no more sign-ups."""
        self._stopping.set()

    def finish(self) -> list[SignUp]:
        """Wait for the last sign-up; return all of them in their order."""
        return sorted((each for run in self._runs for each in run.result()), key=lambda each: each.number)

    def _guarded(self) -> list[SignUp]:
        try:
            return self._work()
        except BaseException:
            self._stopping.set()
            raise

    def _work(self) -> list[SignUp]:
        done = []
        with self._cluster.another_session() as http:
            while (number := self._next()) is not None:
                due = self.start + number * self._interval
                if self._stopping.wait(max(0.0, due - time.monotonic())):
                    break
                signed_up = self._sign_up(http, number, due)
                done.append(signed_up)
                if self._then is not None and signed_up.answered is not None:
                    self._then(signed_up)
        return done

    def _next(self) -> int | None:
        with self._lock:
            return next(self._numbers, None)

    def _sign_up(self, http: requests.Session, number: int, due: float) -> SignUp:
        name = self._names[number]
        node = self._cluster.urls[self._nodes[number % len(self._nodes)]]
        path = f"{node}/{AUTH_DATABASE}/{quote(user_document_id(name), safe='')}"
        begun = time.monotonic()
        try:
            answer = http.put(path, json=user_document(name), timeout=_TIMEOUT_SECONDS)
        except requests.RequestException as error:
            return SignUp(number, name, due, begun, failure=str(error))
        now = time.monotonic()
        if answer.status_code not in (201, 202):
            return SignUp(number, name, due, begun, failure=f"{answer.status_code} {answer.text[:200]}")
        return SignUp(number, name, due, begun, answered=now)


def sign_up_at(
    cluster: Cluster,
    names: Sequence[str],
    rate: float,
    nodes: Sequence[int],
    then: Callable[[SignUp], None] | None = None,
    *,
    lead_seconds: float = LEAD_SECONDS,
) -> list[SignUp]:
    """Sign these users up as OpenLoop does; return after the last sign-up."""
    with OpenLoop(cluster, names, rate, nodes, then, lead_seconds=lead_seconds) as loop:
        return loop.finish()
