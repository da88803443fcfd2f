"""The rows that prove a history: the newest rows that were read, and ever fewer of the older ones.

One row proves too little. After files were restored from a backup, the document at the checkpoint can get the same
sequence again, by replication or by another sign-up, although all rows before it differ. So rows of different ages are
remembered. There are about thirty of them, whatever the length of the history.
"""

from collections.abc import Collection, Iterable
from typing import Final

from peruserd.core.feed.rows import Row, Sequence, proof_size_of

# All of the newest rows are remembered, because most restored files lack only a few minutes or hours.
_NEWEST: Final = 8

# The older rows: each is at most this many times as far away as the row before it.
_RATIO: Final = 4


def noted(known: Iterable[Row], page: Collection[Row]) -> tuple[Row, ...]:
    """Return the rows to remember after a page was read, oldest first. `known` are the rows remembered before.

    Two kinds of rows prove nothing:

    - An earlier row of a document that has a newer row.
    - The row of a deleted document, unless it is the newest row of all. Operators purge deleted documents.
    """
    moved = {row.id for row in page}
    read = {row.id: row for row in page if proof_size_of(row)}
    rows = [*(row for row in known if row.id not in moved), *read.values()]
    return _thinned([row for row in rows if not row.deleted or row is rows[-1]])


def finished(known: Iterable[Row], checkpoint: Sequence) -> tuple[Row, ...]:
    """Return the rows at or before a checkpoint. Only integers can be compared."""
    if not isinstance(checkpoint, int):
        return ()
    return tuple(row for row in known if isinstance(row.seq, int) and row.seq <= checkpoint)


def _thinned(rows: list[Row]) -> tuple[Row, ...]:
    newest = rows[-1].seq if rows else None
    if not isinstance(newest, int):
        return tuple(rows[-1:])
    distances = [(newest - row.seq, row) for row in reversed(rows) if isinstance(row.seq, int)]
    latest, older = distances[:_NEWEST], distances[_NEWEST:]
    kept = [row for _, row in latest]
    nearest = latest[-1][0]
    # A row is dropped if the next older row is near enough without it. With each page all rows move away by the same
    # distance, so the ratio of two distances only gets smaller, and no age is left without a row.
    for place, (distance, row) in enumerate(older, start=1):
        if place == len(older) or older[place][0] > _RATIO * nearest:
            kept.append(row)
            nearest = distance
    return tuple(reversed(kept))
