"""Documents sorted by id for `_all_docs`. A list is kept until a document changes. Pure."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

from peruserd.simcluster.model.copies import ShardCopy
from peruserd.simcluster.model.revisions import Leaves

_MAX_KEPT: Final = 8

_State = tuple[tuple[str, int], ...]


class SortedDocuments:
    """The sorted lists of the databases that were listed last."""

    def __init__(self) -> None:
        self._kept: dict[_State, tuple[list[str], list[Leaves]]] = {}

    def between(
        self, copies: Sequence[ShardCopy], first: str | None, last: str | None
    ) -> tuple[int, list[tuple[str, Leaves]]]:
        """Return the documents between two ids, both included, without deleted ones, and how many come before them."""
        ids, leaves = self._sorted(copies)
        begin = bisect_left(ids, first) if first is not None else 0
        end = bisect_right(ids, last) if last is not None else len(ids)
        return begin, list(zip(ids[begin:end], leaves[begin:end], strict=True))

    def _sorted(self, copies: Sequence[ShardCopy]) -> tuple[list[str], list[Leaves]]:
        state = tuple((copy.uuid, copy.update_seq) for copy in copies)
        found = self._kept.pop(state, None)
        if found is None:
            alive = sorted(
                (each, leaves) for copy in copies for each, (_, leaves) in copy.docs.items() if not leaves[0].deleted
            )
            found = [each for each, _ in alive], [leaves for _, leaves in alive]
            while len(self._kept) >= _MAX_KEPT:
                del self._kept[next(iter(self._kept))]
        self._kept[state] = found
        return found
