"""The stacks of all threads on standard error, written by the interpreter itself, also while no Python code runs.

Standard error can be closed. Then the stacks are lost, and what they were to accompany happens all the same.
"""

import faulthandler
import os
import sys
from contextlib import suppress
from typing import TextIO

# Kept open, because the interpreter only remembers its descriptor.
_nowhere: list[TextIO] = []


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
    """Return standard error, or what takes its place if it is closed."""
    # A closed stream raises ValueError, and one in memory OSError.
    with suppress(OSError, ValueError):
        if sys.stderr is not None:
            sys.stderr.fileno()
            return sys.stderr
    if not _nowhere:
        _nowhere.append(open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - as long as the process
    return _nowhere[0]
