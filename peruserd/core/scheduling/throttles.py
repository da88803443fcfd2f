"""How much may be done at once, and how fast: the pace of a scan, and a limit on new databases.

A scan may use half of the places for work in flight, and hardly any while people sign up.

A scan must not slow down users who sign up while it runs. The users whom it finds have waited already, or wait for
nothing. Nobody knows how much the cluster can take beside its live load. So while users sign up, the scan does one
thing at a time, and then rests for a multiple of the time that it took. The rests grow when the cluster gets slower.
The rest is shorter after a missing database, because a user waits for it. After a look at a security object it is
longer, because hardly anybody waits for that.
"""

from collections import deque
from typing import Final

_SHARE: Final = 0.5

# For this long after the last live change, people are assumed to sign up.
_LIVE_SECONDS: Final = 2.0

# The rest as a multiple of the time that the work took.
_REST_AFTER_MISSING: Final = 3.0
_REST_AFTER_IN_PLACE: Final = 7.0
_MAX_REST_SECONDS: Final = 5.0


class ScanThrottle:
    """The pace of a scan, by the caller's monotonic clock, in seconds; `share` is the limit on all work in flight."""

    def __init__(self, share: int) -> None:
        self.share = share
        self._live_until = float("-inf")
        self._rest_until = float("-inf")
        self._taken_at = float("-inf")

    def live(self, now: float) -> None:
        """Note that changes were read live."""
        self._live_until = now + _LIVE_SECONDS

    def started(self, now: float) -> None:
        """Note that work for the scan began."""
        self._taken_at = now

    def finished(self, now: float, *, in_place: bool) -> None:
        """Note that work for the scan ended. While users sign up, it is the work that `started` noted last.

        `in_place` says that the database existed, as far as the scan knew, so the work was only a look.
        """
        rests = _REST_AFTER_IN_PLACE if in_place else _REST_AFTER_MISSING
        self._rest_until = now + min(rests * (now - self._taken_at), _MAX_REST_SECONDS)

    def limit(self, now: float) -> int:
        """Return how many documents the scan may work on at once."""
        if now >= self._live_until:
            return max(1, int(self.share * _SHARE))
        return 1 if now >= self._rest_until else 0

    def next_change(self, now: float) -> float | None:
        """Return in how many seconds `limit` will be higher if nothing happens; None if it is at its maximum."""
        if now >= self._live_until:
            return None
        return min(each for each in (self._rest_until, self._live_until) if each > now) - now


_MINUTE_SECONDS: Final = 60.0


class CreationLimit:
    """Allows `max_per_minute` new databases in any minute; 0 is no limit. By the caller's monotonic clock, in seconds.

    Only the end of work shows whether it has created a database. So work that may create one is counted from its
    beginning.
    """

    def __init__(self, max_per_minute: int) -> None:
        self.max_per_minute = max_per_minute
        self._under_way: set[str] = set()
        self._made: deque[float] = deque()

    def room(self, now: float) -> int:
        """Return for how many more databases work may begin now."""
        while self._made and now - self._made[0] >= _MINUTE_SECONDS:
            self._made.popleft()
        return max(0, self.max_per_minute - len(self._under_way) - len(self._made))

    def next_change(self, now: float) -> float | None:
        """Return in how many seconds there is more room; None if that needs work under way to end."""
        return max(0.0, self._made[0] + _MINUTE_SECONDS - now) if self._made else None

    def begun(self, document_id: str) -> None:
        """Note that work began that may create a database."""
        self._under_way.add(document_id)

    def ended(self, document_id: str) -> None:
        """Note that the work on a document ended, with or without a new database."""
        self._under_way.discard(document_id)

    def made(self, now: float) -> None:
        """Note that a database was created, for any reason."""
        # Without a limit nobody calls `room`, and old creations would never be forgotten.
        if self.max_per_minute:
            self.room(now)
            self._made.append(now)
