"""How much may be done at once, and how fast: the pace of a scan, and a limit on new databases.

A scan may take half of the work in flight, and next to nothing while people sign up.

Users whom a scan finds have waited already, or wait for nothing; users who sign up meanwhile should not find the
cluster busy with them. Nobody knows how much the cluster can take beside its live load, so a scan is a guest there. It
does one thing at a time, and then rests several times as long as that took, so its rests grow as the cluster grows
slower. Somebody waits for each database that is missing, and hardly anybody for a look at a security object, so the
rest is shorter after the one than after the other.
"""

from collections import deque
from typing import Final

_SHARE: Final = 0.5

# After the last change that was read live, people are taken to be there for this long.
_LIVE_SECONDS: Final = 2.0

# In times of what the work took.
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
        """Note that work on something that the scan found began."""
        self._taken_at = now

    def finished(self, now: float, *, in_place: bool) -> None:
        """Note that work on something that the scan found ended: the last that began, where it is one at a time.

        `in_place` says that a database was there and only looked at, as far as the scan knew.
        """
        rests = _REST_AFTER_IN_PLACE if in_place else _REST_AFTER_MISSING
        self._rest_until = now + min(rests * (now - self._taken_at), _MAX_REST_SECONDS)

    def limit(self, now: float) -> int:
        """Return how many things that the scan found may be worked on at once."""
        if now >= self._live_until:
            return max(1, int(self.share * _SHARE))
        return 1 if now >= self._rest_until else 0

    def next_change(self, now: float) -> float | None:
        """Return in how many seconds `most` will be higher if nothing happens; None where it is as high as it gets."""
        if now >= self._live_until:
            return None
        return min(each for each in (self._rest_until, self._live_until) if each > now) - now


_MINUTE_SECONDS: Final = 60.0


class CreationLimit:
    """No more than `most` new databases in any minute; 0 is no limit. Of the caller's monotonic clock, in seconds.

    Whether work makes a database is known at its end, so work that may do so has a place from its beginning on.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._under_way: set[str] = set()
        self._made: deque[float] = deque()

    def room(self, now: float) -> int:
        """Return how many more may begin to be made now."""
        while self._made and now - self._made[0] >= _MINUTE_SECONDS:
            self._made.popleft()
        return max(0, self.most - len(self._under_way) - len(self._made))

    def next_change(self, now: float) -> float | None:
        """Return in how many seconds there is more room if nothing ends; None where only then."""
        return max(0.0, self._made[0] + _MINUTE_SECONDS - now) if self._made else None

    def begun(self, document_id: str) -> None:
        """Note that work on a document began that may make a database."""
        self._under_way.add(document_id)

    def ended(self, document_id: str) -> None:
        """Note that the work on a document ended, whatever it may have done."""
        self._under_way.discard(document_id)

    def made(self, now: float) -> None:
        """Note that a database was made, whatever for."""
        # Nobody asks while there is no limit, so nothing is forgotten then.
        if self.most:
            self.room(now)
            self._made.append(now)
