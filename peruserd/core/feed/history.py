"""The rows that prove a history: the newest rows that were read, and ever fewer of the older ones.

One row proves too little. After files were restored from a backup, the document at the checkpoint can get the same
sequence again, by replication or by another sign-up, although all rows before it differ. So rows of different ages are
remembered. There are about thirty of them, whatever the length of the history.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Final

from peruserd.core.feed.rows import Row, Sequence, proof_size_of, reached

# All of the newest rows are remembered, because most restored files lack only a few minutes or hours.
_NEWEST: Final = 8

# The older rows: each is at most this many times as far away as the row before it.
_RATIO: Final = 4


def noted(known: Iterable[Row], page: Iterable[Row]) -> tuple[Row, ...]:
    """Return the rows to remember after a page was read, oldest first. `known` are the rows remembered before.

    Two kinds of rows prove nothing:

    - An earlier row of a document that has a newer row.
    - The row of a deleted document, unless it is the newest row of all. Operators purge deleted documents.
    """
    rows = [*known, *page]
    newest_of = {row.id: row for row in rows}

    def can_prove(row: Row) -> bool:
        return newest_of[row.id] is row and proof_size_of(row) > 0

    while rows and not can_prove(rows[-1]):
        rows.pop()
    return _thinned(rows, lambda row: can_prove(row) and not row.deleted and isinstance(row.seq, int))


def finished(known: Iterable[Row], checkpoint: Sequence) -> tuple[Row, ...]:
    """Return the rows at or before a checkpoint; none for a checkpoint that cannot be compared."""
    return tuple(row for row in known if reached(checkpoint, row.seq))


def _thinned(rows: list[Row], can_prove: Callable[[Row], bool]) -> tuple[Row, ...]:
    """Return the newest row, and those of the others that are to be remembered. Most of a page is never looked at."""
    newest = rows[-1].seq if rows else None
    if not isinstance(newest, int):
        return tuple(rows[-1:])
    kept = rows[-1:]
    place = len(rows) - 1
    while True:
        # A row is dropped if the next older row is at most `_RATIO` times as far away as the row kept before. Later
        # pages only make this ratio smaller, because all rows move away by the same distance.
        farthest = newest - _RATIO * (newest - _number(kept[-1]))
        start = place if len(kept) < _NEWEST else bisect_left(rows, farthest, hi=place, key=_number)
        places = chain(range(start, place), reversed(range(start)))
        found = next((each for each in places if can_prove(rows[each])), None)
        if found is None:
            return tuple(reversed(kept))
        kept.append(rows[found])
        place = found


def _number(row: Row) -> int:
    # A copy has integers. Anything else is remembered only as the newest row.
    return row.seq if isinstance(row.seq, int) else 0
