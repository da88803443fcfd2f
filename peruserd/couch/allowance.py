"""The time limit of a whole answer, from the sending of the request to the last byte.

The time-out of a socket counts from one byte to the next. A proxy that sends a byte every few seconds would hold a
thread for ever, together with the user for whom the thread works. So the connections of this package read through an
`AllowedReader`. It limits the whole answer, also if the bytes trickle in its head or after its body.
"""

import io
import socket
import time
from collections.abc import Callable
from http.client import HTTPResponse
from typing import Any, Final, cast

from peruserd import threads
from peruserd.couch.errors import TimedOutError

# A large answer over a slow line is legitimate, so this many bytes extend the limit by a second.
BYTES_A_SECOND: Final = 262_144


class Allowance:
    """The time for one answer: `seconds`, and a second more for each `BYTES_A_SECOND` received.

    Only `limit_bytes` count, because bytes beyond them are not read. `clock` is monotonic.
    """

    def __init__(
        self, named: str, seconds: float, limit_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._named = named
        self._seconds = seconds
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._begun_at = clock()
        self._received = 0

    def left(self) -> float:
        """Return how many seconds are left; raises TimedOutError if none are."""
        allowed = self._allowed()
        left = self._begun_at + allowed - self._clock()
        if left <= 0:
            raise TimedOutError(f"{self._named}: the answer did not come to its end within {allowed:.0f} s")
        return left

    def received(self, count: int) -> None:
        """Count received bytes. They are a sign of life of the thread; the next one comes before the time is over."""
        self._received += count
        threads.beat(self._begun_at + self._allowed() - self._clock())

    def _allowed(self) -> float:
        return self._seconds + min(self._received, self._limit_bytes) / BYTES_A_SECOND


class AllowedReader(io.RawIOBase):
    """Reads from a socket, as long as an allowance lasts."""

    def __init__(self, sock: socket.socket, allowance: Allowance) -> None:
        super().__init__()
        self._sock = sock
        # This file keeps the socket open until the answer is read.
        self._raw = cast("io.RawIOBase", sock.makefile("rb", buffering=0))
        self._allowance = allowance

    def readable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor of the socket."""
        return self._raw.fileno()

    def readinto(self, buffer: Any) -> int | None:
        """Receive bytes, or wait for some; raises TimedOutError once the allowance is used up."""
        left, patience = self._allowance.left(), self._sock.gettimeout()
        if patience is None or left < patience:
            count = self._read_within(left, patience, buffer)
        else:
            count = self._raw.readinto(buffer)
        self._allowance.received(count or 0)
        return count

    def _read_within(self, left: float, patience: float | None, buffer: Any) -> int | None:
        self._sock.settimeout(left)
        try:
            return self._raw.readinto(buffer)
        except TimeoutError:
            self._allowance.left()
            raise
        finally:
            self._sock.settimeout(patience)

    def close(self) -> None:
        """Release the socket."""
        self._raw.close()
        super().close()


class AllowedSocket:
    """A stand-in for a socket. The parser of answers only calls its `makefile`."""

    def __init__(self, sock: socket.socket, allowance: Allowance) -> None:
        self._sock = sock
        self._allowance = allowance

    def makefile(self, *_arguments: Any, **_options: Any) -> io.BufferedReader:
        """Return a file that reads within the allowance."""
        return io.BufferedReader(AllowedReader(self._sock, self._allowance))


def response_class(current: Callable[[], Allowance]) -> type[HTTPResponse]:
    """Return a class of answers. Each answer is read within the allowance that `current` returns when it begins."""

    class AllowedResponse(HTTPResponse):
        def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
            super().__init__(cast("socket.socket", AllowedSocket(sock, current())), *arguments, **options)

    return AllowedResponse
