"""Damage to single copies of a shard: lost and foreign security objects, lost documents, restored files. Pure."""

from collections.abc import Iterable
from typing import Any

import msgspec

from peruserd.simcluster.model import errors, ids
from peruserd.simcluster.model.cluster_model import ClusterModel
from peruserd.simcluster.model.copies import ShardCopy, Snapshot
from peruserd.simcluster.model.nodes import Node


class Backup(msgspec.Struct, frozen=True):
    """The content of a node's copies of a database at one moment, by the path of each."""

    node: Node
    database: str
    copies: dict[str, Snapshot]


class Damage:
    """Does damage, and keeps the backups from which copies are restored."""

    def __init__(self, model: ClusterModel) -> None:
        self._model = model
        self._backups: list[Backup] = []

    def set_security(self, node: Node, database: str, security: Any, covered: str | None) -> None:
        """Replace the security object of one node's copies. CouchDB's own repair works as usual after that."""
        for copy in self._copies(node, database, covered):
            copy.set_security(security)
        self._model.note_damage(database)

    def forget(self, node: Node, database: str, document_ids: Iterable[str]) -> None:
        """Let a node's copies lose documents. LookupError for a document that they do not have.

        The loss stays until the document is written or repaired, because no copy replicates it a second time.
        """
        for document_id in document_ids:
            named = ids.from_path(document_id)
            if not any(copy.forget(named) for copy in self._copies(node, database)):
                raise LookupError(f"{node.name} has no document {document_id} in {database}")

    def back_up(self, node: Node, database: str) -> int:
        """Back up a node's copies of a database. Return the number of the backup."""
        copies = {copy.path: copy.snapshot() for copy in self._copies(node, database)}
        self._backups.append(Backup(node, database, copies))
        return len(self._backups) - 1

    def restore(self, number: int) -> None:
        """Restore a backup, under the same uuids. All other copies then replicate to the restored ones.

        LookupError where there is no such backup, or where all its copies are gone.
        """
        if not 0 <= number < len(self._backups):
            raise LookupError(f"there is no backup {number}")
        backup = self._backups[number]
        restored = [copy for copy in self._copies(backup.node, backup.database) if copy.path in backup.copies]
        if not restored:
            raise errors.no_shard()
        for copy in restored:
            copy.restore(backup.copies[copy.path])
        self._model.note_damage(backup.database)
        for node in self._model.nodes:
            for other in node.holdings.get(backup.database, ()) if node is not backup.node else ():
                for document_id in other.docs:
                    self._model.spread(backup.database, document_id, other)

    def _copies(self, node: Node, database: str, covered: str | None = None) -> list[ShardCopy]:
        copies = [copy for copy in node.holdings.get(database, ()) if covered in (None, str(copy.range))]
        if not copies:
            raise errors.no_shard()
        return copies
