"""The lives of a database's name, and how those ended of which nobody misses the database.

With `[databases] when_deleted = "report"` a database that somebody deleted is not made again for a user who is there.
But one name can have many lives, and so can one user document. So each end is known by the suffix of the shards, which
CouchDB gives anew with each making and keeps in the tombstone of the shard map. A database is not missed

- that peruserd dropped, or that was deleted before peruserd could;
- that was seen to be gone while its user was deleted, whoever deleted it. A user who signs up later is a new one.

Each other end is somebody's deed. Somebody can delete a user and the database, and sign the user up again before
an instance has looked. That looks like the deletion of the database alone, so the operator is asked.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from peruserd.core.common.decoders import json_decoder
from peruserd.core.deletions.journal import Ending, Entry, State, made_at, same_database

UNTOLD: Final = ""
"""A life that the server does not tell from others."""

_PREFIX: Final = "end:"
_EXPECTED: Final = frozenset({Ending.DROPPED, Ending.GONE})


class End(msgspec.Struct, frozen=True):
    """The newest life of a database whose end is no loss, as it stands in the journal."""

    suffix: str


def end_id(database: str) -> str:
    """Return the id of the document of a database's end."""
    return _PREFIX + database


def read_end(leaves: Sequence[Any]) -> str | None:
    """Return the newest life that any leaf tells of; None where none does."""
    # So that msgspec knows the type by now (see there).
    json_decoder(End)
    found = []
    for leaf in leaves:
        try:
            found.append(msgspec.convert(leaf, End).suffix)
        except msgspec.ValidationError:
            continue
    return newest(found)


def newest(suffixes: Iterable[str]) -> str | None:
    """Return the suffix of the newest of some lives; None of none. Suffixes are the seconds of the making."""
    return max(suffixes, key=lambda each: (made_at(each) or 0, each), default=None)


def is_newer(suffix: str, known: str | None) -> bool:
    """Say whether a life is another one than is known, and no older one."""
    return known is None or (suffix != known and newest((suffix, known)) == suffix)


def is_no_loss(life: str, end: str | None, entries: Iterable[Entry]) -> bool:
    """Say whether the end of a life is none that anybody misses, by what the journal tells of its database.

    A drop is written down before it is made, so one that was begun counts as well.
    """
    if life == UNTOLD:
        return end is not None or any(each.ending is Ending.DROPPED for each in entries)
    return life == end or any(
        (each.ending in _EXPECTED or each.state is State.DROPPING) and same_database(each, life) for each in entries
    )


def is_expected(entry: Entry) -> bool:
    """Say whether an entry that has ended tells of a life that nobody misses."""
    return entry.ending in _EXPECTED and entry.suffix != UNTOLD
