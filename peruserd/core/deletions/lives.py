"""The lives of a database's name, and which of their ends are expected.

With `[databases] when_deleted = "report"` a database that somebody deleted is not created again for a live user. But
one name can have many lives, and so can one user document. So each life is identified by the suffix of the shards.
CouchDB makes a new suffix with each creation, and keeps it in the tombstone of the shard map. The end of a life is
expected in two cases:

- peruserd dropped the database, or somebody deleted it before peruserd could.
- The database was gone while its user was deleted, whoever deleted it. A user who signs up later is a new one.

Any other end is somebody else's act. Somebody can delete a user and the database, and sign the user up again before an
instance has looked. That looks like a deletion of the database alone, so the operator is asked.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from peruserd.core.deletions.journal import Ending, Entry, State, converted, made_at, same_database

UNKNOWN_LIFE: Final = ""
"""The life of a database on a server that does not tell one life from another."""

_PREFIX: Final = "end:"
_EXPECTED: Final = frozenset({Ending.DROPPED, Ending.GONE})


class End(msgspec.Struct, frozen=True):
    """The newest life of a database with an expected end, as it is written in the journal."""

    suffix: str


def end_id(database: str) -> str:
    """Return the id of the document of a database's end."""
    return _PREFIX + database


def read_end(leaves: Sequence[Any]) -> str | None:
    """Return the newest life from all leaves of the document; None if no leaf can be read."""
    return newest(end.suffix for leaf in leaves if (end := converted(leaf, End, None)) is not None)


def newest(suffixes: Iterable[str]) -> str | None:
    """Return the suffix of the newest life; None if there is none. Suffixes are the seconds of the creation."""
    return max(suffixes, key=lambda each: (made_at(each) or 0, each), default=None)


def is_newer(suffix: str, known: str | None) -> bool:
    """Say whether a life is newer than the known one."""
    return known is None or (suffix != known and newest((suffix, known)) == suffix)


def is_expected_end(life: str, end: str | None, entries: Iterable[Entry]) -> bool:
    """Say whether the end of a life is expected, by the database's entries in the journal.

    A drop is written to the journal before it is carried out, so a drop that was begun counts as well.
    """
    if life == UNKNOWN_LIFE:
        return end is not None or any(each.ending is Ending.DROPPED for each in entries)
    return life == end or any(
        (each.ending in _EXPECTED or each.state is State.DROPPING) and same_database(each, life) for each in entries
    )


def is_expected(entry: Entry) -> bool:
    """Say whether an ended entry belongs to a life with an expected end."""
    return entry.ending in _EXPECTED and entry.suffix != UNKNOWN_LIFE
