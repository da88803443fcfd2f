"""Removing ended entries from the journal of deletions once they protect nothing any more.

While its database exists, an ended entry prevents a drop: without the entry, a scan could note the same tombstone anew.
So only entries without a database are removed, and those that concern no database.
"""

from typing import Final

from peruserd.core.deletions.journal import Ending, Entry
from peruserd.core.deletions.lives import is_expected
from peruserd.couch.client import MAX_NAMES, Client
from peruserd.couch.deletions import DeletionJournal

# Entries looked at in one go: as many as one request can ask about.
_MAX_PURGED: Final = MAX_NAMES

# An ended entry is kept this long for people to read. It is kept for a shorter time where it protects no database,
# because users who come and go can make many such entries.
_KEPT_SECONDS: Final = 30 * 86_400.0
_BRIEFLY_KEPT_SECONDS: Final = 86_400.0

_GUARDS_NOTHING: Final = frozenset({Ending.RETURNED, Ending.RELEASED, Ending.SUPERSEDED})


class Purging:
    """Removes old ended entries in portions; each reading of the journal offers all of them, in the order of ids.

    The next reading takes the next portion, even if nothing of this portion could be removed.
    """

    def __init__(self, client: Client, journal: DeletionJournal, *, notes_ends: bool) -> None:
        self._client = client
        self._journal = journal
        self._notes_ends = notes_ends
        self._portion: dict[str, Entry] = {}
        self._after = ""

    def offer(self, entry: Entry, now: float) -> None:
        """Add an ended entry to the portion, if it is old enough and there is room."""
        if _is_old(entry, now) and entry.id > self._after and len(self._portion) < _MAX_PURGED:
            self._portion[entry.id] = entry

    def purge(self) -> bool:
        """Remove the entries that protect nothing; say whether a further reading of the journal would soon find more.

        Raises CouchError.
        """
        portion, self._portion = self._portion, {}
        is_full = len(portion) == _MAX_PURGED
        self._after = max(portion) if is_full else ""
        missing = self._missing({each.database for each in portion.values() if each.ending not in _GUARDS_NOTHING})
        gone = [each for each in portion.values() if each.ending in _GUARDS_NOTHING or each.database in missing]
        if gone:
            self._note_ends(gone)
            self._journal.purge(gone)
        return is_full and bool(gone)

    def _note_ends(self, gone: list[Entry]) -> None:
        """Record the ends of databases that these entries explain, where the configuration asks for that."""
        for entry in filter(is_expected, gone if self._notes_ends else ()):
            self._journal.note_end(entry.database, entry.suffix)

    def _missing(self, databases: set[str]) -> set[str]:
        missing = self._client.missing_databases(databases) if databases else set()
        if missing is None:
            # A server without shards.
            missing = {each for each in databases if not self._client.database_exists(each)}
        return missing


def _is_old(entry: Entry, now: float) -> bool:
    kept = _BRIEFLY_KEPT_SECONDS if entry.ending in _GUARDS_NOTHING else _KEPT_SECONDS
    return now - (entry.ended_at or 0.0) > kept
