"""The failures of users: they go to quarantine on disk, or wait in memory until the cause is known.

A part of the tracker, with its lock. `core.scheduling.circuit` decides, and a thread asks the cluster for the facts.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NamedTuple

import structlog

from peruserd.core.feed.changes import Change
from peruserd.core.scheduling.cluster_hold import ClusterHold
from peruserd.core.scheduling.listener_state import ListenerState
from peruserd.core.scheduling.records import Erasure, Record
from peruserd.core.users.inquiries import MAX_ON_A_PAGE, Inquiry, InquiryPage, KeptUser, QuarantineAction
from peruserd.core.users.quarantine import RESTLESS_DATABASE, Failure, Quarantined
from peruserd.listener.outcome import Outcome
from peruserd.listener.state_gate import PatientStore
from peruserd.listener.work_condition import WorkCondition

# When more users than this wait for copies on nodes, one line in so many seconds stands for all of them.
_MANY: Final = 100
_LOG_SECONDS: Final = 60.0

log: Final = structlog.get_logger(__name__)


class Clocks(NamedTuple):
    """The clocks of a tracker, `now` the monotonic one, and its `chance`, a random number of [0, 1)."""

    now: Callable[[], float]
    wall: Callable[[], float]
    chance: Callable[[], float]


class Failures:
    """The failures of a listener's users.

    - `pass_on` is called with the lock held after the state has changed.
    - `ended` is called with the lock held after work has ended. Its argument says whether a scan ended with it.
    - `is_stopping` says whether the listener stops, and nobody should wait any more.
    """

    def __init__(
        self,
        state: ListenerState,
        store: PatientStore,
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
        self._logged_at = float("-inf")

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
        cluster_hold = self._state.cluster_hold
        with self._lock():
            while not self._is_stopping():
                due = cluster_hold.probe_at
                wait = None if due is None else due - self._clocks.now()
                if wait is not None and wait <= 0:
                    cluster_hold.began(self._clocks.now())
                    return True
                self._lock().wait_until(partial(self._is_new, due), wait)
            return False

    def _is_new(self, due: float | None) -> bool:
        return self._is_stopping() or self._state.cluster_hold.probe_at != due

    def probed(self, why: str | None) -> None:
        """Note the reason why the cluster serves nobody, None where it serves.

        Users whose failure is their own go to quarantine on disk then. Raises StoreError.
        """
        state = self._state
        with self._lock():
            blamed = state.cluster_hold.answered(why, chance=self._clocks.chance(), now=self._clocks.now())
            alone = [each for blame in blamed for each in state.documents.take_set_aside(blame.before)]
            self._pass_on()
        for change, failure in alone:
            with self._lock():
                kept = self._noted(partial(state.judged, change, failure))
            self._put_away(change, kept, state.put_away)

    # For the operator

    def inquire(self, inquiry: Inquiry) -> InquiryPage:
        """Answer a question about the quarantine, and do what it requests with the users on the page."""
        documents = self._state.documents
        with self._lock():
            now = self._clocks.now()
            found = documents.quarantined_after(
                inquiry.after, MAX_ON_A_PAGE + 1, among=inquiry.document_ids, kind=inquiry.kind
            )
            page = found[:MAX_ON_A_PAGE]
            users = tuple(_shown(documents.record(each), now) for each in page)
            for document_id in page if inquiry.action is not QuarantineAction.LIST else ():
                if inquiry.action is QuarantineAction.FORGET:
                    documents.release(document_id)
                    self._state.removals.append((document_id, Erasure.ENTRY))
                else:
                    self._state.counters.retries += documents.retry(document_id, now)
                    self._state.dispatch.hurry(document_id)
                # The retry, and a change that was held back behind it, wait for a worker now.
                self._state.to_wake += 1
            self._pass_on()
        return InquiryPage(inquiry.number, users, more=len(found) > len(page))

    def _noted(self, note: Callable[..., Quarantined | None]) -> Quarantined | None:
        """Note a failure, with the lock held; return the entry that must be on disk before the work ends."""
        owed = self._state.intake.owed_at
        clocks = self._clocks
        kept = note(now=clocks.now(), wall=clocks.wall(), chance=clocks.chance())
        self._pass_on()
        if owed is None and self._state.intake.owed_at is not None:
            log.warning("the quarantine is full; who fails from now on is looked for by a scan, in an hour")
        return kept

    def _put_away(self, change: Change, kept: Quarantined | None, end: Callable[[Change, float], bool]) -> None:
        """Write the entry to disk, without the lock, and then end the work."""
        if kept is not None:
            self._keep(kept)
        with self._lock():
            if kept is not None and self._state.documents.record(change.document_id).kept is None:
                # Another instance has become the owner while the entry was being written.
                self._store.remove_later(change.document_id, Erasure.ENTRY)
            self._ended(end(change, self._clocks.now()))

    def _keep(self, entry: Quarantined) -> None:
        self._store.quarantine(entry)
        awaited = self._state.documents.recovery.awaited
        if entry.waits_for and awaited > _MANY:
            # They all have one reason, and the operator need not read it a thousand times.
            if (now := self._clocks.now()) - self._logged_at >= _LOG_SECONDS:
                self._logged_at = now
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


def log_hold(cluster_hold: ClusterHold) -> None:
    """Log the beginning of a hold, and its end."""
    if cluster_hold.begun is not None:
        log.warning("on hold: the cluster serves nobody, so no user is tried", why=cluster_hold.begun)
    if cluster_hold.over is not None:
        log.info(
            "the cluster serves again: all who waited are taken up",
            waited=cluster_hold.over.waited,
            seconds=round(cluster_hold.over.seconds, 1),
        )
    cluster_hold.clear_results()


def log_fights(document_ids: Iterable[str]) -> None:
    """Log each user whose database somebody deletes again and again."""
    for document_id in document_ids:
        log.warning(
            "somebody deletes a user's database again and again; it is made once a minute",
            document=document_id,
            kind=RESTLESS_DATABASE,
        )


def _shown(record: Record, now: float) -> KeptUser:
    """Return a user in quarantine as an operator sees it."""
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
