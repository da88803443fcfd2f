"""The part of the journal of deletions that serving a user needs."""

from typing import Protocol


class DeletionDesk(Protocol):
    """The part of the journal of deletions that the provisioner needs; see `listener.deletions`."""

    def note(self, document_id: str, database: str, revision: str, sequence: int | str | None) -> None:
        """Write down that the database is to be dropped; raises CouchError."""

    def admits(self, document_id: str, database: str) -> bool:
        """Say whether the operator lets a user in who came back; raises CouchError."""

    def knows(self, document_id: str) -> bool:
        """Say whether the journal may know of a user who was deleted."""

    def has_dropped(self, database: str) -> bool:
        """Say whether the journal knows that the database was dropped; raises CouchError."""

    def served(self, document_id: str) -> None:
        """Note that a user is there."""
