"""Acts of others on whole databases: they delete a user's database, make one, and open it to everybody.

They are clumsy, not evil: an operator with curl, a restore, an application. Each act is one request through a node, by
the simulated cluster's own rules.
"""

from collections.abc import Collection
from typing import Any, Final

from peruserd.core.common.names import database_name, user_document_id, user_name
from peruserd.simcluster.events.damage import Damage
from peruserd.simcluster.model import documents
from peruserd.simcluster.model.errors import RefusalError
from peruserd.simcluster.model.nodes import Node
from tests.model.foes import PREFIX
from tests.model.witness import ObservedCluster

# The database of a user who never existed: no act may touch it.
UNKNOWN_USER: Final = user_document_id("zoe")
UNKNOWN: Final = database_name(PREFIX, "zoe")


def securities(user: str) -> tuple[dict[str, Any], ...]:
    """Return the security objects that others write; all but the last are open to everybody."""
    return (
        {},
        {"admins": {"names": [], "roles": []}, "members": {"names": [], "roles": []}},
        {"admins": {"names": [user]}, "members": {}},
        {"admins": {"names": ["op"]}},
        {"members": {"names": ["op"], "roles": []}, "admins": {"roles": ["_admin"]}},
    )


class OthersActs:
    """Acts of others on users' databases; an act that the cluster refuses has no effect."""

    def __init__(self, model: ObservedCluster) -> None:
        self._model = model
        self._damage = Damage(model)

    def delete(self, node: Node, document_id: str) -> None:
        """Delete a user's database."""
        database = _database(document_id)
        if not node.alive or node.database(database) is None:
            return
        self._model.witness.others_delete(document_id, database)
        self._model.delete_database(node, database)

    def make(self, node: Node, document_id: str, kind: int | None) -> None:
        """Make a user's database; write a security object of some kind into it, or keep the server's default."""
        database = _database(document_id)
        if not node.alive or node.database(database) is not None:
            return
        self._model.create_database(node, database, q=1, n=len(self._model.nodes))
        self._model.witness.others_make(database)
        if kind is not None:
            self._write(node, document_id, kind)

    def open(self, node: Node, document_id: str, kind: int, nodes: Collection[Node] = ()) -> None:
        """Write a security object of some kind into some single copies, or into all at once."""
        if not node.alive or node.database(_database(document_id)) is None:
            return
        if nodes:
            self._write_copies(document_id, kind, nodes)
        else:
            self._write(node, document_id, kind)

    def _write(self, node: Node, document_id: str, kind: int) -> None:
        database, wanted = _database(document_id), securities(user_name(document_id) or "")[kind]
        try:
            self._model.map_of(node, database)
            copies = self._model.copies_of(node, database)
            self._model.witness.others_write(database, copies, wanted)
            self._model.witness.rewritten.add(database)
            documents.write_security(self._model, node, database, wanted)
        except RefusalError:
            return

    def _write_copies(self, document_id: str, kind: int, nodes: Collection[Node]) -> None:
        database, wanted = _database(document_id), securities(user_name(document_id) or "")[kind]
        for node in nodes:
            if node.alive and (copies := node.holdings.get(database)):
                self._model.witness.others_write(database, copies, wanted)
                self._model.witness.rewritten.add(database)
                self._damage.set_security(node, database, wanted, None)


def _database(document_id: str) -> str:
    return database_name(PREFIX, user_name(document_id) or "")
