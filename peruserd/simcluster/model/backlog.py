"""The backlog of replication: documents that one node has and another lacks. Pure.

So the cost of catching up depends on the number of missed documents, not on the size of a database.
"""

from collections.abc import Callable, Iterator

Missed = dict[str, dict[str, None]]
"""By database, the ids of documents in the order in which they were missed."""

Connected = Callable[[str, str], bool]
"""Says of two nodes, by name, whether they see each other."""


class Backlog:
    """The documents that each node has to give to each other node, and the nodes kept behind."""

    def __init__(self) -> None:
        self._missed: dict[tuple[str, str], Missed] = {}
        self._paused: set[tuple[str, str]] = set()

    def pause(self, node: str, database: str) -> None:
        """Keep a node's copies of a database behind."""
        self._paused.add((node, database))

    def resume(self, node: str, database: str) -> None:
        """Let a node's copies of a database catch up."""
        self._paused.discard((node, database))

    def is_paused(self, node: str, database: str) -> bool:
        """Say whether a node's copies of a database are kept behind."""
        return (node, database) in self._paused

    def note(self, source: str, target: str, database: str, document_id: str) -> None:
        """Note that `target` lacks a document of `source`, or a part of its revisions."""
        self._missed.setdefault((source, target), {}).setdefault(database, {})[document_id] = None

    def involves(self, database: str, node: str, other: str, connected: Connected) -> bool:
        """Say whether `node` has documents of a database to give to any node, or `other` has documents of it to get.

        Only nodes that see each other count, because the other ones cannot replicate.
        """
        return any(
            database in missed and (source == node or target == other) and connected(source, target)
            for (source, target), missed in self._missed.items()
        )

    def any_due(self, connected: Connected) -> bool:
        """Say whether documents can be replicated now."""
        return any(
            connected(source, target) and not all((target, name) in self._paused for name in missed)
            for (source, target), missed in self._missed.items()
        )

    def take_due(self, connected: Connected) -> Iterator[tuple[str, str, Missed]]:
        """Take from the backlog what can be replicated now, and yield source, target and documents."""
        for (source, target), missed in list(self._missed.items()):
            if not connected(source, target):
                continue
            due = {name: missed.pop(name) for name in list(missed) if (target, name) not in self._paused}
            if not missed:
                del self._missed[source, target]
            if due:
                yield source, target, due
