"""The rows that prove a history: a few of those that were read, the newest ones and ever fewer of older ones.

One row proves too little. Where files were put back from a backup, the document at the checkpoint can come to the same
sequence again, by replication or because a user signs up once more, and all rows before it are others. So rows of
different ages are remembered. There are some thirty of them, whatever the length of the history.
"""

from collections.abc import Collection, Iterable
from typing import Final

from peruserd.core.feed.rows import Row, Sequence, proof_size_of

# The newest rows are all remembered: most files that are put back lack a few minutes or hours.
_NEWEST: Final = 8

# Beyond these a row is at most so many times as far away as the one before it.
_RATIO: Final = 4


def noted(known: Iterable[Row], page: Collection[Row]) -> tuple[Row, ...]:
    """Return the rows to remember once a page was read after those that are `known`, oldest first.

    Two kinds of rows prove nothing:

    - The row of before of a document that has moved on since.
    - The row of a deleted document, unless it is the newest one: operators purge what is left of deleted users.
    """
    moved = {row.id for row in page}
    read = {row.id: row for row in page if proof_size_of(row)}
    rows = [*(row for row in known if row.id not in moved), *read.values()]
    return _thinned([row for row in rows if not row.deleted or row is rows[-1]])


def finished(known: Iterable[Row], checkpoint: Sequence) -> tuple[Row, ...]:
    """Return the rows at or before a checkpoint; only integers can be compared."""
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
    # A row goes if the next one beyond it is near enough by itself. All rows move away by the same distance with each
    # page, so the ratio of two of them only gets smaller, and no age is left without a row.
    for place, (distance, row) in enumerate(older, start=1):
        if place == len(older) or older[place][0] > _RATIO * nearest:
            kept.append(row)
            nearest = distance
    return tuple(reversed(kept))
