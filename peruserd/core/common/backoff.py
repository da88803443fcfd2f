"""The pause before the next try: exponential with full jitter, reset by progress.

With full jitter the delay is drawn evenly between zero and a bound, so that many who failed together do not try
together again. The caller gives the random number, so this module stays pure.
"""

import msgspec


class Backoff(msgspec.Struct, frozen=True):
    """The bounds of a back-off, in seconds: of the first delay, and of every delay."""

    initial_seconds: float
    max_seconds: float

    def bound(self, failures: int) -> float:
        """Return the longest delay after `failures` failures in a row (1 or more), in seconds."""
        # The exponent is limited, because the power would overflow. 2**60 seconds exceed every maximum.
        return min(self.max_seconds, self.initial_seconds * 2.0 ** min(max(failures, 1) - 1, 60))

    def delay(self, failures: int, chance: float) -> float:
        """Return the delay after `failures` failures in a row; `chance` is a random number of [0, 1)."""
        return self.bound(failures) * chance
