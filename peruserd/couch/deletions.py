"""The journal of deletions with types: entries, the operator's words, the pause, and the count of drops.

Another instance or an operator may write at the same time. So each change is made on the document as it is now, and a
change that failed raises an error. Nothing here decides; `core.deletions.journal` and `core.deletions.drop` do.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final

import msgspec

from peruserd.core.deletions.journal import (
    PAUSE_ID,
    UNREADABLE,
    WORD_PREFIX,
    Entry,
    Kind,
    Pause,
    PauseReason,
    Saying,
    Word,
    as_document,
    drops_between,
    ids_of,
    read_entry,
    read_pause,
    read_saying,
    renews,
    word_id,
)
from peruserd.core.deletions.lives import End, end_id, is_newer, read_end
from peruserd.couch.errors import ConflictError, CouchError
from peruserd.couch.journal import PAGE_ROWS, Document, Journal

# Sorts after every id that begins with a prefix.
_LAST: Final = "\ufff0"

# After so many conflicts in a row the write is given up for now.
_TRIES: Final = 5

# CouchDB purges so many documents in one request, by its default `[purge] max_document_id_number`.
_MAX_PURGED: Final = 100


class DeletionJournal:
    """Reads and writes the journal; for any number of threads. Every method raises CouchError."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    @property
    def database(self) -> str:
        """Return the name of the journal's database."""
        return self._journal.database

    # Entries

    def entry(self, entry_id: str) -> Entry | None:
        """Return an entry; None if there is none that can be read."""
        return _entry(self._journal.read(entry_id))

    def entries(self, kind: Kind, database: str | None = None) -> Iterator[Entry]:
        """Return the entries of a kind, of all databases or of one; they are read in pages of bounded size."""
        for document in self._documents(*ids_of(kind, database)):
            entry = _entry(document)
            if entry is not None:
                yield entry

    def note(self, entry: Entry) -> Entry:
        """Write a new entry, or return the known one; an entry that has ended is opened again if necessary."""
        return self.change(entry.id, lambda known: entry if known is None or renews(known, entry) else None) or entry

    def change(self, entry_id: str, edit: Callable[[Entry | None], Entry | None]) -> Entry | None:
        """Write what `edit` makes of the current entry; `edit` returns None if nothing has to change.

        Returns the entry after that. Raises ConflictError if others write it again and again.
        """
        for _ in range(_TRIES):
            document = self._journal.read(entry_id)
            known = _entry(document)
            wanted = edit(known)
            if wanted is None or wanted == known:
                return known
            if self._written_over(document, as_document(wanted)):
                return wanted
        raise ConflictError(f"{entry_id}: others write it all the time")

    def purge(self, entries: list[Entry]) -> None:
        """Remove entries together with the words about them."""
        names = [name for each in entries for name in (each.id, word_id(each.id))]
        for begin in range(0, len(names), _MAX_PURGED):
            documents = [self._journal.read(name) for name in names[begin : begin + _MAX_PURGED]]
            self._journal.purge(each for each in documents if each.leaves)

    # Ends of databases

    def end(self, database: str) -> str | None:
        """Return the newest life of a database whose end is noted as no loss; None if none is noted."""
        return read_end(self._journal.read(end_id(database)).bodies)

    def note_end(self, database: str, suffix: str) -> None:
        """Note that the end of a database's life is no loss, unless this life or a newer one is noted already."""
        for _ in range(_TRIES):
            document = self._journal.read(end_id(database))
            if not is_newer(suffix, read_end(document.bodies)):
                return
            if self._written_over(document, msgspec.to_builtins(End(suffix))):
                return
        raise ConflictError(f"{end_id(database)}: others write it all the time")

    # Words

    def saying(self, entry_id: str) -> Saying:
        """Return the operator's word about an entry."""
        return read_saying(self._journal.read(word_id(entry_id)).bodies)

    def sayings(self) -> dict[str, Saying]:
        """Return all the operator's words, by the id of the entry; they are read in pages of bounded size."""
        return dict(self._sayings())

    def say(self, entry_id: str, edit: Callable[[Saying], Saying]) -> Saying:
        """Replace the word about an entry, on every leaf of its document; raises ConflictError."""
        name = word_id(entry_id)
        for _ in range(_TRIES):
            document = self._journal.read(name)
            wanted = edit(read_saying(document.bodies))
            if self._written_over(document, as_document(wanted)):
                return wanted
        raise ConflictError(f"{name}: others write it all the time")

    # The pause

    def pause(self) -> Pause:
        """Return the pause of all drops."""
        return read_pause(self._journal.read(PAUSE_ID).bodies)

    def pause_or_unreadable(self) -> Pause:
        """Return the pause of all drops; if it cannot be read, for any reason, all drops are paused."""
        try:
            return self.pause()
        except CouchError:
            return UNREADABLE

    def set_pause(self, pause: Pause) -> None:
        """Write the pause, or its end, on every leaf of its document; raises ConflictError."""
        for _ in range(_TRIES):
            if self._written_over(self._journal.read(PAUSE_ID), as_document(pause)):
                return
        raise ConflictError(f"{PAUSE_ID}: others write it all the time")

    def distrust(self, now: float) -> None:
        """Suspend the effects of the journal until an operator has checked it; raises CouchError.

        All drops are paused, and each word becomes a hold. So no database is dropped and no user is let in. Entries
        stay, because even an entry that has ended can keep a database from being dropped.
        """
        self.set_pause(Pause(paused=True, why=PauseReason.EXPOSED, at=now))
        for entry_id, saying in self._sayings():
            if saying.word is not Word.HOLD or saying.resumed:
                self.say(entry_id, lambda _: Saying(Word.HOLD, at=now))

    # The count of drops

    def count_drops(self, since: float, until: float, most: int) -> int:
        """Return how many drops were begun between two times, counting up to `most`."""
        return self._journal.count(*drops_between(since, until), most)

    def reserve(self, reservation: str, entry: Entry) -> None:
        """Write the document that counts a drop; if it exists already, it is the same."""
        try:
            self._journal.write(reservation, {"database": entry.database, "at": entry.begun_at}, None)
        except ConflictError:
            return

    def unreserve(self, reservation: str) -> None:
        """Take back the count of a drop that was not made."""
        self._journal.purge([self._journal.read(reservation)])

    def forget_drops(self, until: float) -> int:
        """Remove the counts from before a time; return how many there were."""
        gone = 0
        for page in self._pages(drops_between(0.0, until)[0], drops_between(until, until)[0], _MAX_PURGED):
            self._journal.purge(page)
            gone += len(page)
        return gone

    # Changes

    def changed_since(self, since: int | str) -> tuple[list[str], int | str]:
        """Return the ids of documents that changed after a place in the feed, and the place where this page ends."""
        return self._journal.changed_since(since)

    def _sayings(self) -> Iterator[tuple[str, Saying]]:
        for document in self._documents(WORD_PREFIX, WORD_PREFIX + _LAST):
            yield document.id.removeprefix(WORD_PREFIX), read_saying(document.bodies)

    def _documents(self, first: str, last: str) -> Iterator[Document]:
        return chain.from_iterable(self._pages(first, last, PAGE_ROWS))

    def _pages(self, first: str, last: str, limit: int) -> Iterator[tuple[Document, ...]]:
        after: str | None = None
        while True:
            page = self._journal.page(first, last, after=after, limit=limit)
            yield page.documents
            if not page.more or not page.documents:
                return
            after = page.documents[-1].id

    def _written_over(self, document: Document, body: dict[str, object]) -> bool:
        """Write over every leaf that is no deletion, or a new document; False if somebody else was faster.

        A leaf that stays beside the new one would still be in force.
        """
        living = [each for each in document.leaves if each.body is not None]
        try:
            for leaf in living:
                self._journal.write(document.id, body, leaf.rev)
            if not living:
                self._journal.write(document.id, body, None)
        except ConflictError:
            return False
        return True


def _entry(document: Document) -> Entry | None:
    """Return the entry in a document; leaves whose database or revision does not fit the id are ignored."""
    entries = ((body, read_entry([body])) for body in document.bodies)
    return read_entry([body for body, entry in entries if entry is not None and entry.id == document.id])
