"""The gate before a listener's state on disk: work waits here while the disk takes no writes.

`core.scheduling.state_hold` decides. The main thread has the test writes made. All other threads wait with their
write, and make it again once one has succeeded. So nothing is half done, and no process has to be started again.

A disk that hangs counts as one that takes no writes. The main thread notices it, because no other may wait without end.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from peruserd import threads
from peruserd.core.audit.rounds import Rounds
from peruserd.core.deletions.journal import Entry
from peruserd.core.scheduling.records import Erasure
from peruserd.core.scheduling.state_hold import StateHold
from peruserd.core.users.quarantine import Quarantined
from peruserd.couch.errors import InterruptedRequestError
from peruserd.listener.store import DiskError, Store

log: Final = structlog.get_logger(__name__)


class StateGate:
    """Lets writes through, one by one; for any thread.

    `on_change` is called with the reason when a hold begins, and with None when it ends.
    """

    def __init__(self, on_change: Callable[[str | None], None], clock: Callable[[], float]) -> None:
        self._on_change = on_change
        self._clock = clock
        self._changed = threading.Condition()
        self._hold = StateHold()
        self._closed = False

    @property
    def try_at(self) -> float | None:
        """Return when the next test write is due; None while the state can be written."""
        return None if self._hold.why is None else self._hold.try_at

    def keep(self, write: Callable[[], None]) -> None:
        """Write, and wait before that while the disk takes no writes. Not for the main thread.

        Raises StoreError if the file is unusable, and InterruptedRequestError if the listener stops meanwhile.
        """
        # To wait for the disk is no fault of this thread.
        with threads.WAITING:
            while not self.attempt(write):
                with self._changed:
                    self._changed.wait_for(lambda: self._closed or self._hold.why is None)
                if self._closed:
                    raise InterruptedRequestError("the state cannot be written, and the listener stops")

    def attempt(self, write: Callable[[], None]) -> bool:
        """Write, and return whether that succeeded; if the disk takes no writes, the hold begins. Raises StoreError."""
        try:
            write()
        except DiskError as error:
            self._failed(str(error))
            return False
        return True

    def test(self, write: Callable[[], None]) -> bool:
        """Make the test write that is due, and return whether the hold is over. For one thread at a time."""
        if not self.attempt(write):
            return False
        with self._changed:
            now = self._clock()
            self._hold = self._hold.written(now)
            self._changed.notify_all()
        log.info("the state can be written again: all who waited are taken up", seconds=round(now - self._hold.since))
        self._on_change(None)
        return True

    def hangs(self, why: str) -> None:
        """Begin the hold, because a write has not ended in time."""
        self._failed(why)

    def close(self) -> None:
        """Let nobody wait any more, because the listener stops."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _failed(self, why: str) -> None:
        with self._changed:
            before, self._hold = self._hold, self._hold.failed(why, self._clock())
            hold = self._hold
        if hold is before:
            return
        if hold.is_new:
            log.warning("on hold: the state cannot be written, so no user is tried", why=why)
        self._on_change(why)


class PatientStore:
    """A store behind the gate: each write waits until the disk takes it. Not for the main thread."""

    def __init__(self, store: Store, gate: StateGate) -> None:
        self._store = store
        self._gate = gate

    def record_intent(self, document_id: str) -> None:
        """Note that a security object is about to be written."""
        self._gate.keep(lambda: self._store.record_intent(document_id))

    def remove_later(self, document_id: str, what: Erasure) -> None:
        """Remove a user's quarantine, doubt or both with the next save, which writes nothing now."""
        self._store.remove_later(document_id, what)

    def quarantine(self, entry: Quarantined) -> None:
        """Keep a user in quarantine."""
        self._gate.keep(lambda: self._store.quarantine(entry))

    def deletions(self) -> list[Entry]:
        """Return the kept deletions."""
        with threads.WAITING:
            return self._store.deletions()

    def keep_deletions(self, entries: Iterable[Entry]) -> None:
        """Keep entries of the journal."""
        kept = list(entries)
        self._gate.keep(lambda: self._store.keep_deletions(kept))

    def replace_deletions(self, entries: Iterable[Entry]) -> None:
        """Keep these entries and no others."""
        kept = list(entries)
        self._gate.keep(lambda: self._store.replace_deletions(kept))

    def forget_deletions(self, ids: Iterable[str]) -> None:
        """Remove these entries."""
        gone = list(ids)
        self._gate.keep(lambda: self._store.forget_deletions(gone))

    def rounds(self) -> Rounds:
        """Return the rounds of the audit."""
        with threads.WAITING:
            return self._store.rounds()

    def keep_rounds(self, rounds: Rounds) -> None:
        """Keep the rounds of the audit."""
        self._gate.keep(lambda: self._store.keep_rounds(rounds))
