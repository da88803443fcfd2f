"""Debts between copies: documents that one has and another lacks, until they are handed over. Pure.

Catching up so costs what was missed and not what there is.
"""

from collections.abc import Callable, Iterator

Missed = dict[str, dict[str, None]]
"""By database, the ids of documents in the order in which they were missed."""

Connected = Callable[[str, str], bool]
"""Says of two nodes, by name, whether they see each other."""


class Debts:
    """The documents that each node owes each other node, and the nodes that are kept behind and get nothing."""

    def __init__(self) -> None:
        self._owed: dict[tuple[str, str], Missed] = {}
        self._held: set[tuple[str, str]] = set()

    def hold(self, node: str, database: str) -> None:
        """Keep a node's copies of a database behind."""
        self._held.add((node, database))

    def release(self, node: str, database: str) -> None:
        """Let a node's copies of a database catch up."""
        self._held.discard((node, database))

    def holds(self, node: str, database: str) -> bool:
        """Say whether a node's copies of a database are kept behind."""
        return (node, database) in self._held

    def note(self, giver: str, taker: str, database: str, document_id: str) -> None:
        """Note that one node has something of a document that another lacks."""
        self._owed.setdefault((giver, taker), {}).setdefault(database, {})[document_id] = None

    def concern(self, database: str, node: str, other: str, connected: Connected) -> bool:
        """Say whether `node` has something of a database that others lack, or `other` lacks something of it.

        Only nodes that see each other count: the others will not get it however long one waits.
        """
        return any(
            database in missed and (giver == node or taker == other) and connected(giver, taker)
            for (giver, taker), missed in self._owed.items()
        )

    def any_due(self, connected: Connected) -> bool:
        """Say whether something can be handed over now."""
        return any(
            connected(giver, taker) and not all((taker, name) in self._held for name in missed)
            for (giver, taker), missed in self._owed.items()
        )

    def take_due(self, connected: Connected) -> Iterator[tuple[str, str, Missed]]:
        """Yield what can be handed over now, giver and taker first; it is not owed any more."""
        for (giver, taker), missed in list(self._owed.items()):
            if not connected(giver, taker):
                continue
            due = {name: missed.pop(name) for name in list(missed) if (taker, name) not in self._held}
            if not missed:
                del self._owed[giver, taker]
            if due:
                yield giver, taker, due
