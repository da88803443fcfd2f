"""The order of work: lanes by urgency, within the limits, scans and looks at their pace, the newest amidst a crowd.

Some kinds of documents are left alone for a while:

- Documents that another instance will own, because two must not act on a document at the same time.
- Restless documents, and those whose database somebody deletes again and again.
- Documents whose database somebody else has just made or deleted.
- Documents that would need a new database where enough are being made.
- On hold, all documents but those that try whether the cluster serves again.
"""

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from peruserd.core.feed.changes import Change
from peruserd.core.feed.lanes import Lane
from peruserd.core.work.crowd import NEW_SECONDS, Crowd
from peruserd.core.work.documents import Documents
from peruserd.core.work.records import Held
from peruserd.core.work.restless import Restless
from peruserd.core.work.throttles import CreationLimit, ScanThrottle
from peruserd.core.work.trials import Trials

# Iterating over an enumeration takes longer than looking into its lanes.
_LANES: Final = tuple(Lane)

# Somebody who puts a database back deletes it, and makes it again a moment later. To make it in between would be in the
# way.
_SETTLING_SECONDS: Final = 3.0

_OF_ROWS: Final = (Lane.LIVE, Lane.SCAN)

# Nobody waits for these who was not served before, as a rule.
_PACED: Final = (Lane.SCAN, Lane.OTHERS, Lane.ROLLOUT, Lane.AUDIT)


class Dispatch:
    """Gives out work on `documents`, by the caller's monotonic clock, in seconds. Not thread-safe.

    `share` is how many documents may be worked on at once, `new_per_minute` how many databases may be made in a minute;
    0 is no limit.
    """

    def __init__(self, documents: Documents, share: int, new_per_minute: int = 0) -> None:
        self._documents = documents
        self._throttle = ScanThrottle(share)
        self._creations = CreationLimit(new_per_minute)
        # The documents that wait for room to make a database, by lane and in their order: each once, however often it
        # changes while it waits.
        self._crowded: tuple[OrderedDict[str, None], ...] = tuple(OrderedDict() for _ in Lane)
        # The documents that rest, by when that is over, and why they do.
        self._resting: list[tuple[float, str, Held]] = []
        self._restless = Restless()
        # Of the live lane, where anybody can make one.
        self._crowd = Crowd()
        self._live = documents.queue(Lane.LIVE)
        self._was_crowded = False
        # The places that were kept for newcomers, when a crowd has ended.
        self._left = 0
        self._scanned = 0
        self._leaves: Callable[[str], bool] = _nobody
        self.trials = Trials(documents)

    def limit(self, share: int, new_per_minute: int = 0) -> None:
        """Set how many documents may be worked on at once, and how many databases may be made in a minute."""
        self._throttle.share = share
        self._creations.most = new_per_minute
        if not new_per_minute:
            for crowded in self._crowded:
                crowded.clear()
            self._documents.free(Held.LIMIT)

    def hold_back(self, leaves: Callable[[str], bool] | None) -> None:
        """Leave changes of these documents waiting until this is called again; reviews are never held back."""
        self._leaves = leaves or _nobody
        self._documents.free(Held.OWNER)

    def hurry(self, document_id: str) -> None:
        """Let a restless document be worked on once before its rest is over, because the operator asks."""
        self._restless.hurry(document_id)
        self._documents.free_one(document_id, Held.RESTLESS)

    def read_live(self, changes: Iterable[Change], now: float) -> None:
        """Note that a page that was not empty was read live, with these changes."""
        self._throttle.live(now)
        watched = self._restless.watched
        for change in changes:
            if change.deleted or (watched and change.document_id in watched):
                self._restless.note(change.document_id, deleted=change.deleted, now=now)

    def next(self, now: float) -> Change | None:
        """Return the most urgent change whose document is free, now under way; None where there is none."""
        if self._documents.active >= self._throttle.share or not self.trials.may_begin:
            return None
        if self._resting:
            self._free_rested(now)
        is_crowded = self._is_crowded
        was_crowded = self._was_crowded or is_crowded
        change = self._next_amidst_crowd(now) if is_crowded else self._next_by_urgency(now)
        if change is not None:
            self._begin(change, now)
        # The crowd may be over with this very change.
        self._was_crowded = self._is_crowded
        if was_crowded and not self._was_crowded:
            self._left = self._throttle.share - self._documents.active
        return change

    def to_wake(self, now: float) -> int:
        """Return how many workers to wake beside the one who has just begun: those who wait come by no other way.

        Places can be free in three cases:

        - A scan may go on.
        - Amidst a crowd a worker who ends serves one user, and a place of each of the two kinds is free.
        - A crowd is over. All places that were kept are free then, and this is said once.
        """
        left, self._left = self._left, 0
        return left or self.can_scan(now) or (self._was_crowded and self._has_room_amidst_crowd(now))

    def _has_room_amidst_crowd(self, now: float) -> bool:
        crowd, share, active = self._crowd, self._throttle.share, self._documents.active
        if active >= share or not self.trials.may_begin:
            return False
        return crowd.oldest_may_begin(share, active) or (crowd.newest_may_begin(share) and self._has_newcomer(now))

    def _next_by_urgency(self, now: float) -> Change | None:
        for lane in _LANES:
            if lane in _PACED and self._scanned >= self._throttle.limit(now):
                continue
            if (change := self._next_in(lane, now)) is not None:
                return change
        return None

    @property
    def _is_crowded(self) -> bool:
        return len(self._live) + len(self._crowded[Lane.LIVE]) > self._throttle.share

    def _next_amidst_crowd(self, now: float) -> Change | None:
        crowd, share = self._crowd, self._throttle.share
        if crowd.newest_may_begin(share) and self._has_newcomer(now):
            change = self._next_in(Lane.LIVE, now, newest=True)
            if change is not None:
                crowd.newest_begun(change.document_id)
                return change
        if not crowd.oldest_may_begin(share, self._documents.active):
            return None
        change = self._next_by_urgency(now)
        if change is not None and change.lane is Lane.LIVE:
            crowd.oldest_begun(share)
        return change

    def _begin(self, change: Change, now: float) -> None:
        self.trials.begun(change)
        self._documents.take(change)
        if self._restless.watched:
            self._restless.looked_at(change.document_id, now)
        if self._creations.most and _may_create(change):
            self._creations.begun(change.document_id)
        if change.lane in _PACED:
            self._scanned += 1
            self._throttle.started(now)

    def _has_newcomer(self, now: float) -> bool:
        if self._creations.most:
            # A user who waits for room to make a database has waited long, where there is a crowd.
            return bool(self._crowded[Lane.LIVE])
        return self._documents.is_last_since(Lane.LIVE, now - NEW_SECONDS)

    def _next_in(self, lane: Lane, now: float, *, newest: bool = False) -> Change | None:
        if self._crowded[lane] and self._creations.room(now):
            self._let_in(lane, newest=newest)
        # Where databases are limited, those without room leave the lane in the order in which they came.
        next_in = self._documents.last_in if newest and not self._creations.most else self._documents.next_in
        while (change := next_in(lane)) is not None:
            why = None if lane is Lane.REVIEW else self._reason_to_hold(change, now)
            if why is None:
                return change
            self._documents.hold(change.document_id, why)
        return None

    def _reason_to_hold(self, change: Change, now: float) -> Held | None:
        document_id = change.document_id
        if self._leaves(document_id):
            return Held.OWNER
        if self.trials.have_tried(document_id):
            return Held.TRIED
        until = self._restless.rests_until(document_id, now) if self._restless.watched else None
        if until is not None:
            heapq.heappush(self._resting, (until, document_id, Held.RESTLESS))
            return Held.RESTLESS
        if change.lane is Lane.OTHERS and now < change.read_at + _SETTLING_SECONDS:
            heapq.heappush(self._resting, (change.read_at + _SETTLING_SECONDS, document_id, Held.SETTLING))
            return Held.SETTLING
        if self._creations.most and _may_create(change) and not self._creations.room(now):
            self._crowded[change.lane][document_id] = None
            return Held.LIMIT
        return None

    def _let_in(self, lane: Lane, *, newest: bool) -> None:
        """Put who has waited longest for room first in the lane, or who came last."""
        crowded = self._crowded[lane]
        while crowded:
            document_id, _ = crowded.popitem(last=newest)
            change = self._documents.record(document_id).waiting
            # A document that was lost, or waits for another reason by now, is passed over.
            if change is not None and change.lane is lane and self._documents.free_one(document_id, Held.LIMIT):
                return

    def _free_rested(self, now: float) -> int:
        freed = 0
        while self._resting and self._resting[0][0] <= now:
            _, document_id, why = heapq.heappop(self._resting)
            freed += self._documents.free_one(document_id, why)
        return freed

    def due(self, now: float) -> int:
        """Let those go on who have rested; return for how many there may be work, by that or by room."""
        waiting = sum(map(len, self._crowded))
        return self._free_rested(now) + (min(waiting, self._creations.room(now)) if waiting else 0)

    def ended(self, change: Change, now: float, *, created: bool = False) -> bool:
        """Note that the work on a change ended, and whether it made a database.

        Return whether somebody deletes that database again and again.
        """
        self._creations.ended(change.document_id)
        self.trials.ended(change)
        if self._crowd.newest:
            self._crowd.newest.discard(change.document_id)
        if created:
            self._creations.made(now)
        if change.lane in _PACED:
            self._scanned -= 1
            self._throttle.finished(now, in_place=change.in_place)
        # Users who sign up, or whom a scan finds, are new ones as a rule.
        return created and change.lane not in _OF_ROWS and self._restless.remade(change.document_id, now)

    def can_scan(self, now: float) -> bool:
        """Say whether something may wait that goes at the pace of a scan, and may be worked on."""
        return not self.trials.on_hold and self._has_paced and self._scanned < self._throttle.limit(now)

    def patience(self, now: float) -> float | None:
        """Return in how many seconds a scan may go on if nothing happens; None where only then."""
        return self._throttle.next_change(now) if self._has_paced and not self.trials.on_hold else None

    @property
    def _has_paced(self) -> bool:
        return any(map(self._documents.has_any, _PACED))

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
