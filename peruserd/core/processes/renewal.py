"""The renewal of listeners: those with an older configuration start again, one after the other.

Only one listener at a time is away, so the users of all other ranges are served meanwhile. The next one follows when
this one reads its copy. A listener that does not come back within a while must not keep the others from their
configuration, because its own trouble may be of long standing.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from peruserd.core.cluster.views import Copy

PATIENCE_SECONDS: Final = 60.0
"""The next listener follows after this time at the latest."""


class Renewal(msgspec.Struct, frozen=True):
    """The listener that was started again last, and until when the others wait for it. Times are monotonic."""

    last: Copy | None = None
    until: float = 0.0

    def next(
        self, outdated: Iterable[Copy], is_reading: Mapping[Copy, bool], now: float
    ) -> tuple["Renewal", Copy | None]:
        """Return the renewal after this moment, and the listener to start again now, if any.

        `outdated` are the listeners with an older configuration. `is_reading` says of each other listener whether its
        process reads its copy.
        """
        due = min(outdated, default=None)
        is_away = self.last is not None and not is_reading.get(self.last, True)
        if due is None or (is_away and now < self.until):
            return self, None
        return Renewal(due, now + PATIENCE_SECONDS), due

    def deadline(self, *, has_outdated: bool) -> float | None:
        """Return when `next` must be asked again, even if nothing happens."""
        return self.until if has_outdated and self.last is not None else None
