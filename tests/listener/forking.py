"""Listeners as processes whose output is that of the test.

A fork server's children write to where that of the first test went; those here are told where to write to instead.
"""

import os
from collections.abc import Callable
from typing import Any, Final

from multiprocess import reduction

from peruserd.listener import process
from peruserd.supervisor import forkserver

_OUTPUTS: Final = (1, 2)

# Tests wait for what a reader says when its patience is over.
_READER_PATIENCE_SECONDS: Final = 1.0


class _Descriptor:
    """A descriptor of this process, which a child has under another number once it has been sent there."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __reduce__(self) -> tuple[Callable[[Any], int], tuple[Any]]:
        return _received, (reduction.DupFd(self._number),)


def forked_listener(start: bytes, pipe: Any) -> Any:
    """Return the process of a listener, to be started; it comes from the fork server, as the supervisor's do."""
    outputs = [_Descriptor(number) for number in _OUTPUTS]
    return forkserver.CONTEXT.Process(target=_run, args=(start, pipe, outputs), daemon=True)


def _received(sent: Any) -> int:
    number: int = sent.detach()
    return number


def _run(start: bytes, pipe: Any, outputs: list[int]) -> None:
    for given, number in zip(outputs, _OUTPUTS, strict=True):
        os.dup2(given, number)
        os.close(given)
    # Of this process alone, which ends with the listener.
    setattr(process, "_READER_PATIENCE_SECONDS", _READER_PATIENCE_SECONDS)  # noqa: B010 - a constant for everybody else
    process.main(start, pipe)
