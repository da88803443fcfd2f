"""Notes on disk about security objects that are about to be written, and databases that are about to be made.

Each note is on disk before the act begins. So a process that dies in the middle knows later which security objects may
be half written, and a state that cannot be written stops the act before it has begun.
"""

from collections.abc import Callable
from typing import Protocol

from peruserd.core.scheduling.documents import Documents
from peruserd.core.scheduling.records import Erasure
from peruserd.listener.state_gate import PatientStore
from peruserd.listener.work_condition import WorkCondition


class Intents(Protocol):
    """Takes notes of acts before they begin; for any thread. `IntentNotes` does."""

    def before_create(self, document_id: str) -> None:
        """Note that a user's database is about to be made, and its security object to be written after that."""

    def before_write(self, document_id: str, *, is_noted: bool) -> None:
        """Note that the security object is about to be written; `is_noted` says that `before_create` has done so."""

    def withdraw(self, document_id: str) -> None:
        """Take the note of `before_create` back, because nothing was written."""

    def in_doubt(self, document_id: str) -> bool:
        """Say whether a write of the security object was begun, and its end was not seen."""


class IntentNotes:
    """The notes of one listener. A part of the tracker, with its lock; all writes wait while the disk takes none."""

    def __init__(self, documents: Documents, store: PatientStore, lock: Callable[[], WorkCondition]) -> None:
        self._documents = documents
        self._store = store
        self._lock = lock

    def before_create(self, document_id: str) -> None:
        """See `Intents`. The document is in doubt only for a process that starts later."""
        self._store.record_intent(document_id)

    def before_write(self, document_id: str, *, is_noted: bool = False) -> None:
        """See `Intents`. From now on the document is in doubt."""
        if not is_noted:
            self._store.record_intent(document_id)
        with self._lock():
            self._documents.mark_in_doubt(document_id)

    def withdraw(self, document_id: str) -> None:
        """See `Intents`. A doubt of an earlier act stays."""
        if not self.in_doubt(document_id):
            self._store.remove_later(document_id, Erasure.DOUBT)

    def in_doubt(self, document_id: str) -> bool:
        """See `Intents`."""
        # The lock is not needed: it is a single read, and only this worker's own writes set and clear the mark.
        return self._documents.in_doubt(document_id)
