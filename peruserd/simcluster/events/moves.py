"""Adding, removing and moving shard copies, as an operator does by editing a shard map. Pure."""

import msgspec

from peruserd.simcluster.model import errors
from peruserd.simcluster.model.cluster_model import ClusterModel
from peruserd.simcluster.model.nodes import Node
from peruserd.simcluster.model.shard_maps import parse_range


class Move(msgspec.Struct, frozen=True):
    """The move of a copy: it was added to `target`, and is removed from `source` when the new copy is complete."""

    database: str
    covered: str
    source: Node
    target: Node


class Mover:
    """Changes shard maps, and keeps the moves that are not finished."""

    def __init__(self, model: ClusterModel) -> None:
        self._model = model
        self._moves: list[Move] = []

    def add(self, database: str, covered: str, target: Node) -> None:
        """Give a node an empty copy. ValueError where it can have none."""
        at = self._model.live_member()
        document, wanted = self._model.map_of(at, database), parse_range(covered)
        if not target.joined:
            raise ValueError(f"{target.name} is no member of the cluster")
        if wanted not in document.hosts:
            raise errors.no_shard()
        if any(each.overlaps(wanted) for each in document.placed.get(target.name, ())):
            raise ValueError(f"{target.name} has a copy of a part of {covered}")
        self._model.publish(at, document.add(wanted, target.name))

    def remove(self, database: str, covered: str, source: Node) -> None:
        """Remove a node's copy. LookupError where it has none, ValueError where it is the last."""
        self._remove(self._model.live_member(), database, covered, source)

    def move(self, database: str, covered: str, source: Node, target: Node) -> None:
        """Give `target` a copy, and remove the copy of `source` when the new copy is complete."""
        if not _has_copy(source, database, covered):
            raise errors.no_shard()
        self.add(database, covered, target)
        self._moves.append(Move(database, covered, source, target))
        self.finish()

    def finish(self) -> None:
        """End the moves whose new copy is complete. It is called after each replication."""
        for move in list(self._moves):
            if self._can_end(move):
                self._moves.remove(move)
                self._remove(move.target, move.database, move.covered, move.source)

    def _can_end(self, move: Move) -> bool:
        database, covered, source, target = move.database, move.covered, move.source, move.target
        # The content of a node that is down cannot be compared.
        if not (source.alive and target.alive) or source not in self._model.reachable(target):
            return False
        # A move does not end where the range was split meanwhile, or where one of the copies was removed.
        both = all(_has_copy(node, database, covered) for node in (source, target))
        return both and not self._model.has_backlog_between(database, source=source.name, target=target.name)

    def _remove(self, at: Node, database: str, covered: str, source: Node) -> None:
        document, wanted = self._model.map_of(at, database), parse_range(covered)
        hosts = document.hosts.get(wanted, ())
        if source.name not in hosts:
            raise errors.no_shard()
        if len(hosts) == 1:
            raise ValueError(f"{source.name} has the only copy of {covered}")
        self._model.publish(at, document.remove(wanted, source.name))


def _has_copy(node: Node, database: str, covered: str) -> bool:
    return any(str(copy.range) == covered for copy in node.holdings.get(database, ()))
