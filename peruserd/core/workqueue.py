"""What waits to be done, in which order: one document's changes in theirs, lanes by urgency, newest change only.

A document is worked on by one worker at a time. A change that arrives meanwhile waits for that worker to finish; of
several that wait only the newest is kept, because a feed lists only the newest change too. Dropping the older is safe
for the checkpoint: the newer one's ticket holds it back.
"""

from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import Final

import msgspec

from peruserd.core.watermark import Watermark


class Lane(IntEnum):
    """Where a change came from, the most urgent first."""

    LIVE = 0
    RETRY = 1
    REVIEW = 2  # what this instance did may have to be put right, whoever owns the document by now
    SCAN = 3


# Which of two changes of one document tells more of it now: a live one always, and what a scan has just read more than
# what went to quarantine some time ago. A review says nothing: it asks the authentication database.
_AUTHORITY: Final = {Lane.LIVE: 3, Lane.SCAN: 2, Lane.RETRY: 1, Lane.REVIEW: 0}

_NOTHING: Final[frozenset[bool]] = frozenset()


class Change(msgspec.Struct, eq=False, gc=False):
    """A document to be acted on. `read_at` is when it was read, by the monotonic clock, in seconds.

    `watermark` and `ticket` are what holds the checkpoint back; a retry has none, its quarantine is on disk.
    `met_in_scan` says that a scan found the change, now or before it went to quarantine: it can be years old.
    `in_place` says that the database is probably there, so looking at it is cheaper than trying to create it. Of a
    review, `deleted` is what was last acted on.

    `deleted` is a hint. `contested` says that a live row and a tombstone were both seen under this id while it waited,
    was worked on or was in quarantine: CouchDB can show two documents under one id, so neither row is the truth.
    """

    document_id: str
    deleted: bool
    lane: Lane
    read_at: float
    watermark: Watermark | None = None
    ticket: int = -1
    met_in_scan: bool = False
    in_place: bool = False
    contested: bool = False

    def finish(self) -> None:
        """Let the checkpoint pass this change."""
        if self.watermark is not None:
            self.watermark.finish(self.ticket)


class WorkQueue:
    """Changes that wait and changes under way. Not thread-safe: its owner has a lock."""

    def __init__(self) -> None:
        self._waiting: dict[str, Change] = {}
        self._active: dict[str, Change] = {}
        self._lanes: dict[Lane, deque[Change]] = {lane: deque() for lane in Lane}
        self._reviews: dict[str, Change] = {}
        self._is_held: Callable[[str], bool] = _nobody
        self._held: dict[str, Change] = {}
        # What was read live since a page of a scan was asked for: whether as live, as deleted, or both.
        self._fresh: dict[str, frozenset[bool]] = {}
        self._disowned: set[str] = set()
        self._scan_page_open = False
        self._scanned = 0
        self._most_scanned: int | None = None

    @property
    def waiting(self) -> int:
        """Return how many documents wait."""
        return len(self._waiting)

    @property
    def active(self) -> int:
        """Return how many documents are worked on."""
        return len(self._active)

    @property
    def held(self) -> int:
        """Return how many of the documents that wait were found to be held back."""
        return len(self._held)

    @property
    def reviews(self) -> int:
        """Return how many documents wait for a review."""
        return len(self._reviews)

    def holds(self, document_id: str) -> bool:
        """Say whether a change of the document waits or is worked on."""
        return document_id in self._waiting or document_id in self._active

    def has_waiting(self, document_id: str) -> bool:
        """Say whether a newer change of the document waits than the one worked on."""
        return document_id in self._waiting

    def scan_page_requested(self) -> None:
        """Note that a page of a scan is being read now.

        Its rows can be older than live ones that arrive before it does, and acting on them afterwards would undo the
        newer change: live changes put from now on make the page's rows of the same documents void.
        """
        self._fresh.clear()
        self._scan_page_open = True

    def scan_finished(self) -> None:
        """Note that no page of a scan will be put any more."""
        self._fresh.clear()
        self._scan_page_open = False

    def release_unless(self, wanted: Callable[[str], bool]) -> None:
        """Finish what waits for documents that are not `wanted` any more.

        What is under way for them goes on, and tells nothing of its document from now on: changes can pass unseen until
        the document is wanted again, and whatever is read then is newer.
        """
        for document_id in [each for each in self._waiting if not wanted(each)]:
            self._waiting.pop(document_id).finish()
        self._disowned.update(document_id for document_id in self._active if not wanted(document_id))

    def limit_scans(self, most: int) -> None:
        """Let no more than so many documents that a scan found be worked on at once."""
        self._most_scanned = most

    @property
    def scan_waits(self) -> bool:
        """Say whether something that a scan found waits."""
        return bool(self._lanes[Lane.SCAN])

    @property
    def can_scan(self) -> bool:
        """Say whether something that a scan found waits and may be worked on."""
        return self.scan_waits and self._scan_has_room

    @property
    def _scan_has_room(self) -> bool:
        return self._most_scanned is None or self._scanned < self._most_scanned

    def hold_back(self, is_held: Callable[[str], bool]) -> None:
        """Leave changes of these documents waiting until this is called again; reviews are never held back."""
        self._is_held = is_held
        for change in self._held.values():
            self._lanes[change.lane].append(change)
        self._held.clear()

    def review(self, change: Change) -> None:
        """Let a review wait beside whatever else waits for its document: it may concern an owner that is gone."""
        if change.document_id not in self._reviews:
            self._lanes[Lane.REVIEW].append(change)
        self._reviews[change.document_id] = change

    def put(self, change: Change) -> None:
        """Let a change wait, or finish it at once where another one tells more of its document.

        A row that is passed over for another one of the other kind leaves that one contested.
        """
        document_id = change.document_id
        older = self._waiting.get(document_id)
        if older is not None:
            _contest(change, older)
        if change.lane is Lane.LIVE:
            # Nothing tells more than it does.
            self._contest_active(change)
            if self._scan_page_open:
                self._fresh[document_id] = self._fresh.get(document_id, _NOTHING) | {change.deleted}
        elif self._is_void(change):
            change.finish()
            return
        if older is not None:
            older.finish()
        self._waiting[document_id] = change
        if document_id not in self._active:
            self._lanes[change.lane].append(change)

    def _is_void(self, change: Change) -> bool:
        document_id = change.document_id
        waiting = self._waiting.get(document_id)
        if waiting is not None and _AUTHORITY[waiting.lane] > _AUTHORITY[change.lane]:
            return True
        seen = self._fresh.get(document_id) if change.lane is Lane.SCAN else None
        if seen is not None:
            change.contested |= seen != {change.deleted}
            return not change.contested
        active = self._contest_active(change)
        if active is None or document_id in self._disowned or _AUTHORITY[active.lane] <= _AUTHORITY[change.lane]:
            return False
        return active.contested or not change.contested

    def _contest_active(self, change: Change) -> Change | None:
        """Note what the change under way says of the document, which it may be acted on for already."""
        active = self._active.get(change.document_id)
        if active is not None and active.lane is not Lane.REVIEW:
            change.contested |= active.contested or active.deleted != change.deleted
        return active

    def take(self) -> Change | None:
        """Return the most urgent change whose document is free, now under way; None where there is none."""
        for lane, waiting in self._lanes.items():
            if lane is Lane.SCAN and not self._scan_has_room:
                continue
            change = self._take_review() if lane is Lane.REVIEW else self._take_from(waiting)
            if change is not None:
                self._scanned += change.lane is Lane.SCAN
                self._active[change.document_id] = change
                return change
        return None

    def _take_from(self, lane: deque[Change]) -> Change | None:
        while lane:
            change = lane.popleft()
            document_id = change.document_id
            # Entries of replaced changes stay in their lane and are passed over here.
            if self._waiting.get(document_id) is not change or document_id in self._active:
                continue
            if self._is_held(document_id):
                self._held[document_id] = change
                continue
            del self._waiting[document_id]
            return change
        return None

    def _take_review(self) -> Change | None:
        lane = self._lanes[Lane.REVIEW]
        for _ in range(len(lane)):
            document_id = lane.popleft().document_id
            if document_id not in self._active:
                return self._reviews.pop(document_id)
            lane.append(self._reviews[document_id])
        return None

    def finish(self, change: Change) -> None:
        """End the work on a change: the checkpoint may pass it, and a newer one of its document may begin."""
        del self._active[change.document_id]
        self._scanned -= change.lane is Lane.SCAN
        self._disowned.discard(change.document_id)
        change.finish()
        newer = self._waiting.get(change.document_id)
        if newer is not None and self._held.get(change.document_id) is not newer:
            self._lanes[newer.lane].appendleft(newer)


def _contest(one: Change, other: Change) -> None:
    """Note in both of two changes of one document whether they contradict each other.

    The more careful of them says where their tombstone was met, so that a database is never dropped for an old one.
    """
    if one.contested or other.contested or one.deleted != other.deleted:
        met_in_scan = any(each.met_in_scan for each in (one, other) if each.deleted or each.contested)
        for each in (one, other):
            each.contested = True
            each.met_in_scan = met_in_scan


def _nobody(_document_id: str) -> bool:
    return False
