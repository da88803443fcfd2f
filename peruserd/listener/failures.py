"""The failures of users: they go to quarantine on disk, or wait in memory until it is known who is to blame.

A part of the tracker, with its lock. `core.work.circuit` decides, and a thread asks the cluster what it wants to know.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NamedTuple

import structlog

from peruserd.core.feed.changes import Change
from peruserd.core.users.inquiries import MAX_ON_A_PAGE, Inquiry, InquiryPage, KeptUser, Wish
from peruserd.core.users.quarantine import RESTLESS_DATABASE, Failure, Quarantined
from peruserd.core.work.listener_state import ListenerState
from peruserd.core.work.records import Record, Removal
from peruserd.core.work.standstill import Standstill
from peruserd.listener.outcome import Outcome
from peruserd.listener.store import Store
from peruserd.listener.waiting import WorkCondition

# Of more users who wait for copies on nodes than this, one line in so many seconds tells of all.
_MANY: Final = 100
_TOLD_SECONDS: Final = 60.0

log: Final = structlog.get_logger(__name__)


class Clocks(NamedTuple):
    """The clocks of a tracker, `now` the monotonic one, and its `chance`, a random number of [0, 1)."""

    now: Callable[[], float]
    wall: Callable[[], float]
    chance: Callable[[], float]


class Failures:
    """The failures of a listener's users.

    `pass_on` is called, with the lock held, after the state has changed, and `ended` after work has ended; that one is
    told whether a scan ended with it. `is_stopping` says whether nobody is to wait any more.
    """

    def __init__(
        self,
        state: ListenerState,
        store: Store,
        *,
        lock: Callable[[], WorkCondition],
        clocks: Clocks,
        pass_on: Callable[[], None],
        ended: Callable[[bool], None],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._state = state
        self._store = store
        self._lock = lock
        self._clocks = clocks
        self._pass_on = pass_on
        self._ended = ended
        self._is_stopping = is_stopping
        self._told_at = float("-inf")

    def take(self, change: Change, outcome: Outcome, failure: Failure) -> None:
        """End work that failed. Raises StoreError."""
        with self._lock():
            if self._state.set_aside(change, outcome, failure, self._clocks.now()):
                self._ended(False)  # noqa: FBT003 - a callback
                return
            kept = self._noted(partial(self._state.failed, change, outcome, failure))
        self._put_away(change, kept, partial(self._state.given_up, created=outcome.created))

    def wait_for_probe(self) -> bool:
        """Wait until a probe of the cluster is due, and note that it begins; False when stopping."""
        standstill = self._state.standstill
        with self._lock():
            while not self._is_stopping():
                due = standstill.probe_at
                wait = None if due is None else due - self._clocks.now()
                if wait is not None and wait <= 0:
                    standstill.began(self._clocks.now())
                    return True
                self._lock().wait_until(partial(self._is_new, due), wait)
            return False

    def _is_new(self, due: float | None) -> bool:
        return self._is_stopping() or self._state.standstill.probe_at != due

    def probed(self, why: str | None) -> None:
        """Note what keeps the cluster from serving, None where nothing does.

        Users who failed alone go to quarantine on disk then. Raises StoreError.
        """
        state = self._state
        with self._lock():
            blamed = state.standstill.answered(why, chance=self._clocks.chance(), now=self._clocks.now())
            alone = [each for blame in blamed for each in state.documents.blamed(blame.before)]
            self._pass_on()
        for change, failure in alone:
            with self._lock():
                kept = self._noted(partial(state.judged, change, failure))
            self._put_away(change, kept, state.put_away)

    # For the operator

    def inquire(self, inquiry: Inquiry) -> InquiryPage:
        """Answer a question about the quarantine, and do with those on the page what is wished."""
        documents = self._state.documents
        with self._lock():
            now = self._clocks.now()
            found = documents.kept_after(
                inquiry.after, MAX_ON_A_PAGE + 1, among=inquiry.document_ids, kind=inquiry.kind
            )
            page = found[:MAX_ON_A_PAGE]
            users = tuple(_shown(documents.record(each), now) for each in page)
            for document_id in page if inquiry.wish is not Wish.LIST else ():
                if inquiry.wish is Wish.FORGET:
                    documents.release(document_id)
                    self._state.removals.append((document_id, Removal.RELEASED))
                else:
                    self._state.counters.retries += documents.retry(document_id, now)
                    self._state.dispatch.hurry(document_id)
                # A look that a retry was to do for as well waits for a worker now, and so does a change that was held.
                self._state.to_wake += 1
            self._pass_on()
        return InquiryPage(inquiry.number, users, more=len(found) > len(page))

    def _noted(self, note: Callable[..., Quarantined | None]) -> Quarantined | None:
        """Note a failure, with the lock held; return what is to be on disk before the work ends."""
        owed = self._state.intake.owed_at
        clocks = self._clocks
        kept = note(now=clocks.now(), wall=clocks.wall(), chance=clocks.chance())
        self._pass_on()
        if owed is None and self._state.intake.owed_at is not None:
            log.warning("the quarantine is full; who fails from now on is looked for by a scan, in an hour")
        return kept

    def _put_away(self, change: Change, kept: Quarantined | None, end: Callable[[Change, float], bool]) -> None:
        """Write what is kept to disk, without the lock, and end the work then."""
        if kept is not None:
            self._keep(kept)
        with self._lock():
            if kept is not None and self._state.documents.record(change.document_id).kept is None:
                # Lost to another owner while it was on its way to the disk.
                self._store.take_off(change.document_id, Removal.RELEASED)
            self._ended(end(change, self._clocks.now()))

    def _keep(self, entry: Quarantined) -> None:
        self._store.quarantine(entry)
        awaited = self._state.documents.recovery.awaited
        if entry.waits_for and awaited > _MANY:
            # All of them for one reason, which the operator need not read a thousand times.
            if (now := self._clocks.now()) - self._told_at >= _TOLD_SECONDS:
                self._told_at = now
                log.warning(
                    "copies on nodes cannot be read; their users are kept in quarantine, and tried by and by",
                    users=awaited,
                    nodes=entry.waits_for,
                    error=entry.failure.message,
                )
            return
        log.warning(
            "user not served; kept in quarantine",
            document=entry.document_id,
            kind=entry.failure.kind,
            failures=entry.failures,
            advice=entry.failure.advice.value,
            error=entry.failure.message,
        )


def log_standstill(standstill: Standstill) -> None:
    """Write one line for a hold that has begun, and one for one that is over."""
    if standstill.begun is not None:
        log.warning("on hold: the cluster serves nobody, so no user is tried", why=standstill.begun)
    if standstill.over is not None:
        log.info(
            "the cluster serves again: all who waited are taken up",
            waited=standstill.over.waited,
            seconds=round(standstill.over.seconds, 1),
        )
    standstill.passed_on()


def log_fights(document_ids: Iterable[str]) -> None:
    """Write one line for each user whose database was made again, and is deleted by somebody again and again."""
    for document_id in document_ids:
        log.warning(
            "somebody deletes a user's database again and again; it is made once a minute",
            document=document_id,
            kind=RESTLESS_DATABASE,
        )


def _shown(record: Record, now: float) -> KeptUser:
    """Return a user in quarantine as people are told."""
    kept = record.kept
    if kept is None:
        raise RuntimeError("the user is not in quarantine")
    failure = kept.failure
    return KeptUser(
        document=kept.document_id,
        deleted=kept.deleted,
        kind=failure.kind,
        error=failure.message,
        advice=failure.advice.value,
        failures=kept.failures,
        since=kept.since,
        passing=failure.is_passing,
        waits_for=failure.waits_for,
        next_try_in=None if record.due is None else max(0.0, record.due - now),
    )
