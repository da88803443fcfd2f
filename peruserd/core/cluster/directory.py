"""One node's list of the databases of the cluster, and which of its rows show somebody else's act.

The node's list of shard maps, `_dbs`, has a row for each database that was created, created again, deleted or moved. A
database that this instance has just created itself is no news. Its row can only be the first revision of a shard map,
without a conflict. If two instances create a database in different seconds, there are two maps, and one of them loses.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from peruserd.core.common.names import decode_database_name, user_document_id
from peruserd.core.feed.progress import Identity, is_behind
from peruserd.core.feed.rows import Row, Sequence, is_before, is_first

# Past this many rows, it is cheaper to compare the names of all users' databases than to look at each row's user.
_MAX_ROWS: Final = 20_000


class Mark(msgspec.Struct, frozen=True):
    """The place in one node's list up to which all rows were handled, and the row that proves it.

    Each node's list has a `uuid` and sequences of its own.
    """

    uuid: str
    sequence: Sequence
    last_row: Row | None = None


class News(msgspec.Struct, frozen=True):
    """The user documents whose databases were created for the first time (`made`), or `changed` in any other way."""

    made: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


def news_of(rows: Iterable[Row], prefix: str) -> News:
    """Return the news of users' databases in some rows. The rows must have all their leaves."""
    made: list[str] = []
    changed: list[str] = []
    for row in rows:
        name = decode_database_name(prefix, row.id)
        if name is not None:
            (made if is_first(row) else changed).append(user_document_id(name))
    return News(tuple(made), tuple(changed))


def why_not_from(mark: Mark | None, identity: Identity) -> str | None:
    """Return in words why the list cannot be read on from a mark; None if it can, provided it has the mark's row."""
    if mark is None:
        return "it is not known how far the list of databases was read"
    if mark.uuid != identity.uuid:
        return "the node's list of databases is another one"
    if is_behind(identity, mark.sequence):
        return "the node's list of databases is behind what was read of it"
    if isinstance(mark.sequence, int) and is_before(mark.sequence + _MAX_ROWS, identity.update_seq):
        return "too many databases have changed since the list was read"
    return None
