"""Users who come and go all the time: each is looked at once a minute, newest state only.

Every look at a user costs the cluster some requests and can write. Anybody may delete and make a document of their own
as often as they like, and a program of somebody else can delete a database whenever it is there. The last state counts,
and that is seen a minute later.
"""

from collections import OrderedDict, deque
from typing import Final

# A person who deletes an account and signs up again, and does it once more, waits for nothing. Nor does a user whose
# database somebody deletes three times in a row.
MAX_CHANGES: Final = 5
WITHIN_SECONDS: Final = 600.0
REST_SECONDS: Final = 60.0

# So many documents are watched, those that changed last: some megabytes. Somebody who changes more of them at a time
# makes as much work as so many users who sign up.
_MAX_WATCHED: Final = 10_000


class Watched:
    """One document: how it was seen last, when it or its database changed, and when it was looked at last."""

    __slots__ = ("changes", "deleted", "looked_at")

    def __init__(self) -> None:
        self.deleted = False
        self.changes: deque[float] = deque(maxlen=MAX_CHANGES + 1)
        self.looked_at = float("-inf")

    def is_restless(self, now: float) -> bool:
        """Say whether it has changed too often lately."""
        return len(self.changes) > MAX_CHANGES and now - self.changes[0] <= WITHIN_SECONDS


class Restless:
    """The documents that were deleted lately, or whose databases were, and how they changed.

    Times are of one monotonic clock, in seconds.
    """

    def __init__(self) -> None:
        self.watched: OrderedDict[str, Watched] = OrderedDict()

    def note(self, document_id: str, *, deleted: bool, now: float) -> None:
        """Note a row of the live feed.

        Two tombstones in a row were two changes, because the feed shows the newest one only.
        """
        watched = self.watched.get(document_id)
        if watched is None:
            if not deleted:
                return
            self._make_room(now)
            watched = self.watched[document_id] = Watched()
        self.watched.move_to_end(document_id)
        for _ in range(2 if deleted and watched.deleted else deleted != watched.deleted):
            watched.changes.append(now)
        watched.deleted = deleted

    def remade(self, document_id: str, now: float) -> bool:
        """Note that the database was deleted by somebody and is made again, which were two changes.

        Return whether the user is restless for that.
        """
        watched = self.watched.get(document_id)
        if watched is None:
            self._make_room(now)
            watched = self.watched[document_id] = Watched()
        self.watched.move_to_end(document_id)
        watched.changes.extend((now, now))
        return watched.is_restless(now)

    def looked_at(self, document_id: str, now: float) -> None:
        """Note that a worker begins to act on the document."""
        watched = self.watched.get(document_id)
        if watched is not None:
            watched.looked_at = now

    def hurry(self, document_id: str) -> None:
        """Let the document be looked at once more before its rest is over."""
        watched = self.watched.get(document_id)
        if watched is not None:
            watched.looked_at = float("-inf")

    def rests_until(self, document_id: str, now: float) -> float | None:
        """Return until when the document is to be left alone; None where it is not."""
        watched = self.watched.get(document_id)
        if watched is None or not watched.is_restless(now):
            return None
        until = watched.looked_at + REST_SECONDS
        return until if until > now else None

    def _make_room(self, now: float) -> None:
        while self.watched:
            oldest = next(iter(self.watched.values()))
            if len(self.watched) < _MAX_WATCHED and now - oldest.changes[-1] <= WITHIN_SECONDS:
                return
            self.watched.popitem(last=False)
