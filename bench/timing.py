"""Timing a pure function of milliseconds: repeated calls in this process, every duration kept.

pyperf would add processes of their own, for effects of a few per cent (hash seeds, memory layout). The question here is
whether a decision takes one millisecond or fifty, in a process that goes on to live for weeks. So it is called
repeatedly, with the garbage collector on as in the daemon, and the median counts.
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Final

import msgspec

_WARM_UP: Final = 2


class Timing(msgspec.Struct, frozen=True):
    """The duration of each call, in milliseconds, in the order of the calls."""

    milliseconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Return the middle one, in milliseconds."""
        return median(self.milliseconds)

    def __str__(self) -> str:
        return f"{self.median:.2f} ({min(self.milliseconds):.2f}–{max(self.milliseconds):.2f})"  # noqa: RUF001


def timed(function: Callable[[], object], repeats: int) -> Timing:
    """Call a function again and again and return how long each call took, the first few not counted."""
    for _ in range(_WARM_UP):
        function()
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        taken.append((time.perf_counter() - begin) * 1e3)
    return Timing(tuple(taken))
