"""The main thread's writes to the state: they go through the gate, and a disk that hangs begins a hold."""

from collections.abc import Callable

from peruserd.listener.disk import Disk
from peruserd.listener.state_gate import StateGate
from peruserd.listener.store import Store


class Saving:
    """Makes these writes by a `disk` of the main thread. `save` writes the progress; raises StoreError."""

    def __init__(self, disk: Disk, gate: StateGate, store: Store, save: Callable[[], None]) -> None:
        self._disk = disk
        self._gate = gate
        self._store = store
        self._write_progress = save

    @property
    def try_at(self) -> float | None:
        """Return when the next write may be made; None while the state can be written."""
        return self._gate.try_at

    def save(self, now: float) -> bool:
        """Write the progress, and return whether that is done. On hold a test write comes first, when it is due."""
        try_at = self._gate.try_at
        return (try_at is None or now >= try_at) and self._done(self._test_and_save)

    def attempt(self, write: Callable[[], None]) -> bool:
        """Write, and return whether that is done. Raises StoreError."""
        return self._done(lambda: self._gate.attempt(write))

    def save_last(self) -> None:
        """Write the progress before the process ends. If the disk takes no writes, the next start repeats work."""
        self.attempt(self._write_progress)

    def _test_and_save(self) -> bool:
        if self._gate.try_at is not None and not self._gate.test(self._store.test):
            return False
        return self._gate.attempt(self._write_progress)

    def _done(self, work: Callable[[], bool]) -> bool:
        done = self._disk.do(work)
        # While the disk hangs no other write can be tried, so the pauses between tries do not grow.
        if self._disk.hangs and self._gate.try_at is None:
            self._gate.hangs(f"cannot keep state in {self._store.path}: the disk does not answer")
        return bool(done)
