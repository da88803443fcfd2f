"""Removing from the journal of deletions what ended and guards nothing any more.

An entry whose database is there still says that it is not to be dropped: without it, a scan could note the same
tombstone anew. So only what has no database, or concerns none, is removed.
"""

from typing import Final

from peruserd.core.deletions import Ending, Entry
from peruserd.couch.client import MOST_NAMES, Client
from peruserd.couch.deletions import DeletionJournal

MOST_PURGED: Final = MOST_NAMES
"""How many entries are looked at in one go: as many as one request can ask about."""

# An entry that ended is kept this long, for people to read; one that guards no database not so long, because users who
# come and go can make many of them.
_KEPT_SECONDS: Final = 30 * 86_400.0
_BRIEFLY_KEPT_SECONDS: Final = 86_400.0

_GUARDS_NOTHING: Final = frozenset({Ending.RETURNED, Ending.RELEASED, Ending.SUPERSEDED})


def is_old(entry: Entry, now: float) -> bool:
    """Say whether an entry ended so long ago that nobody wants to read it."""
    kept = _BRIEFLY_KEPT_SECONDS if entry.ending in _GUARDS_NOTHING else _KEPT_SECONDS
    return now - (entry.ended_at or 0.0) > kept


def purge(client: Client, journal: DeletionJournal, old: list[Entry]) -> None:
    """Remove those of these entries, `MOST_PURGED` at most, that guard nothing; raises CouchError."""
    names = {each.database for each in old if each.ending not in _GUARDS_NOTHING}
    missing = (client.missing_databases(names) if names else None) or set()
    gone = [each for each in old if each.ending in _GUARDS_NOTHING or each.database in missing]
    if gone:
        journal.purge(gone)
