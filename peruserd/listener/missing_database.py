"""A missing database of a user: whether somebody else deleted it, and whether that was expected.

`core.deletions.lives` has the rule. The facts are in the node's list of databases and in the journal of deletions.
"""

from peruserd.couch.client import Client
from peruserd.couch.lives import ended_life
from peruserd.listener.deletion_notes import DeletionNotes


def is_deleted_by_others(client: Client, deletions: DeletionNotes, database: str) -> bool:
    """Say whether somebody else deleted this missing database, and no entry explains it; raises CouchError."""
    life = ended_life(client, database)
    return life is not None and not deletions.knows_end(database, life)


def note_end(client: Client, deletions: DeletionNotes, database: str) -> None:
    """Write down that the database of a deleted user is gone, so that nobody is warned when the user signs up again.

    Raises CouchError.
    """
    life = ended_life(client, database)
    if life is not None:
        deletions.note_end(database, life)
