"""The order of work: lanes by urgency, within the limits, a scan at its pace.

Three kinds of documents are left alone for a while:

- Documents that another instance will own, because two must not act on a document at the same time.
- Restless documents.
- Documents that would need a new database where enough are being made.
"""

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from peruserd.core.changes import Change, Lane
from peruserd.core.documents import Documents
from peruserd.core.pacing import CreationLimit, ScanPace
from peruserd.core.records import Held
from peruserd.core.restless import Restless

# Iterating over an enumeration takes longer than looking into its lanes.
_LANES: Final = tuple(Lane)


class Dispatch:
    """Gives out work on `documents`, by the caller's monotonic clock, in seconds. Not thread-safe.

    `share` is how many documents may be worked on at once, `new_per_minute` how many databases may be made in a minute;
    0 is no limit.
    """

    def __init__(self, documents: Documents, share: int, new_per_minute: int = 0) -> None:
        self._documents = documents
        self._pace = ScanPace(share)
        self._creations = CreationLimit(new_per_minute)
        # The documents that wait for room to make a database, by lane and in their order: each once, however often it
        # changes while it waits.
        self._crowded: tuple[OrderedDict[str, None], ...] = tuple(OrderedDict() for _ in Lane)
        # The documents that rest, by when that is over.
        self._resting: list[tuple[float, str]] = []
        self._restless = Restless()
        self._scanned = 0
        self._leaves: Callable[[str], bool] = _nobody

    def limit(self, share: int, new_per_minute: int = 0) -> None:
        """Set how many documents may be worked on at once, and how many databases may be made in a minute."""
        self._pace.share = share
        self._creations.most = new_per_minute
        if not new_per_minute:
            for crowded in self._crowded:
                crowded.clear()
            self._documents.free(Held.LIMIT)

    def hold_back(self, leaves: Callable[[str], bool] | None) -> None:
        """Leave changes of these documents waiting until this is called again; reviews are never held back."""
        self._leaves = leaves or _nobody
        self._documents.free(Held.OWNER)

    def read_live(self, changes: Iterable[Change], now: float) -> None:
        """Note that a page that was not empty was read live, with these changes."""
        self._pace.live(now)
        watched = self._restless.watched
        for change in changes:
            if change.deleted or (watched and change.document_id in watched):
                self._restless.note(change.document_id, deleted=change.deleted, now=now)

    def next(self, now: float) -> Change | None:
        """Return the most urgent change whose document is free, now under way; None where there is none."""
        if self._documents.active >= self._pace.share:
            return None
        if self._resting:
            self._free_rested(now)
        for lane in _LANES:
            if lane is Lane.SCAN and self._scanned >= self._pace.most(now):
                continue
            change = self._next_in(lane, now)
            if change is not None:
                self._begin(change, now)
                return change
        return None

    def _begin(self, change: Change, now: float) -> None:
        self._documents.take(change)
        if self._restless.watched:
            self._restless.looked_at(change.document_id, now)
        if self._creations.most and _may_create(change):
            self._creations.begun(change.document_id)
        if change.lane is Lane.SCAN:
            self._scanned += 1
            self._pace.taken(now)

    def _next_in(self, lane: Lane, now: float) -> Change | None:
        if self._crowded[lane] and self._creations.room(now):
            self._let_in(lane)
        while (change := self._documents.next_in(lane)) is not None:
            why = None if lane is Lane.REVIEW else self._reason_to_hold(change, now)
            if why is None:
                return change
            self._documents.hold(change.document_id, why)
        return None

    def _reason_to_hold(self, change: Change, now: float) -> Held | None:
        document_id = change.document_id
        if self._leaves(document_id):
            return Held.OWNER
        until = self._restless.rests_until(document_id, now) if self._restless.watched else None
        if until is not None:
            heapq.heappush(self._resting, (until, document_id))
            return Held.RESTLESS
        if self._creations.most and _may_create(change) and not self._creations.room(now):
            self._crowded[change.lane][document_id] = None
            return Held.LIMIT
        return None

    def _let_in(self, lane: Lane) -> None:
        """Put who has waited longest for room first in the lane."""
        crowded = self._crowded[lane]
        while crowded:
            document_id, _ = crowded.popitem(last=False)
            change = self._documents.record(document_id).waiting
            # A document that was lost, or waits for another reason by now, is passed over.
            if change is not None and change.lane is lane and self._documents.free_one(document_id, Held.LIMIT):
                return

    def _free_rested(self, now: float) -> int:
        freed = 0
        while self._resting and self._resting[0][0] <= now:
            freed += self._documents.free_one(heapq.heappop(self._resting)[1], Held.RESTLESS)
        return freed

    def due(self, now: float) -> int:
        """Let those go on who have rested; return for how many there may be work, by that or by room."""
        waiting = sum(map(len, self._crowded))
        return self._free_rested(now) + (min(waiting, self._creations.room(now)) if waiting else 0)

    def ended(self, change: Change, now: float, *, created: bool = False) -> None:
        """Note that the work on a change ended, and whether it made a database."""
        self._creations.ended(change.document_id)
        if created:
            self._creations.made(now)
        if change.lane is Lane.SCAN:
            self._scanned -= 1
            self._pace.finished(now, in_place=change.in_place)

    def can_scan(self, now: float) -> bool:
        """Say whether something that a scan found may wait, and may be worked on."""
        return self._documents.has_any(Lane.SCAN) and self._scanned < self._pace.most(now)

    def patience(self, now: float) -> float | None:
        """Return in how many seconds a scan may go on if nothing happens; None where only then."""
        return self._pace.next_change(now) if self._documents.has_any(Lane.SCAN) else None

    def next_due(self, now: float) -> float | None:
        """Return when `due` is worth asking next; None while nobody rests or waits for room."""
        dates = [self._resting[0][0]] if self._resting else []
        if any(self._crowded) and not self._creations.room(now):
            wait = self._creations.next_change(now)
            dates += [] if wait is None else [now + wait]
        return min(dates, default=None)


def _may_create(change: Change) -> bool:
    return not change.deleted and not change.in_place and change.lane is not Lane.REVIEW


def _nobody(_document_id: str) -> bool:
    return False
