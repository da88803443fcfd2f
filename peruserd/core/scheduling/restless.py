"""Restless users, whose documents or databases change all the time. Each is looked at once a minute.

Every look at a user costs the cluster some requests and can cause writes. Anybody may delete and create their own
document as often as they like, and somebody else's program can delete a database each time. Only the newest state
counts, and it is seen a minute later at most.
"""

from collections import OrderedDict, deque
from typing import Final

# A person who deletes the account and signs up again, twice in a row, never waits. Nor does a user whose database
# somebody deletes up to three times.
MAX_CHANGES: Final = 5
WITHIN_SECONDS: Final = 600.0
REST_SECONDS: Final = 60.0

# The documents with the latest changes are watched, up to this number: some megabytes. An enemy who changes more
# documents at a time causes no more work than as many new users.
_MAX_WATCHED: Final = 10_000


class Watched:
    """One document: its last state, the times of its or its database's changes, and the time of the last look."""

    __slots__ = ("changes", "deleted", "looked_at")

    def __init__(self) -> None:
        self.deleted = False
        self.changes: deque[float] = deque(maxlen=MAX_CHANGES + 1)
        self.looked_at = float("-inf")

    def is_restless(self, now: float) -> bool:
        """Say whether the document has changed too often recently."""
        return len(self.changes) > MAX_CHANGES and now - self.changes[0] <= WITHIN_SECONDS


class Restless:
    """The recent changes of documents. A document is watched from its deletion on, or from that of its database.

    Times are of one monotonic clock, in seconds.
    """

    def __init__(self) -> None:
        self.watched: OrderedDict[str, Watched] = OrderedDict()

    def note(self, document_id: str, *, deleted: bool, now: float) -> None:
        """Note a row of the live feed.

        Two tombstones in a row count as two changes, because the feed shows only the newest change of a document.
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
        """Note that somebody deleted the database and it was created again, which are two changes.

        Return whether the user is restless now.
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
        """Allow one more look at the document before its rest is over."""
        watched = self.watched.get(document_id)
        if watched is not None:
            watched.looked_at = float("-inf")

    def is_restless(self, document_id: str, now: float) -> bool:
        """Say whether a document, or its database, has changed too often recently."""
        watched = self.watched.get(document_id) if self.watched else None
        return watched is not None and watched.is_restless(now)

    def rests_until(self, document_id: str, now: float) -> float | None:
        """Return until when the document is to be left alone; None if it is not restless."""
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
