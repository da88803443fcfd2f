"""The quiet period: a changed view takes effect once it has stayed the same for a while.

A node that flaps would otherwise move its documents to and fro. The first view takes effect at once, because nothing is
served before it does.
"""

import msgspec

from peruserd.core.views import View


class Settling(msgspec.Struct, frozen=True):
    """The view in force, and the one that may follow it, with the moment since which it has been seen unchanged."""

    quiet_seconds: float
    settled: View | None = None
    candidate: View | None = None
    since: float = 0.0

    def see(self, view: View, now: float) -> "Settling":
        """Return what is believed after `view` was seen at `now`, by the caller's monotonic clock, in seconds."""
        if self.settled is None:
            return msgspec.structs.replace(self, settled=view, candidate=None)
        if view == self.settled:
            return msgspec.structs.replace(self, candidate=None)
        if view != self.candidate:
            return msgspec.structs.replace(self, candidate=view, since=now)
        return self

    def ripen(self, now: float) -> "Settling":
        """Return what is believed at `now`: the candidate, once its quiet period is over."""
        due = self.due
        if due is None or now < due:
            return self
        return msgspec.structs.replace(self, settled=self.candidate, candidate=None)

    @property
    def due(self) -> float | None:
        """Return when `ripen` will change something; None while nothing is to come."""
        return None if self.candidate is None else self.since + self.quiet_seconds
