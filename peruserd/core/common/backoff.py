"""How long to wait before the next try: exponential with full jitter, reset by progress.

Full jitter (a delay drawn evenly from zero to the bound) keeps many that failed together from trying together again.
The caller brings the random number, so that this stays pure.
"""

import msgspec


class Backoff(msgspec.Struct, frozen=True):
    """Bounds of a back-off, in seconds: the first delay's and every delay's."""

    initial_seconds: float
    max_seconds: float

    def bound(self, failures: int) -> float:
        """Return the longest delay after `failures` failures in a row (1 or more), in seconds."""
        # 2**60 seconds exceeds every cap; the limit keeps the power from growing without end.
        return min(self.max_seconds, self.initial_seconds * 2.0 ** min(max(failures, 1) - 1, 60))

    def delay(self, failures: int, chance: float) -> float:
        """Return the delay after `failures` failures in a row; `chance` is a random number of [0, 1)."""
        return self.bound(failures) * chance
