"""The rows that prove a history: a few of those that were read, the newest ones and ever fewer of older ones.

One row proves too little. Where files were put back from a backup, the document at the checkpoint can come to the same
sequence again, by replication or because a user signs up once more, and all rows before it are others. So rows of
different ages are remembered. There are some thirty of them, whatever the length of the history.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from peruserd.core.feed import rows
from peruserd.core.feed.rows import Row, proof_size_of

# The newest rows are all remembered: most files that are put back lack a few minutes or hours.
_NEWEST: Final = 8


def noted(known: Iterable[Row], page: Sequence[Row]) -> tuple[Row, ...]:
    """Return the rows to remember once a page was read after those that are `known`, oldest first.

    Two kinds of rows prove nothing:

    - The row of before of a document that has moved on since.
    - The row of a deleted document, unless it is the newest one: operators purge what is left of deleted users.
    """
    moved = {row.id for row in page}
    read = {row.id: row for row in page if proof_size_of(row)}
    rows = [*(row for row in known if row.id not in moved), *read.values()]
    return _thinned([row for row in rows if not row.deleted or row is rows[-1]])


def finished(known: Iterable[Row], checkpoint: rows.Sequence) -> tuple[Row, ...]:
    """Return the rows at or before a checkpoint; only integers can be compared."""
    if not isinstance(checkpoint, int):
        return ()
    return tuple(row for row in known if isinstance(row.seq, int) and row.seq <= checkpoint)


def _thinned(rows: list[Row]) -> tuple[Row, ...]:
    newest = rows[-1].seq if rows else None
    if not isinstance(newest, int):
        return tuple(rows[-1:])
    # By the power of two of the distance. The oldest one stays until it is as far away as those of the next power, so
    # none of them is without a row for long.
    by_distance: dict[int, Row] = {}
    for row in reversed(rows[:-_NEWEST]):
        if isinstance(row.seq, int):
            by_distance[(newest - row.seq).bit_length()] = row
    return (*reversed(by_distance.values()), *rows[-_NEWEST:])
