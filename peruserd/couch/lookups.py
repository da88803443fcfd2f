"""Look-ups of hosts that end in time. The system's own call can wait for minutes, and nothing can interrupt it.

Name servers that do not answer are asked several times, one after the other, for each name of a search list. So a
thread of its own makes the call, and whoever needs the answer waits for as long as it wants to.
"""

import errno
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

# A late answer is kept this long for the next one who asks. Otherwise slow name servers would never help anybody.
_KEPT_SECONDS: Final = 60.0

Addresses = list[tuple[Any, ...]]
"""The addresses of a host, as `socket.getaddrinfo` returns them."""


class LookupTimedOutError(socket.gaierror):
    """The name servers have not answered in time."""


class _Lookup:
    """One call. `ended_at` is None while it goes on."""

    def __init__(self) -> None:
        self.ended_at: float | None = None
        self.found: Addresses = []
        self.error: Exception | None = None


class Lookups:
    """The look-ups of a process; for any thread. All who ask for one host at the same time share one call."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._calls: dict[tuple[str, int], _Lookup] = {}

    def addresses(self, host: str, port: int, timeout: float | None, is_interrupted: Callable[[], bool]) -> Addresses:
        """Return the addresses of a host for connections to a port. `timeout` is in seconds; None is no limit.

        Raises the errors of the system's call, LookupTimedOutError, and ConnectionAbortedError after an interruption,
        which `wake` must announce.
        """
        # An address needs no name server, and no thread.
        with suppress(socket.gaierror):
            return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
        return self._asked(host, port, timeout, is_interrupted)

    def wake(self) -> None:
        """Wake all who wait, so that they notice an interruption."""
        with self._changed:
            self._changed.notify_all()

    def _asked(self, host: str, port: int, timeout: float | None, is_interrupted: Callable[[], bool]) -> Addresses:
        key = host, port
        with self._changed:
            call = self._begun(key)
            ended = self._changed.wait_for(lambda: call.ended_at is not None or is_interrupted(), timeout)
            if is_interrupted():
                raise ConnectionAbortedError("interrupted while a host was looked up")
            if not ended:
                raise LookupTimedOutError(socket.EAI_AGAIN, f"no name server has answered within {timeout:g} s")
            if self._calls.get(key) is call:
                del self._calls[key]
        if call.error is not None:
            # A new error for each thread, because one that is raised twice collects both tracebacks.
            raise type(call.error)(*call.error.args)
        return call.found

    def _begun(self, key: tuple[str, int]) -> _Lookup:
        """Return the call for a host that is under way or has just ended, or begin one, with the lock held."""
        known = self._calls.get(key)
        if known is not None and (known.ended_at is None or self._clock() - known.ended_at < _KEPT_SECONDS):
            return known
        call = _Lookup()
        try:
            threading.Thread(target=self._carry_out, args=(key, call), name="lookup", daemon=True).start()
        except RuntimeError as error:
            raise BlockingIOError(errno.EAGAIN, f"{key[0]} cannot be looked up: {error}") from error
        self._calls[key] = call
        return call

    def _carry_out(self, key: tuple[str, int], call: _Lookup) -> None:
        try:
            call.found = list(socket.getaddrinfo(*key, type=socket.SOCK_STREAM))
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            call.error = error
        with self._changed:
            call.ended_at = self._clock()
            self._changed.notify_all()


LOOKUPS: Final = Lookups()
"""The look-ups of this process."""
