"""The part of the journal of deletions that serving a user needs."""

from typing import Protocol


class DeletionNotes(Protocol):
    """The part of the journal of deletions that the provisioner needs; see `listener.deletions`."""

    def note(self, document_id: str, database: str, revision: str, sequence: int | str | None) -> None:
        """Write down that the database is to be dropped; raises CouchError."""

    def admits(self, document_id: str, database: str) -> bool:
        """Say whether the operator has let a returned user in; raises CouchError."""

    def knows(self, document_id: str) -> bool:
        """Say whether the journal may know of a user who was deleted."""

    def let_drop_end(self, document_id: str) -> None:
        """Wait while the user's database is being dropped; called after the document was read (see `DropsUnderWay`)."""

    def knows_end(self, database: str, life: str) -> bool:
        """Say whether the end of this life of a database is no loss (see `core.deletions.lives`); raises CouchError."""

    def note_end(self, database: str, life: str) -> None:
        """Write down that the end of this life of a database is no loss; raises CouchError."""

    def served(self, document_id: str) -> None:
        """Note that the user exists and was served."""
