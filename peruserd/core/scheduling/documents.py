"""All documents under way: their records, and their order in each lane.

Every change of a record goes through the pure functions of `core.scheduling.records`, `core.scheduling.arrivals` and
`core.scheduling.aftermath`. This module carries out the effects that they return: it gives tickets back, and puts
documents into lanes or reminders. Not thread-safe, because the owner has a lock.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Sized
from typing import Final

from peruserd.core.feed.changes import Change, make_review
from peruserd.core.feed.lanes import Lane
from peruserd.core.scheduling import aftermath, arrivals, records
from peruserd.core.scheduling.failed_documents import FailedDocuments
from peruserd.core.scheduling.kept_users import KeptUsers
from peruserd.core.scheduling.records import EMPTY, Effect, Erasure, Finish, Keep, Parked, Queue, Record, Remind
from peruserd.core.scheduling.recovery import Recovery
from peruserd.core.users.quarantine import Failure, Quarantined, pause_between_tries

# An obsolete reminder stays until its time comes, or until there are this many more reminders than needed.
_SPARE_REMINDERS: Final = 1_000

# The limit of documents that are remembered while a page of a scan is read. A page usually arrives within seconds.
_MAX_FRESH: Final = 100_000

# The limit of users in quarantine, in memory and on disk: some 100 MB. More users fail only if nobody can be served, or
# if an enemy signs up many users and makes each database fail. The enemy must not fill the memory.
MAX_QUARANTINED: Final = 100_000


class Documents(FailedDocuments):
    """The record of each document under way. Times are of the caller's monotonic clock, in seconds.

    When a document is lost to another owner, its acts of the last `recall_seconds` are looked at again.
    """

    def __init__(
        self, kept: Iterable[Quarantined], doubts: Iterable[str], *, recall_seconds: float, now: float
    ) -> None:
        super().__init__()
        self._nodes: frozenset[str] = frozenset()
        self.recall_seconds = recall_seconds
        self._reminders: list[tuple[float, str]] = []
        # The documents with a recent act, the oldest first.
        self._recent: deque[tuple[float, str]] = deque()
        # The rows that were read live since a page of a scan was requested: live (False), deleted (True), or both.
        self._fresh: dict[str, frozenset[bool]] = {}
        self._scan_page_open = False
        self.recovery = Recovery()
        self.waiting = self.active = self.parked = self.reviews = 0
        self.kept_users = KeptUsers(lambda document_id: self.record(document_id).kept)
        for document_id in doubts:
            self.mark_in_doubt(document_id)
        for entry in kept:
            # After a restart every user is due at once, because the cause may be gone and the limit on work in flight
            # still holds. Only users who wait for copies are spread, and each of them who is served lets others try.
            due = None if entry.next_try(now, 0.0, self._nodes) is None else now
            if due is not None and entry.waits_for:
                due += pause_between_tries(self.recovery.awaited, 0.0)
            before = self.record(entry.document_id)
            effects: tuple[Effect, ...] = () if due is None else (Remind(due),)
            self._put(entry.document_id, before, (records.replace(before, kept=entry, due=due), effects))

    def __len__(self) -> int:
        return len(self._records)

    # Reading

    def scan_page_requested(self) -> None:
        """Note that a page of a scan is being read now.

        Its rows can be older than live rows that arrive earlier. To act on the older row afterwards would undo the
        newer change. So a live change that is put from now on makes the page's row of the same document and kind void.
        """
        self._fresh.clear()
        self._scan_page_open = True

    def scan_page_ended(self) -> None:
        """Note that the page of a scan was put, or that it will not come."""
        self._fresh.clear()
        self._scan_page_open = False

    @property
    def scan_page_is_void(self) -> bool:
        """Say whether too many live changes came meanwhile, so the page must be requested again."""
        return not self._scan_page_open

    def put(self, change: Change) -> None:
        """Let a change wait, or finish it at once if a more authoritative change of its document is known."""
        document_id = change.document_id
        fresh = arrivals.NOTHING
        if change.lane is Lane.SCAN:
            fresh = self._fresh.get(document_id, fresh)
        elif self._scan_page_open and change.lane is Lane.LIVE:
            self._fresh[document_id] = self._fresh.get(document_id, frozenset()) | {change.deleted}
            if len(self._fresh) > _MAX_FRESH:
                self.scan_page_ended()
        before = self._records.get(document_id, EMPTY)
        self._put(document_id, before, arrivals.arrived(before, change, fresh))

    # Working

    def has_any(self, lane: Lane) -> bool:
        """Say whether a document may wait in a lane; its place can be obsolete."""
        return bool(self._lanes[lane])

    def queue(self, lane: Lane) -> Sized:
        """Return the documents that wait in a lane, to count them; some of the places can be obsolete."""
        return self._lanes[lane]

    def next_in(self, lane: Lane) -> Change | None:
        """Take the first change out of a lane and return it. The caller must `take` or `park` it."""
        queue = self._lanes[lane]
        while queue:
            change = self._records.get(queue.popleft(), EMPTY).next_of(lane)
            # A document that now waits in another lane, or is worked on, has no place here any more.
            if change is not None:
                return change
        return None

    def last_in(self, lane: Lane) -> Change | None:
        """Take the last change out of a lane and return it. The caller must `take` or `park` it."""
        queue = self._lanes[lane]
        while queue:
            change = self._records.get(queue.pop(), EMPTY).next_of(lane)
            if change is not None:
                return change
        return None

    def is_last_since(self, lane: Lane, since: float) -> bool:
        """Say whether the last change in a lane was read at this time or later."""
        queue = self._lanes[lane]
        while queue:
            change = self._records.get(queue[-1], EMPTY).next_of(lane)
            if change is not None:
                return change.read_at >= since
            queue.pop()
        return False

    def take(self, change: Change) -> None:
        """Note that a worker begins with a change from `next_in` or `last_in`."""
        before = self._records[change.document_id]
        self._put(change.document_id, before, (records.taken(before, change.lane), ()))

    def park(self, document_id: str, why: Parked) -> None:
        """Leave the waiting change alone until it is freed."""
        before = self._records[document_id]
        self._put(document_id, before, (records.parked(before, why), ()))

    def free(self, why: Parked) -> None:
        """Free all documents that are parked for a reason."""
        for document_id in [each for each, record in self._records.items() if record.parked is why]:
            before = self._records[document_id]
            self._put(document_id, before, records.freed(before))

    def free_one(self, document_id: str, why: Parked) -> bool:
        """Free a document, before all others in its lane, if it is parked for this reason; say whether it was."""
        before = self.record(document_id)
        if before.parked is not why:
            return False
        self._put(document_id, before, records.freed(before, first=True))
        return True

    def mark_in_doubt(self, document_id: str) -> None:
        """Note that a write of a security object is about to begin."""
        before = self.record(document_id)
        self._put(document_id, before, (records.doubted(before), ()))

    def in_doubt(self, document_id: str) -> bool:
        """Say whether a write of the security object began, and its end was not seen."""
        return self._records.get(document_id, EMPTY).in_doubt

    def succeed(self, change: Change, outcome: aftermath.Outcome, now: float, *, recall: bool) -> Erasure | None:
        """End work that succeeded; return what to remove from the disk. `recall` says whether to remember the act."""
        self._expire(now)
        document_id = change.document_id
        before = self._records[document_id]
        record, removal = aftermath.after_success(before, outcome, now, recall=recall)
        if record.acted is not before.acted:
            self._recent.append((now, document_id))
        record, effects = records.ended(record)
        self._put(document_id, before, (record, effects))
        return removal

    def fail(
        self, change: Change, failure: Failure, *, is_mine: bool, now: float, wall: float, chance: float
    ) -> tuple[Quarantined | None, Erasure | None]:
        """Note that work failed. The document stays under way until `end`.

        Return the entry that must be on disk before `end`, and what to remove from the disk.
        """
        document_id = change.document_id
        before = self._records[document_id]
        record, effects = aftermath.after_failure(
            before,
            failure,
            is_mine=is_mine,
            nodes=self._nodes,
            now=now,
            wall=wall,
            chance=chance,
            awaited=self.recovery.awaited,
        )
        self._put(document_id, before, (record, effects))
        kept = next((each.entry for each in effects if isinstance(each, Keep)), None)
        return kept, next((each for each in effects if isinstance(each, Erasure)), None)

    def retry_same_cause(self, served: Quarantined | None, *, created: bool, now: float) -> int:
        """Let a few others try now, because a new user or one from quarantine was served; return how many."""
        return sum(self.retry(each, now) for each in self.recovery.note_served(served, created=created))

    @property
    def has_too_many(self) -> bool:
        """Say whether the last entry was one too many for the quarantine."""
        return self.kept_users.total > MAX_QUARANTINED

    def forget(self, document_id: str) -> None:
        """Take a user out of quarantine again, before the entry is on disk."""
        before = self._records[document_id]
        self._put(document_id, before, (records.replace(before, kept=None, due=None), ()))

    def end(self, change: Change) -> None:
        """End the work on a change. The checkpoint may pass it, and a newer change of its document may begin."""
        before = self._records[change.document_id]
        self._put(change.document_id, before, records.ended(before))

    # Owners and time

    def lose_unless(self, is_mine: Callable[[str], bool], now: float) -> tuple[list[tuple[str, Erasure]], int]:
        """Drop documents that have another owner now; return the removals from the disk, and the number of reviews."""
        removals = []
        reviews = 0
        for document_id in [each for each in self._records if not is_mine(each)]:
            before = self._records[document_id]
            record, effects = records.lost(before, document_id, now, on_hold=self.on_hold)
            reviews += record.review is not before.review
            self._put(document_id, before, (record, effects))
            removals += [(document_id, each) for each in effects if isinstance(each, Erasure)]
        return removals, reviews

    def leave_unless(self, is_mine: Callable[[str], bool], now: float) -> int:
        """Add reviews of recent acts and doubts, for documents that have another owner now; return how many."""
        wanted = 0
        for document_id in [each for each in self._records if not is_mine(each)]:
            before = self._records[document_id]
            record, effects = records.left(before, document_id, now, self.recall_seconds)
            wanted += record is not before
            self._put(document_id, before, (record, effects))
        return wanted

    def review(self, document_id: str, *, deleted: bool, now: float, contested: bool = False) -> None:
        """Add a review of a document. `deleted` is the state last acted on; a `contested` review ignores it."""
        before = self.record(document_id)
        review = make_review(document_id, deleted=deleted, now=now, contested=contested)
        self._put(document_id, before, records.reviewed(before, review))

    def take_due(self, now: float) -> tuple[int, int]:
        """Put documents whose next try is due into their lane; return how many retries and how many reviews."""
        self._expire(now)
        retries = reviews = 0
        while self._reminders and self._reminders[0][0] <= now:
            _, document_id = heapq.heappop(self._reminders)
            before = self.record(document_id)
            record, effects = arrivals.retried(before, document_id, now)
            self._put(document_id, before, (record, effects))
            retries += record.due != before.due
            reviews += record.review_due != before.review_due
        return retries, reviews

    def connected(self, nodes: Iterable[str], now: float) -> None:
        """Note which nodes are connected. A user who waited for a node that has returned is due at once."""
        # At the start every user is due anyway.
        returned = frozenset(nodes) - self._nodes if self._nodes else frozenset()
        self._nodes = frozenset(nodes)
        if returned:
            for document_id, before in list(self._records.items()):
                self._put(document_id, before, records.returned(before, returned, now))

    @property
    def nodes(self) -> frozenset[str]:
        """Return the nodes that are connected."""
        return self._nodes

    def next_due(self) -> float | None:
        """Return when to call `take_due` next; None while nothing is to be tried again."""
        return self._reminders[0][0] if self._reminders else None

    # Inside

    def _put(self, document_id: str, before: Record, step: records.Step) -> None:
        record, effects = step
        if record is not before:
            self._count(before, record)
            if record.kept is not before.kept or record.due != before.due:
                self.recovery.note(document_id, before, record)
            if record.parked is Parked.RESTLESS and record.waiting is not None:
                # Users who change all the time would seem to be a lag of everybody.
                record.waiting.excuse()
            if record.is_at_rest:
                self._records.pop(document_id, None)
            else:
                self._records[document_id] = record
        for effect in effects:
            if type(effect) is Queue:
                queue = self._lanes[effect.lane]
                (queue.appendleft if effect.first else queue.append)(document_id)
            elif type(effect) is Finish:
                effect.change.finish()
            elif type(effect) is Remind:
                self._remind(effect.at, document_id)

    def _count(self, before: Record, after: Record) -> None:
        # Few events change more than two of these numbers, and each user causes three events.
        if after.waiting is not before.waiting:
            self.waiting += (after.waiting is not None) - (before.waiting is not None)
        if after.active is not before.active:
            self.active += (after.active is not None) - (before.active is not None)
        if after.parked is not before.parked:
            self.parked += (after.parked is not None) - (before.parked is not None)
        if after.review is not before.review:
            self.reviews += (after.review is not None) - (before.review is not None)
        if after.kept is not before.kept:
            self.kept_users.note(before.kept, after.kept)

    def _remind(self, at: float, document_id: str) -> None:
        heapq.heappush(self._reminders, (at, document_id))
        if len(self._reminders) > 2 * len(self._records) + _SPARE_REMINDERS:
            dates = {(date, each) for each, record in self._records.items() for date in (record.due, record.review_due)}
            self._reminders = [(date, each) for date, each in dates if date is not None]
            heapq.heapify(self._reminders)

    def _expire(self, now: float) -> None:
        while self._recent and now - self._recent[0][0] > self.recall_seconds:
            at, document_id = self._recent.popleft()
            before = self._records.get(document_id)
            if before is not None:
                self._put(document_id, before, (records.expired(before, at), ()))
