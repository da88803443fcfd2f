"""Databases of users that are not there: whether somebody else deleted one, and which ends are no loss.

The rule is `core.deletions.lives`'; the node's list of databases and the journal of deletions know the facts.
"""

from peruserd.couch.client import Client
from peruserd.couch.lives import ended_life
from peruserd.listener.deletion_desk import DeletionDesk


def is_deleted_by_others(client: Client, deletions: DeletionDesk, database: str) -> bool:
    """Say whether a database that is not there was deleted by somebody, and is missed; raises CouchError."""
    life = ended_life(client, database)
    return life is not None and not deletions.knows_end(database, life)


def note_end(client: Client, deletions: DeletionDesk, database: str) -> None:
    """Write down that the database of a deleted user is gone, which a user who signs up later does not miss.

    Raises CouchError.
    """
    life = ended_life(client, database)
    if life is not None:
        deletions.note_end(database, life)
