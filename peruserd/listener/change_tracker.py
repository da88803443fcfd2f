"""The state of a listener (what it has read, does and has finished), shared by its threads, guarded by one lock.

The follower and the scanner enter what they read, workers take it and give it back, and the main thread writes the
progress to disk. Nothing is decided here. The decisions are in `core.scheduling.listener_state`; the tracker adds the
lock, the waiting, the clock and the disk.
"""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from peruserd.core.feed.changes import Change
from peruserd.core.feed.progress import Identity
from peruserd.core.feed.rows import Page, Row, Sequence
from peruserd.core.feed.scan import ScanTask
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.processes.messages import Report
from peruserd.core.scheduling.listener_state import ListenerState
from peruserd.listener.failures import Clocks, Failures, log_fights, log_hold
from peruserd.listener.intents import IntentNotes
from peruserd.listener.jitter import jitter
from peruserd.listener.look_requests import LookRequests
from peruserd.listener.outcome import Outcome
from peruserd.listener.state_gate import PatientStore, StateGate
from peruserd.listener.store import Store
from peruserd.listener.work_condition import WorkCondition

# A worker that found the lock taken tries again after this time. At full speed that is the time for a few users, and
# much less than one request takes.
_PAUSE_SECONDS: Final = 0.0001

# How often the follower shows that it is alive while it waits for room. It is well below the silence that a supervisor
# tolerates.
_ROUND_SECONDS: Final = 10.0

log = structlog.get_logger(__name__)


class ChangeTracker(LookRequests):
    """The state of a listener behind its lock.

    `wake` is called, with the lock held, whenever the main thread has something to do. Through `gate` go the main
    thread's writes to the disk, and through `patient_store` those of all others.
    """

    def __init__(self, state: ListenerState, store: Store, wake: Callable[[], None]) -> None:
        self._state = state
        self._store = store
        self._wake = wake
        self._changed = WorkCondition()
        self._save_requested = False
        self._stopping = False
        self._abandoned = 0
        self.gate = StateGate(self._state_changed, _now)
        self.patient_store = PatientStore(store, self.gate)
        self.intents = IntentNotes(state.documents, self.patient_store, lambda: self._changed)
        self.failures = Failures(
            state,
            self.patient_store,
            lock=lambda: self._changed,
            clocks=Clocks(_now, _wall, jitter),
            pass_on=self._pass_on_to_all,
            ended=lambda scan_ended: self._ended(scan_ended=scan_ended),
            is_stopping=lambda: self._stopping,
        )

    # For the follower

    @property
    def proof(self) -> tuple[Row, ...]:
        """Return the rows that prove what was read, oldest first; before `open`, the rows from the disk.

        Only the follower may call this, because it alone changes them.
        """
        return self._state.intake.proof

    def open(self, identity: Identity) -> None:
        """Begin, or go on where the checkpoint says; called once, before the first page."""
        with self._changing():
            why = self._state.open(identity, time.monotonic())
            saved = self._state.intake.progress
            scan = None if saved is None else saved.scan
            log.info(
                "following",
                since=self._state.intake.checkpoint,
                scanning_to=None if scan is None else scan.until,
                position=None if scan is None else scan.position,
                why=why,
            )

    def note_round(self) -> None:
        """Note a round of the feed loop: the listener's sign of life."""
        with self._changed:
            self._state.rounds += 1
            self._wake()

    def feed_failed(self, kind: str) -> None:
        """Note that the feed cannot be read for now."""
        with self._changed:
            self._state.feed_failed(kind)
            self._wake()

    def wait_for_room(self) -> Sequence | None:
        """Return the sequence to read live from, as soon as there is room for a page; None when stopping."""
        with self._changed:
            while not self._changed.wait_until(lambda: self._stopping or self._state.live_has_room, _ROUND_SECONDS):
                # Waiting for workers on a slow cluster is not a hang.
                self.note_round()
            return None if self._stopping else self._state.intake.read

    def enter_live(self, page: Page) -> None:
        """Enter a page of the live feed."""
        with self._changed:
            self._state.enter_live(page, time.monotonic())
            self._pass_on()
            self._changed.notify_if_ready()
            self._wake()

    # For the scanner

    def wait_for_scan(self) -> ScanTask | None:
        """Return the page of a scan to read next, as soon as one is wanted and there is room; None when stopping."""
        with self._changed:
            self._changed.wait_until(lambda: self._stopping or self._state.intake.scan_has_room)
            return None if self._stopping else self._state.scan_task()

    def enter_scan(self, task: ScanTask, page: Page, missing: Collection[str]) -> None:
        """Enter a page of a scan; a page is ignored if its scan has begun again meanwhile.

        `missing` are the documents of `ScanTask.to_check` without a database.
        """
        with self._changing():
            self._note_scan(ended=self._state.enter_scan(task, page, missing, time.monotonic()))

    # For the workers

    @property
    def in_flight(self) -> int:
        """Return how many changes are with workers: a number that another thread may change at any moment."""
        return self._state.documents.active

    def take(self) -> Change | None:
        """Return the next change to act on, as soon as there is one; None when stopping."""
        dispatch, documents = self._state.dispatch, self._state.documents
        with self._changed:
            while not self._stopping:
                parked = documents.parked
                now = time.monotonic()
                change = dispatch.next(now)
                if documents.parked > parked:
                    # The dispatch has set changes aside. That makes room for reading more, and such a change can become
                    # due later.
                    self._changed.notify_if_ready()
                    self._wake()
                if change is not None:
                    if more := dispatch.to_wake(now):
                        self._changed.notify_workers(more)
                    return change
                self._changed.wait_for_work(dispatch.patience(now))
            return None

    def give_back(self, change: Change, outcome: Outcome) -> None:
        """End the work on a change; a failed one first goes to quarantine on disk. Raises StoreError."""
        if outcome.failure is None:
            with self._changed:
                self._ended(scan_ended=self._state.succeeded(change, outcome, time.monotonic()))
            return
        self.failures.take(change, outcome, outcome.failure)

    def exchange(self, change: Change, outcome: Outcome) -> Change | None:
        """Give a change back and take the next one, as `give_back` and `take` do.

        A failure is written to disk in between, without the lock. Otherwise the lock is taken once. The lock is polled,
        because waiting in its queue was slow (measured). Each handover of the lock also forced a handover of the GIL,
        and that took longer than serving a user.
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
        """Note that nobody will give this change back: the checkpoint stays before it, and no stop waits for it."""
        log.error("abandoned", document=change.document_id)
        with self._changed:
            self._abandoned += 1
            self._changed.notify_all()

    # For the main thread

    def inform(
        self,
        ownership: Ownership,
        upcoming: Ownership | None,
        share: int,
        new_per_minute: int = 0,
        nodes: Collection[str] = (),
        *,
        cut_off: bool = False,
    ) -> None:
        """Put an ownership in force, note the upcoming one, set the limits, and note the connected nodes."""
        with self._changing():
            self._state.inform(ownership, upcoming, share, new_per_minute, nodes, time.monotonic(), cut_off=cut_off)

    def recall_for(self, seconds: float) -> None:
        """Remember acts of this time from now on, to look at them again after a change of owner."""
        with self._changed:
            self._state.documents.recall_seconds = seconds

    def take_over_doubts(self, doubts: Collection[str]) -> None:
        """Take over the documents in doubt of a copy without a listener; raises StoreError."""
        for document_id in doubts:
            self._store.record_intent(document_id)
        with self._changed:
            self._state.take_over_doubts(doubts, time.monotonic())
            self._pass_on()

    def leave(self) -> None:
        """Begin to hand the copy over: from now on give workers only the reviews of the latest work."""
        with self._changed:
            self._state.leave(time.monotonic())
            self._pass_on()

    def wait_until_left(self, timeout_seconds: float) -> bool:
        """Wait for the reviews of `leave`; say whether they ended in time."""
        documents = self._state.documents
        with self._changed:
            return self._changed.wait_until(
                lambda: not documents.reviews and self.in_flight == self._abandoned, timeout_seconds
            )

    def queue_due(self) -> float | None:
        """Queue the quarantined users whose time has come for a worker; return when the next one is due."""
        with self._changed:
            due = self._state.queue_due(time.monotonic())
            self._pass_on()
            # A scan may have begun.
            self._changed.notify_if_ready()
            return due

    def save(self) -> None:
        """Write the progress to disk; raises StoreError."""
        with self._changed:
            self._save_requested = False
            # The progress is saved also before the copy is open. The supervisor forgets a request to compare names once
            # the listener reports it. So the owed scan must be on disk before that.
            progress = self._state.intake.progress
        if progress is not None:
            self._store.save(progress)

    def report(self) -> Report:
        """Return how the listener stands."""
        with self._changed:
            return self._state.report()

    def stop(self) -> None:
        """Accept no more pages, and give workers no more changes."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def wait_until_idle(self, timeout_seconds: float) -> bool:
        """Wait for the work in flight; say whether it ended in time."""
        with self._changed:
            return self._changed.wait_until(lambda: self.in_flight == self._abandoned, timeout_seconds)

    # Inside

    def _now(self) -> float:
        return _now()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the lock for a large change, and wake every thread afterwards."""
        with self._changed:
            yield
            self._pass_on()
            self._changed.notify_all()
            self._wake()

    def _state_changed(self, trouble: str | None) -> None:
        with self._changed:
            self._state.hold_for_state(trouble)
            if trouble is None:
                self._changed.notify_all()
            self._wake()

    def _pass_on_to_all(self) -> None:
        self._pass_on()
        self._changed.notify_if_ready()
        self._wake()

    def _pass_on(self) -> None:
        state = self._state
        for document_id, what in state.removals:
            self._store.remove_later(document_id, what)
        if wake := state.to_wake + state.cluster_hold.to_wake:
            self._changed.notify_workers(wake)
        log_hold(state.cluster_hold)
        log_fights(state.restless_documents)
        state.clear_results()

    def _ended(self, *, scan_ended: bool) -> None:
        self._pass_on()
        self._note_scan(ended=scan_ended)
        # No worker is woken. A finished change frees at most one other: the next change of its document, or one that
        # waited for a free slot. The worker of this change takes that one next. Waking all workers for each user took
        # longer than serving the user.
        self._changed.notify_if_ready()
        if not self._save_requested:
            # The main thread is woken once until the next save. The system call releases the GIL while this thread
            # holds the lock, and a thread that then gets the GIL wants the lock as well.
            self._save_requested = True
            self._wake()

    def _note_scan(self, *, ended: bool) -> None:
        if ended:
            log.info("scan finished")


# These functions are looked up at each call, because tests replace them.


def _now() -> float:
    return time.monotonic()


def _wall() -> float:
    return time.time()
