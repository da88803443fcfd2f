"""The stacks of all threads on standard error, written by the interpreter itself, also while no Python code runs.

Standard error can be closed, or a pipe that nobody reads. Then the stacks are lost, and what they were to accompany
happens all the same.
"""

import faulthandler
import os
import stat
import sys
from contextlib import suppress
from typing import TextIO

# Files are kept open, because the interpreter only remembers their descriptors.
_nowhere: list[TextIO] = []
_pipes: dict[tuple[int, int], TextIO] = {}


def enable() -> None:
    """Write the stacks after a fatal signal, such as SIGABRT."""
    faulthandler.enable(_place())


def dump() -> None:
    """Write the stacks now."""
    with suppress(OSError, ValueError):
        faulthandler.dump_traceback(_place())


def end_later(seconds: float) -> None:
    """Write the stacks after so many seconds, and end the process with 1, if it has not ended by then."""
    faulthandler.dump_traceback_later(seconds, file=_place(), exit=True)


def _place() -> TextIO:
    """Return standard error, or what takes its place if it is closed or a pipe."""
    # A closed stream raises ValueError, and one in memory OSError.
    with suppress(OSError, ValueError):
        if sys.stderr is not None:
            found = os.fstat(sys.stderr.fileno())
            return _without_waiting(found) if stat.S_ISFIFO(found.st_mode) else sys.stderr
    if not _nowhere:
        _nowhere.append(open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - as long as the process
    return _nowhere[0]


def _without_waiting(pipe: os.stat_result) -> TextIO:
    """Return a stream to the pipe of standard error that loses what the full pipe cannot take.

    The pipe is opened once more, because other processes that write to it may rely on waiting.
    """
    key = (pipe.st_dev, pipe.st_ino)
    if key not in _pipes:
        path = f"/proc/self/fd/{sys.stderr.fileno()}"
        # Without a reader, and for a pipe of another account, this is refused. The pipe can still be written as it is.
        with suppress(OSError):
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            _pipes[key] = open(descriptor, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - as long as the process
    return _pipes.get(key, sys.stderr)
