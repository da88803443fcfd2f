"""The order of work: lanes by urgency, the limits, the pace of scans and looks, and the turns in a crowd.

Some documents are left alone for a while:

- Documents with another owner in the upcoming view, because two instances must not act on one document at the same
  time.
- Restless documents, and documents whose database somebody deletes again and again.
- Documents whose database somebody else has just created or deleted.
- Documents without a database, while the limit on new databases is reached.
- On hold, all documents except the trials. While the state cannot be written, there are no trials either.
"""

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from peruserd.core.feed.changes import Change
from peruserd.core.feed.lanes import Lane
from peruserd.core.scheduling.crowd import NEW_SECONDS, Crowd
from peruserd.core.scheduling.documents import Documents
from peruserd.core.scheduling.records import Parked
from peruserd.core.scheduling.restless import Restless
from peruserd.core.scheduling.throttles import CreationLimit, ScanThrottle
from peruserd.core.scheduling.trials import Trials

# Iterating over an enumeration takes longer than looking into its lanes.
_LANES: Final = tuple(Lane)

# An operator who restores a database may delete it and create it again a moment later. If peruserd created the database
# in between, it would disturb that.
_OTHERS_REST_SECONDS: Final = 3.0

_OF_ROWS: Final = (Lane.LIVE, Lane.SCAN)

# As a rule these lanes have no user who waits for the first service.
_PACED: Final = (Lane.SCAN, Lane.OTHERS, Lane.ROLLOUT, Lane.AUDIT)


class Dispatch:
    """Gives out work on `documents`, by the caller's monotonic clock, in seconds. Not thread-safe.

    `share` is how many documents may be worked on at once: this listener's part of the instance's `max_in_flight`.
    `new_per_minute` is how many databases may be created in a minute; 0 is no limit.
    """

    def __init__(self, documents: Documents, share: int, new_per_minute: int = 0) -> None:
        self._documents = documents
        self._throttle = ScanThrottle(share)
        self._creations = CreationLimit(new_per_minute)
        # The documents that wait until a new database is allowed, by lane and in their order. Each document is here
        # once, however often it changes meanwhile.
        self._crowded: tuple[OrderedDict[str, None], ...] = tuple(OrderedDict() for _ in Lane)
        # The documents that rest: until when, which one, and why.
        self._resting: list[tuple[float, str, Parked]] = []
        self._restless = Restless()
        # Only of the live lane, because only there anybody can cause a crowd.
        self._crowd = Crowd()
        self._live = documents.queue(Lane.LIVE)
        self._was_crowded = False
        # How many reserved places became free when a crowd ended.
        self._left = 0
        self._scanned = 0
        self._leaves: Callable[[str], bool] = _nobody
        self.trials = Trials(documents)

    def limit(self, share: int, new_per_minute: int = 0) -> None:
        """Set how many documents may be worked on at once, and how many databases may be created in a minute."""
        self._throttle.share = share
        self._creations.max_per_minute = new_per_minute
        if not new_per_minute:
            for crowded in self._crowded:
                crowded.clear()
            self._documents.free(Parked.LIMIT)

    def hold_back(self, leaves: Callable[[str], bool] | None) -> None:
        """Leave changes of these documents waiting until this is called again. Reviews are never held back."""
        self._leaves = leaves or _nobody
        self._documents.free(Parked.OWNER)

    def hurry(self, document_id: str) -> None:
        """Allow one look at a restless document before its rest is over, because the operator asks."""
        self._restless.hurry(document_id)
        self._documents.free_one(document_id, Parked.RESTLESS)

    def is_restless(self, document_id: str, now: float) -> bool:
        """Say whether a document changes too often, so that it rests between two looks."""
        return self._restless.is_restless(document_id, now)

    def read_live(self, changes: Iterable[Change], now: float) -> None:
        """Note that a page with rows was read live, and its changes."""
        self._throttle.live(now)
        watched = self._restless.watched
        for change in changes:
            if change.deleted or (watched and change.document_id in watched):
                self._restless.note(change.document_id, deleted=change.deleted, now=now)

    def next(self, now: float) -> Change | None:
        """Return the most urgent change with a free document, and count it as under way; None if there is none."""
        if self._documents.active >= self._throttle.share or not self.trials.may_begin:
            return None
        if self._resting:
            self._free_rested(now)
        is_crowded = self._is_crowded
        was_crowded = self._was_crowded or is_crowded
        change = self._next_amidst_crowd(now) if is_crowded else self._next_by_urgency(now)
        if change is not None:
            self._begin(change, now)
        if was_crowded:
            # The crowd may end with this change.
            self._was_crowded = self._is_crowded
            if not self._was_crowded:
                self._left = self._throttle.share - self._documents.active
        return change

    def to_wake(self, now: float) -> int:
        """Return how many more workers must be woken. The caller must wake them; nobody else does.

        The worker that has just begun is not counted. There is room for another one in three cases:

        - A scan may go on.
        - In a crowd a finishing worker takes one user, but a reserved place and a normal place can be free.
        - A crowd has ended. All reserved places are free then, and they are counted once.
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
        if self._creations.max_per_minute and _may_create(change):
            self._creations.begun(change.document_id)
        if change.lane in _PACED:
            self._scanned += 1
            self._throttle.started(now)

    def _has_newcomer(self, now: float) -> bool:
        if self._creations.max_per_minute:
            # In a crowd a user who waits for a new database to be allowed has waited long.
            return bool(self._crowded[Lane.LIVE])
        return self._documents.is_last_since(Lane.LIVE, now - NEW_SECONDS)

    def _next_in(self, lane: Lane, now: float, *, newest: bool = False) -> Change | None:
        if self._crowded[lane] and self._creations.room(now):
            self._let_in(lane, newest=newest)
        # With a limit on new databases, documents without room leave the lane in the order of their arrival.
        next_in = self._documents.last_in if newest and not self._creations.max_per_minute else self._documents.next_in
        while (change := next_in(lane)) is not None:
            why = None if lane is Lane.REVIEW else self._reason_to_park(change, now)
            if why is None:
                return change
            self._documents.park(change.document_id, why)
        return None

    def _reason_to_park(self, change: Change, now: float) -> Parked | None:
        document_id = change.document_id
        if self._leaves(document_id):
            return Parked.OWNER
        if self.trials.has_tried(document_id):
            return Parked.TRIED
        until = self._restless.rests_until(document_id, now) if self._restless.watched else None
        if until is not None:
            heapq.heappush(self._resting, (until, document_id, Parked.RESTLESS))
            return Parked.RESTLESS
        if change.lane is Lane.OTHERS and now < change.read_at + _OTHERS_REST_SECONDS:
            heapq.heappush(
                self._resting, (change.read_at + _OTHERS_REST_SECONDS, document_id, Parked.CHANGED_BY_OTHERS)
            )
            return Parked.CHANGED_BY_OTHERS
        if self._creations.max_per_minute and _may_create(change) and not self._creations.room(now):
            self._crowded[change.lane][document_id] = None
            return Parked.LIMIT
        return None

    def _let_in(self, lane: Lane, *, newest: bool) -> None:
        """Put the document with the longest wait for room first in its lane; with `newest` the one that came last."""
        crowded = self._crowded[lane]
        while crowded:
            document_id, _ = crowded.popitem(last=newest)
            change = self._documents.record(document_id).waiting
            # A document that was lost, or now waits for another reason, is skipped.
            if change is not None and change.lane is lane and self._documents.free_one(document_id, Parked.LIMIT):
                return

    def _free_rested(self, now: float) -> int:
        freed = 0
        while self._resting and self._resting[0][0] <= now:
            _, document_id, why = heapq.heappop(self._resting)
            freed += self._documents.free_one(document_id, why)
        return freed

    def queue_due(self, now: float) -> int:
        """Free the documents whose rest is over. Return for how many documents there may be work now."""
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
        # A creation for a row is no sign of a deletion, because such users are usually new.
        return created and change.lane not in _OF_ROWS and self._restless.remade(change.document_id, now)

    def can_scan(self, now: float) -> bool:
        """Say whether work at the pace of a scan may wait, and may begin now."""
        return not self.trials.holds_back and self._has_paced and self._scanned < self._throttle.limit(now)

    def patience(self, now: float) -> float | None:
        """Return in how many seconds a scan may go on if nothing else happens; None if time alone does not help."""
        return self._throttle.next_change(now) if self._has_paced and not self.trials.holds_back else None

    @property
    def _has_paced(self) -> bool:
        return any(map(self._documents.has_any, _PACED))

    def next_due(self, now: float) -> float | None:
        """Return when to call `queue_due` next; None while no document rests or waits for room."""
        dates = [self._resting[0][0]] if self._resting else []
        if any(self._crowded) and not self._creations.room(now):
            wait = self._creations.next_change(now)
            dates += [] if wait is None else [now + wait]
        return min(dates, default=None)


def _may_create(change: Change) -> bool:
    return not change.deleted and not change.in_place and change.lane is not Lane.REVIEW


def _nobody(_document_id: str) -> bool:
    return False
