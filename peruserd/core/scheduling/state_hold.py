"""The hold of a listener while its state cannot be written, as on a full disk.

No work is given out meanwhile, not even a trial: each act begins with a note on disk. A test write is made with growing
pauses, and the first one that succeeds ends the hold. Pure: times are of the caller's monotonic clock, in seconds.
"""

from typing import Final

import msgspec

from peruserd.core.common.backoff import Backoff

KIND: Final = "state"
"""The kind of such a hold, beside the kinds of failures of the cluster."""

_PAUSES: Final = Backoff(initial_seconds=1.0, max_seconds=15.0)

# A disk that is nearly full takes one write and not the next. A hold that begins so soon after another one is the same
# trouble, and its pauses go on to grow.
_SAME_SECONDS: Final = 60.0


class StateHold(msgspec.Struct, frozen=True):
    """Whether the state can be written: `why` says why not, and is None while it can.

    - `since`: when the trouble began. `ended_at`: when the last hold ended.
    - `failures`: how many test writes in a row have failed, with the write that began the hold.
    - `try_at`: when the next test write is due.
    """

    why: str | None = None
    since: float = 0.0
    ended_at: float = float("-inf")
    failures: int = 0
    try_at: float = 0.0

    @property
    def is_new(self) -> bool:
        """Say whether the trouble has just begun, so that it must be reported."""
        return self.failures == 1

    def failed(self, why: str, now: float) -> "StateHold":
        """Return the hold after a write that failed. One that was under way when the hold began changes nothing."""
        if self.why is not None and now < self.try_at:
            return self
        is_same = self.why is not None or now - self.ended_at < _SAME_SECONDS
        failures = self.failures + 1 if is_same else 1
        since = self.since if is_same else now
        return StateHold(why, since, self.ended_at, failures, now + _PAUSES.bound(failures))

    def written(self, now: float) -> "StateHold":
        """Return the state after a test write that succeeded."""
        return StateHold(None, self.since, now, self.failures)
