"""The duration of a pure function of milliseconds: it is called repeatedly in this process, and every call is kept.

The question is whether a decision takes one millisecond or fifty in a process that lives for weeks. So the garbage
collector is on, as in the daemon, and the median counts. The many processes of pyperf would level out effects of a few
per cent (hash seeds, memory layout), which do not matter here.
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Final

import msgspec

from bench.results import spread

_WARM_UP: Final = 2


class Timing(msgspec.Struct, frozen=True):
    """The duration of each call, in milliseconds, in the order of the calls."""

    milliseconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Return the middle one, in milliseconds."""
        return median(self.milliseconds)

    def __str__(self) -> str:
        return spread(self.milliseconds, "{:.2f}")


def timed(function: Callable[[], object], repeats: int) -> Timing:
    """Call a function so many times and return how long each call took. The first few calls are not counted."""
    for _ in range(_WARM_UP):
        function()
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        taken.append((time.perf_counter() - begin) * 1e3)
    return Timing(tuple(taken))
