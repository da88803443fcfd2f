"""The databases that were made here lately, for two purposes.

- A row of the list of databases is no news of a database that was made here a moment ago.
- A database that was made while a node was away may have got a copy there that nobody has secured: CouchDB makes that
  copy when the node returns, and does not always bring its security object to what the others hold. So its user is
  looked at then.
"""

from collections import OrderedDict
from collections.abc import Collection
from typing import Final

# A row comes within seconds, and later where a node is behind. After this its database is looked at, which is harmless.
_REMEMBERED_SECONDS: Final = 60.0

# Creations without one node: as many as are looked at in some minutes. The audit finds those past that many.
_MOST_WITHOUT: Final = 10_000


class Creations:
    """Remembers creations by the caller's monotonic clock, in seconds. Not thread-safe: its owner has a lock."""

    def __init__(self) -> None:
        self._made: OrderedDict[str, float] = OrderedDict()
        # The databases that were made while a node was away, by node; a node is known once it was there or should be.
        self._without: dict[str, dict[str, None]] = {}
        self._nodes: frozenset[str] = frozenset()

    def note(self, document_id: str, now: float) -> None:
        """Note that the database of a user document was made."""
        self._made[document_id] = now
        self._made.move_to_end(document_id)
        while now - next(iter(self._made.values())) > _REMEMBERED_SECONDS:
            self._made.popitem(last=False)
        for made in self._without.values():
            if len(made) < _MOST_WITHOUT:
                made[document_id] = None

    def includes(self, document_id: str, now: float) -> bool:
        """Say whether it was made here a moment ago."""
        made_at = self._made.get(document_id)
        return made_at is not None and now - made_at <= _REMEMBERED_SECONDS

    def expect(self, nodes: Collection[str]) -> None:
        """Note nodes that belong to the cluster, whether or not they are connected."""
        for node in frozenset(nodes) - self._nodes:
            self._without.setdefault(node, {})

    def connected(self, nodes: Collection[str]) -> tuple[str, ...]:
        """Note which nodes are connected; return whose database was made without one that is back, each once."""
        connected = frozenset(nodes)
        for node in self._nodes - connected:
            self._without.setdefault(node, {})
        self._nodes = connected
        found: dict[str, None] = {}
        for node in connected:
            found.update(self._without.pop(node, {}))
        return tuple(found)
