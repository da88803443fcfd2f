"""Listeners as processes whose output is that of the test.

Children of a fork server write to the output of the first test that used it. These children get the output of their own
test instead.
"""

import os
from collections.abc import Callable
from typing import Any, Final

from multiprocess import reduction

from peruserd.listener import listener, process
from peruserd.supervisor import forkserver
from tests import sabotage
from tests.forking import hurry

_OUTPUTS: Final = (1, 2)

# Tests wait until a reader reports at the end of its patience.
_READER_PATIENCE_SECONDS: Final = 1.0


class _Descriptor:
    """A descriptor of this process; when it is sent to a child, the child gets it under another number."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __reduce__(self) -> tuple[Callable[[Any], int], tuple[Any]]:
        return _received, (reduction.DupFd(self._number),)


def forked_listener(start: bytes, pipe: Any, orders: str | None = None) -> Any:
    """Return the process of a listener, not yet started; like the supervisor's it comes from the fork server.

    `orders` are for a saboteur in the process.
    """
    outputs = [_Descriptor(number) for number in _OUTPUTS]
    return forkserver.CONTEXT.Process(target=_run, args=(start, pipe, outputs, orders), daemon=True)


def _received(sent: Any) -> int:
    number: int = sent.detach()
    return number


def _run(start: bytes, pipe: Any, outputs: list[int], orders: str | None) -> None:
    for given, number in zip(outputs, _OUTPUTS, strict=True):
        os.dup2(given, number)
        os.close(given)
    # The constant changes only in this process, and the process ends with the listener.
    assert hasattr(listener, "_READER_PATIENCE_SECONDS"), "the constant has moved"
    setattr(listener, "_READER_PATIENCE_SECONDS", _READER_PATIENCE_SECONDS)  # noqa: B010 - constant for everybody else
    hurry(imported=True)
    if orders is not None:
        sabotage.listen(orders)
    process.main(start, pipe)
