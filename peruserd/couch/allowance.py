"""The time that an answer may take as a whole, from the sending of the request to the last byte.

The time-out of a socket runs between two bytes. A proxy that sends a byte every few seconds would hold a thread for
ever, and with it the user whom that thread works for. So the connections of this package read through an
`AllowedReader`. It bounds the whole wherever in the answer the bytes trickle: in its head, in its body or behind it.
"""

import io
import socket
import time
from collections.abc import Callable
from http.client import HTTPResponse
from typing import Any, Final, cast

from peruserd.couch.errors import TimedOutError

# A large answer over a slow line is no trickle: so many bytes are worth a second more.
BYTES_A_SECOND: Final = 262_144


class Allowance:
    """The time for one answer: `seconds`, and a second more for each `BYTES_A_SECOND` that came.

    No more than `limit_bytes` count, because what comes beyond them is not read; `clock` is a monotonic one.
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
        """Return how many seconds are left; raises TimedOutError where there are none."""
        allowed = self._seconds + min(self._received, self._limit_bytes) / BYTES_A_SECOND
        left = self._begun_at + allowed - self._clock()
        if left <= 0:
            raise TimedOutError(f"{self._named}: the answer did not come to its end within {allowed:.0f} s")
        return left

    def received(self, count: int) -> None:
        """Take note of bytes that came."""
        self._received += count


class AllowedReader(io.RawIOBase):
    """The bytes that a socket receives, as long as an allowance lasts."""

    def __init__(self, sock: socket.socket, allowance: Allowance) -> None:
        super().__init__()
        self._sock = sock
        # It counts as a user of the socket, so that the socket is not closed before the answer is read.
        self._raw = cast("io.RawIOBase", sock.makefile("rb", buffering=0))
        self._allowance = allowance

    def readable(self) -> bool:
        """Say that it is for reading."""
        return True

    def fileno(self) -> int:
        """Return the descriptor of the socket."""
        return self._raw.fileno()

    def readinto(self, buffer: Any) -> int | None:
        """Receive what is there, or wait for it; raises TimedOutError where the allowance is used up."""
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
        """Give the socket back."""
        self._raw.close()
        super().close()


class AllowedSocket:
    """A socket for the parser of answers, which makes a file of it."""

    def __init__(self, sock: socket.socket, allowance: Allowance) -> None:
        self._sock = sock
        self._allowance = allowance

    def makefile(self, *_arguments: Any, **_options: Any) -> io.BufferedReader:
        """Return a file of what it receives."""
        return io.BufferedReader(AllowedReader(self._sock, self._allowance))


def response_class(current: Callable[[], Allowance]) -> type[HTTPResponse]:
    """Return the class of answers that are read as long as the allowance lasts that is current when they begin."""

    class AllowedResponse(HTTPResponse):
        def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
            super().__init__(cast("socket.socket", AllowedSocket(sock, current())), *arguments, **options)

    return AllowedResponse
