"""What a listener has read, what it is doing and what it has finished: shared by its threads, guarded by one lock.

The follower and the scanner enter what they read, workers take it and give it back, and the main thread writes the
progress to disk. Rules are those of `core.progress`, `core.workqueue` and `core.quarantine`; here they meet.
"""

import random
import time
from collections.abc import Callable, Collection, Iterable
from typing import Final

import msgspec
import structlog

from peruserd.core.counters import Counters
from peruserd.core.decision import UNCONFIRMED
from peruserd.core.messages import Report, Sequence, Stage
from peruserd.core.names import USER_DOCUMENT_PREFIX
from peruserd.core.ownership import Ownership
from peruserd.core.pacing import ScanPace
from peruserd.core.progress import (
    Identity,
    Saved,
    Sweep,
    change_owner,
    reached,
    resume,
    sweep_finished,
)
from peruserd.core.quarantine import Quarantine, Quarantined
from peruserd.core.reviews import Reviews, make_review
from peruserd.core.watermark import Watermark
from peruserd.core.workqueue import Change, Lane, WorkQueue
from peruserd.couch.sources import PAGE_ROWS, Page
from peruserd.listener.provisioner import Outcome
from peruserd.listener.scanning import ScanBook, ScanTask
from peruserd.listener.store import Store
from peruserd.listener.waiting import Waiting

# Documents that may wait before reading pauses: some pages, so that workers never starve, and little memory.
_LIVE_WINDOW: Final = 5 * PAGE_ROWS
_HELD_WINDOW: Final = 100 * PAGE_ROWS

# After this a worker tries again who found the books in use: as long as serving a few users takes at the utmost speed,
# and nothing beside the milliseconds of a request.
_PAUSE_SECONDS: Final = 0.0001

# How often the follower shows that it is alive while it waits for room; well below a supervisor's patience.
_BEAT_SECONDS: Final = 10.0

log = structlog.get_logger(__name__)


class Ledger:
    """The listener's books. `wake` is called, with the lock held, whenever the main thread has something to do."""

    def __init__(
        self,
        *,
        instance: str,
        ownership: Ownership,
        coming: Ownership | None,
        share: int,
        begin_near: Sequence | None,
        recall_seconds: float,
        store: Store,
        wake: Callable[[], None],
    ) -> None:
        self._me = instance
        self._ownership = ownership
        self._begin_near = begin_near
        self._store = store
        self._wake = wake
        self._changed = Waiting()
        self._progress_told = False
        self._stopping = False
        self._leaving = False
        self._mine = ownership.belongs_to(instance)
        self._queue = WorkQueue()
        self._counters = Counters()
        self._beats = 0
        self._feed_fails = True
        self._shard_sequence: Sequence | None = None
        self._saved, quarantined, doubts = store.load()
        self._quarantine = Quarantine(quarantined, time.monotonic())
        self._reviews = Reviews(doubts, recall_seconds)
        self._live: Watermark | None = None
        self._scan = ScanBook()
        self._catch_up_ticket: int | None = None
        self._abandoned = 0
        self._pace = ScanPace(share)
        self._hold_back(coming)

    # What the follower calls

    def open(self, identity: Identity) -> None:
        """Begin, or go on where the checkpoint says; called once, before the first page."""
        with self._changed:
            self._saved, why = resume(self._saved, identity, self._ownership, self._me, self._begin_near)
            self._live = Watermark(self._saved.checkpoint)
            self._shard_sequence = identity.update_seq
            self._scan.begin(self._saved, self._me)
            # The owners may have changed while nobody listened.
            self._let_go()
            scan = self._saved.scan
            log.info(
                "following",
                since=self._saved.checkpoint,
                scanning_to=None if scan is None else scan.until,
                from_=None if scan is None else scan.position,
                why=why,
            )
            self._changed.notify_all()

    def beat(self) -> None:
        """Note a round of the feed loop: the listener's sign of life."""
        with self._changed:
            self._beats += 1
            self._wake()

    def feed_failed(self, kind: str) -> None:
        """Note that the feed cannot be read for now."""
        with self._changed:
            self._counters.failed(kind)
            self._feed_fails = True
            self._wake()

    def wait_for_room(self) -> Sequence | None:
        """Return the sequence to read live from, as soon as there is room for a page; None when stopping."""
        with self._changed:
            while not self._changed.wait_until(self._live_has_room, _BEAT_SECONDS):
                # Waiting for workers whose cluster is slow is no hang.
                self._beats += 1
                self._wake()
            return None if self._stopping or self._live is None else self._live.read

    def enter_live(self, page: Page) -> None:
        """Enter a page of the live feed."""
        with self._changed:
            if self._live is None:
                raise RuntimeError("a page was entered before the ledger was opened")
            self._feed_fails = False
            self._counters.feed_requests += 1
            self._counters.changes_seen += len(page.results)
            owned = self._enter_live(page, self._live)
            self._counters.changes_owned += owned
            if page.results:
                self._pace.live(time.monotonic())
            if self._shard_sequence is None or not reached(self._shard_sequence, self._live.read):
                self._shard_sequence = self._live.read
            if len(page.results) < PAGE_ROWS and self._catch_up_ticket is None:
                self._catch_up_ticket = self._live.next_ticket
            self._changed.offer(owned)
            self._changed.tell()
            self._wake()

    # What the scanner calls

    def wait_for_scan(self) -> ScanTask | None:
        """Return the page of a scan to read next, as soon as one is wanted and there is room; None when stopping."""
        with self._changed:
            self._changed.wait_until(lambda: self._stopping or self._scan.has_room)
            if self._stopping or not self._scan.is_under_way:
                return None
            self._queue.scan_page_requested()
            return self._scan.task

    def enter_scan(self, task: ScanTask, page: Page, missing: Collection[str]) -> None:
        """Enter a page of a scan; one of a scan that has begun again meanwhile is dropped.

        `missing` are those of the task's candidates on this page that have no database.
        """
        with self._changed:
            if not self._scan.is_of(task):
                self._queue.scan_finished()
                return
            self._counters.feed_requests += 1
            self._counters.changes_seen += len(page.results)
            self._counters.changes_owned += self._enter_scanned(task, page, missing)
            if self._scan.entered(page):
                self._queue.scan_finished()
            self._settle_scan()
            self._changed.notify_all()
            self._wake()

    # What the workers call

    @property
    def in_flight(self) -> int:
        """Return how many changes are with workers: a number that another thread may change at any moment."""
        return self._queue.active

    def take(self) -> Change | None:
        """Return the next change to act on, as soon as there is one; None when stopping."""
        with self._changed:
            while not self._stopping:
                held = self._queue.held
                now = time.monotonic()
                self._queue.limit_scans(self._pace.most(now))
                change = self._queue.take() if self._queue.active < self._pace.share else None
                if change is not None and change.lane is Lane.SCAN:
                    self._pace.taken(now)
                if self._queue.held > held:
                    # What was passed over leaves room for others to be read.
                    self._changed.tell()
                if change is None:
                    self._changed.wait_for_work(self._pace.next_change(now) if self._queue.scan_waits else None)
                elif self._is_still_due(change):
                    if self._queue.can_scan:
                        # A place that somebody who waits may fill: one that a scanned change has left, or a new one.
                        self._changed.offer(1)
                    return change
                else:
                    self._finish(change)
            return None

    def before_write(self, document_id: str) -> None:
        """Note on disk that a security object is about to be written; raises StoreError."""
        self._store.doubt(document_id)
        with self._changed:
            self._reviews.doubt(document_id)

    def in_doubt(self, document_id: str) -> bool:
        """Say whether the document's security object was begun to be written and not seen to be."""
        # Without the lock: it is one look, by the worker whose own writes make and settle what it looks for.
        return self._reviews.in_doubt(document_id)

    def give_back(self, change: Change, outcome: Outcome) -> None:
        """End the work on a change; one that failed goes to quarantine on disk first. Raises StoreError."""
        with self._changed:
            self._count(change, outcome)
            kept = self._judge(change, outcome)
            if kept is None:
                self._end(change, outcome)
                return
        self._store.quarantine(kept)
        log.warning(
            "user not served; kept in quarantine",
            document=kept.document_id,
            kind=kept.failure.kind,
            failures=kept.failures,
            advice=kept.failure.advice.value,
            error=kept.failure.message,
        )
        with self._changed:
            if kept.document_id not in self._quarantine:
                # Lost to another owner while it was on its way to the disk.
                self._store.released(kept.document_id)
            self._end(change, outcome)

    def exchange(self, change: Change, outcome: Outcome) -> Change | None:
        """Give a change back and take the next one, as `give_back` and `take` do.

        A failure is written to disk in between, without the lock; else the lock is taken once, and without queueing. A
        thread that has queued is given the lock while another has the interpreter, which wants the lock next: with
        workers who have little to do, both changed hands for each user, and that took longer than serving the user.
        """
        if outcome.failure is not None:
            self.give_back(change, outcome)
            return self.take()
        while not self._changed.acquire(blocking=False):
            time.sleep(_PAUSE_SECONDS)
        try:
            self.give_back(change, outcome)
            return self.take()
        finally:
            self._changed.release()

    def abandon(self, change: Change) -> None:
        """Note that nobody will give this change back: it holds the checkpoint, and no end waits for it."""
        log.error("abandoned", document=change.document_id)
        with self._changed:
            self._abandoned += 1
            self._changed.notify_all()

    # What the main thread calls

    def inform(self, ownership: Ownership, coming: Ownership | None, share: int) -> None:
        """Put another ownership in force, let another one come, and set the limit on the work in flight."""
        with self._changed:
            self._pace.share = share
            if ownership != self._ownership:
                self._ownership = ownership
                self._mine = ownership.belongs_to(self._me)
                if self._saved is not None and self._live is not None:
                    self._saved = change_owner(self._progress(self._saved), ownership, self._me, read=self._live.read)
                    self._scan.begin(self._saved, self._me)
                self._let_go()
            self._hold_back(coming)
            self._changed.notify_all()
            self._wake()

    def inherit(self, doubts: Collection[str]) -> None:
        """Take over what was left in doubt of a copy that nobody listens to any more; raises StoreError."""
        for document_id in doubts:
            self._store.doubt(document_id)
        with self._changed:
            for document_id in doubts:
                self._reviews.doubt(document_id)
            self._review([make_review(each, deleted=False, now=time.monotonic()) for each in doubts])

    def leave(self) -> None:
        """Begin to leave the copy to others: give out only the reviews of what was done last."""
        with self._changed:
            self._leaving = True
            self._queue.hold_back(lambda _document_id: True)
            self._review(self._reviews.of_lost(lambda _document_id: False, time.monotonic()))

    def wait_until_left(self, timeout_seconds: float) -> bool:
        """Wait for those reviews; say whether they ended in time."""
        with self._changed:
            return self._changed.wait_until(lambda: not self._queue.reviews and not self._queue.active, timeout_seconds)

    def retry_due(self) -> float | None:
        """Let those of the quarantine whose time has come wait for a worker; return when the next one's comes."""
        now = time.monotonic()
        with self._changed:
            for entry in self._quarantine.take_due(now):
                self._counters.retries += 1
                self._queue.put(
                    Change(
                        entry.document_id,
                        entry.deleted,
                        Lane.RETRY,
                        now,
                        met_in_scan=entry.met_in_scan,
                        contested=entry.contested,
                    )
                )
                self._changed.offer(1)
            self._review(self._reviews.take_due(now))
            return min((due for due in (self._quarantine.next_due(), self._reviews.next_due()) if due), default=None)

    def save(self) -> None:
        """Write the progress to disk; raises StoreError."""
        with self._changed:
            self._progress_told = False
            progress = None if self._saved is None or self._live is None else self._progress(self._saved)
        if progress is not None:
            self._store.save(progress)

    def report(self) -> Report:
        """Return how the listener stands."""
        with self._changed:
            opened = self._live is not None and not self._feed_fails
            scanning = self._scan.is_under_way
            following = Stage.SCANNING if scanning else Stage.FOLLOWING
            return Report(
                beats=self._beats,
                stage=following if opened else Stage.CONNECTING,
                caught_up=opened and not scanning and self._has_caught_up(),
                checkpoint=None if self._live is None else self._live.finished,
                shard_sequence=self._shard_sequence,
                waiting=self._queue.waiting,
                in_flight=self._queue.active,
                quarantined=len(self._quarantine),
                # A copy by encoding: the counters go on changing while the report is under way.
                counters=msgspec.convert(msgspec.to_builtins(self._counters), Counters),
            )

    def stop(self) -> None:
        """Take in nothing more and give out nothing more."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def wait_until_idle(self, timeout_seconds: float) -> bool:
        """Wait for the work in flight; say whether it ended in time."""
        with self._changed:
            return self._changed.wait_until(lambda: self._queue.active == self._abandoned, timeout_seconds)

    # Inside, with the lock held

    def _enter_live(self, page: Page, mark: Watermark) -> int:
        owned = 0
        mine, is_inside = self._mine, self._ownership.is_inside
        before = mark.read
        now = time.monotonic()
        for row in page.results:
            if row.id.startswith(USER_DOCUMENT_PREFIX) and mine(row.id) and is_inside(row.id):
                owned += 1
                self._put(Change(row.id, row.deleted, Lane.LIVE, now, mark, mark.enter(before)))
            before = row.seq
        mark.advance(page.last_seq)
        return owned

    def _enter_scanned(self, task: ScanTask, page: Page, missing: Collection[str]) -> int:
        owned = 0
        mark, in_place = task.mark, task.sweep is Sweep.SECURITY
        contested = task.contested(page, missing)
        before = mark.read
        now = time.monotonic()
        for row in page.results:
            if task.picks(row, missing):
                owned += 1
                change = Change(
                    row.id,
                    row.deleted,
                    Lane.SCAN,
                    now,
                    mark,
                    mark.enter(before),
                    met_in_scan=True,
                    in_place=in_place,
                    contested=row.id in contested,
                )
                self._put(change)
            before = row.seq
        mark.advance(page.last_seq)
        return owned

    def _put(self, change: Change) -> None:
        kept = self._quarantine.get(change.document_id)
        if kept is not None and kept.contradicts(deleted=change.deleted):
            change.contested = True
        self._queue.put(change)

    def _live_has_room(self) -> bool:
        # What is tried again does not count: however many users are in quarantine, the live feed goes first.
        # Nor does what is held back, up to a limit of its own: the documents that keep their owner go on.
        if self._stopping or self._live is None:
            return True
        under_way = self._live.under_way
        return under_way - self._queue.held < _LIVE_WINDOW and under_way < _HELD_WINDOW

    def _settle_scan(self) -> None:
        if self._saved is None or not self._scan.is_finished:
            return
        self._saved = sweep_finished(self._progress(self._saved))
        self._scan.begin(self._saved, self._me)
        if not self._scan.is_under_way:
            self._counters.scans += 1
            log.info("scan finished")

    def _progress(self, saved: Saved) -> Saved:
        checkpoint = saved.checkpoint if self._live is None else self._live.finished
        return msgspec.structs.replace(saved, checkpoint=checkpoint, scan=self._scan.progress(saved.scan))

    def _is_still_due(self, change: Change) -> bool:
        if change.lane is Lane.REVIEW:
            return True
        if not self._mine(change.document_id):
            return False
        return change.lane is not Lane.RETRY or change.document_id in self._quarantine

    def _has_caught_up(self) -> bool:
        if self._live is None or self._catch_up_ticket is None:
            return False
        return self._live.oldest_ticket >= self._catch_up_ticket

    def _judge(self, change: Change, outcome: Outcome) -> Quarantined | None:
        """Draw the conclusions; return what must go to quarantine on disk before the change is finished."""
        if outcome.failure is None:
            self._forget(change, outcome)
        elif change.lane is Lane.REVIEW:
            self._reviews.fail(change, outcome.failure, now=time.monotonic(), chance=random.random())  # noqa: S311
        elif self._mine(change.document_id) and not self._queue.has_waiting(change.document_id):
            return self._quarantine.admit(
                change.document_id,
                outcome.failure,
                deleted=change.deleted,
                now=time.monotonic(),
                wall=time.time(),
                chance=random.random(),  # noqa: S311 - spreads retries, guards nothing
                met_in_scan=change.met_in_scan,
                contested=change.contested,
            )
        return None

    def _forget(self, change: Change, outcome: Outcome) -> None:
        document_id = change.document_id
        if change.lane is Lane.REVIEW:
            self._reviews.succeed(change)
        else:
            self._scan.served(change)
            if outcome.acted_on is not None:
                self._reviews.note(document_id, deleted=outcome.acted_on, now=time.monotonic())
        # Only a security object seen whole, or the end of the database, makes it certain again.
        if outcome.whole or outcome.dropped:
            self._quarantine.release(document_id)
            self._reviews.settle(document_id)
            self._store.served(document_id)
        elif self._quarantine.release(document_id):
            self._store.released(document_id)

    def _let_go(self) -> None:
        """Finish what waits for documents that are others' now, whose owners begin with a scan of their own."""
        self._queue.release_unless(self._mine)
        now = time.monotonic()
        reviews = self._reviews.of_lost(self._mine, now)
        for entry in self._quarantine.release_unless(self._mine):
            self._store.released(entry.document_id)
            if entry.failure.kind == UNCONFIRMED:
                # The next owner's copy may not show yet what this one has shown.
                reviews.append(make_review(entry.document_id, deleted=not entry.deleted, now=now))
        self._review(reviews)

    def _hold_back(self, coming: Ownership | None) -> None:
        """Leave alone what another instance will own, until it does: two must not act on it at the same time."""
        if coming is None:
            self._queue.hold_back(lambda _document_id: False)
        else:
            stays_mine = coming.belongs_to(self._me)
            self._queue.hold_back(lambda document_id: not stays_mine(document_id))

    def _review(self, reviews: Iterable[Change]) -> None:
        for review in reviews:
            self._counters.reviews += 1
            self._queue.review(review)
            self._changed.offer(1)

    def _end(self, change: Change, outcome: Outcome) -> None:
        self._finish(change)
        if change.lane is not Lane.REVIEW and (self._leaving or not self._mine(change.document_id)):
            # Lost while it was under way: its next owner may have acted before this was done. What failed can have done
            # what the row asked for, or nothing.
            acted_on = change.deleted if outcome.failure is not None else outcome.acted_on
            if acted_on is not None:
                self._review([make_review(change.document_id, deleted=acted_on, now=time.monotonic())])

    def _finish(self, change: Change) -> None:
        self._queue.finish(change)
        if change.lane is Lane.SCAN:
            self._pace.finished(time.monotonic(), in_place=change.in_place)
        self._settle_scan()
        # No worker is woken: this change held up one other at most, by its document or its place among those in flight,
        # and whoever gave it back comes for that one. Waking them all for each user took longer than serving the user.
        self._changed.tell()
        if not self._progress_told:
            # Once for all that ends until the next save: the system call lets go of the interpreter, here with the lock
            # held, and whoever gets hold of it then wants the lock.
            self._progress_told = True
            self._wake()

    def _count(self, change: Change, outcome: Outcome) -> None:
        counters = self._counters
        counters.users_provisioned += outcome.provisioned
        counters.users_revoked += outcome.revoked
        counters.databases_created += outcome.created
        counters.databases_dropped += outcome.dropped
        counters.security_writes += outcome.security_written
        if outcome.failure is not None:
            counters.failed(outcome.failure.kind)
        elif change.lane is Lane.LIVE:
            counters.latency.observe(time.monotonic() - change.read_at)
