"""Users in quarantine who wait for copies on a node: how many, and who tries next when one of them was served.

Copies on a node can stay unreadable while the node is connected, all at once. Then many users wait for the same thing.
So the more they are, the more seldom each tries, and each who is served lets two others try. These are few tries while
nothing helps, and all have tried within seconds once it does.
"""

from collections.abc import Iterable
from typing import Final

# Together, of one listener. A try reads each copy of a user's database.
_TRIES_A_SECOND: Final = 5.0

_OTHERS: Final = 2


class Awaited:
    """The documents that wait for nodes. Not thread-safe: its owner has a lock."""

    def __init__(self) -> None:
        self._by_node: dict[str, dict[str, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def changed(self, document_id: str, before: Iterable[str], after: Iterable[str]) -> None:
        """Note that a document waits for other nodes than before."""
        was, waits = tuple(before), tuple(after)
        self._count += bool(waits) - bool(was)
        for node in was:
            waiting = self._by_node[node]
            waiting.pop(document_id, None)
            if not waiting:
                del self._by_node[node]
        for node in waits:
            self._by_node.setdefault(node, {})[document_id] = None

    def others(self, nodes: Iterable[str]) -> list[str]:
        """Return the documents that are to be tried next, because one that waited for these nodes was served."""
        found: list[str] = []
        for node in nodes:
            waiting = self._by_node.get(node, {})
            for document_id in list(_first(waiting, _OTHERS - len(found))):
                # All have their turn, also where some stay as they are.
                waiting[document_id] = waiting.pop(document_id)
                found.append(document_id)
        return found


def _first(waiting: dict[str, None], most: int) -> Iterable[str]:
    return (each for each, _ in zip(waiting, range(most), strict=False))


def pause(awaited: int, chance: float) -> float:
    """Return for how many seconds one of so many pauses at least, spread by `chance`, a random number of [0, 1)."""
    return awaited / _TRIES_A_SECOND * (0.5 + chance)
