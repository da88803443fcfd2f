"""A listener's store in memory, and a lock that raises instead of waiting, for tests without threads and time."""

from typing import Protocol

from peruserd.core.audit.rounds import Rounds
from peruserd.core.feed.progress import SavedProgress
from peruserd.core.scheduling.records import Erasure
from peruserd.core.users.quarantine import Quarantined
from peruserd.listener.work_condition import WorkCondition


class WouldBlockError(Exception):
    """The tracker wants to wait for something that only another thread could do."""


class NeverWaits(WorkCondition):
    def wait(self, timeout: float | None = None) -> bool:
        raise WouldBlockError(timeout)

    def wait_for_work(self, timeout_seconds: float | None = None) -> None:
        raise WouldBlockError(timeout_seconds)


class Keeper(Protocol):
    """The part of a store that a tracker uses."""

    def load(self) -> tuple[SavedProgress | None, list[Quarantined], set[str]]: ...
    def save(self, saved: SavedProgress) -> None: ...
    def quarantine(self, entry: Quarantined) -> None: ...
    def record_intent(self, document_id: str) -> None: ...
    def remove_later(self, document_id: str, what: Erasure) -> None: ...
    def close(self) -> None: ...


class Disk:
    """The contents of a store in memory, which outlive its process."""

    def __init__(self) -> None:
        self.saved: SavedProgress | None = None
        self.quarantine: dict[str, Quarantined] = {}
        self.doubts: set[str] = set()
        self.rounds = Rounds()


class MemoryStore:
    """A store on a `Disk`, with the same promises as the one on a real disk, and quicker."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._released: set[str] = set()
        self._certain: set[str] = set()

    def load(self) -> tuple[SavedProgress | None, list[Quarantined], set[str]]:
        return self._disk.saved, list(self._disk.quarantine.values()), set(self._disk.doubts)

    def save(self, saved: SavedProgress) -> None:
        self._disk.saved = saved
        for document_id in self._released:
            self._disk.quarantine.pop(document_id, None)
        self._disk.doubts -= self._certain
        self._released.clear()
        self._certain.clear()

    def quarantine(self, entry: Quarantined) -> None:
        self._released.discard(entry.document_id)
        self._disk.quarantine[entry.document_id] = entry

    def record_intent(self, document_id: str) -> None:
        self._certain.discard(document_id)
        self._disk.doubts.add(document_id)

    def remove_later(self, document_id: str, what: Erasure) -> None:
        if what is not Erasure.DOUBT:
            self._released.add(document_id)
        if what is not Erasure.ENTRY:
            self._certain.add(document_id)

    def rounds(self) -> Rounds:
        return self._disk.rounds

    def keep_rounds(self, rounds: Rounds) -> None:
        self._disk.rounds = rounds

    def close(self) -> None:
        """Keep the contents: they are the disk's."""
