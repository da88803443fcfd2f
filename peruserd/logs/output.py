"""Standard error as the place of the log: each line is one write, and nothing that happens to it ends the program.

All processes of an instance share it. It can be closed, full, or a pipe that nobody reads. Lines that cannot be written
are lost. Their number is said once a line can be written again.
"""

import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TextIO

# A reader that is alive makes room in this time. One that is not must hold up no thread again and again.
_PATIENCE_SECONDS: Final = 0.5


class Output:
    """A stream for lines. Any thread may call.

    It writes to the stream's descriptor, because Python's own buffer would keep what could not be written. Then the end
    of the program would fail.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._descriptor = _descriptor_of(stream)
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._lost = 0
        self.after_fork()

    def after_fork(self) -> None:
        """Forget who held the lock, because no other thread is in a process that was just forked."""
        # The same thread can come twice: Python runs the ends of objects anywhere, and they can fail.
        self._lock = threading.RLock()

    @property
    def is_terminal(self) -> bool:
        """Say whether people read the lines as they come."""
        return self._descriptor is not None and os.isatty(self._descriptor)

    def write_line(self, line: str, say_lost: Callable[[int], str]) -> bool:
        """Write a line, or lose it; return whether it was written.

        `say_lost` makes the line that is written first if earlier ones were lost, of their number.
        """
        with self._lock:
            if self._lost and not self._write(say_lost(self._lost)):
                self._lost += 1
                return False
            self._lost = 0
            self._lost += not self._write(line)
            return not self._lost

    def _write(self, line: str) -> bool:
        text = f"{line}\n"
        # A closed stream raises ValueError.
        with suppress(OSError, ValueError):
            if self._descriptor is not None:
                return self._write_to(self._descriptor, text.encode(self._encoding, "backslashreplace"))
            if self._stream is not None:
                self._stream.write(text)
                self._stream.flush()
                return True
        return False

    def _write_to(self, descriptor: int, content: bytes) -> bool:
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        if not poll.poll(0.0 if self._lost else _PATIENCE_SECONDS * 1_000):
            return False
        while content:
            content = content[os.write(descriptor, content) :]
        return True


def _descriptor_of(stream: TextIO | None) -> int | None:
    # A stream in memory, as of a test, has no descriptor, and a closed one raises ValueError.
    with suppress(OSError, ValueError):
        if stream is not None:
            return stream.fileno()
    return None
