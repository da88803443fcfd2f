"""The journal of deletions, typed: entries, the operator's words, the pause, and the count of drops.

A writer may have been overtaken by another instance or an operator. So each change is made on what is there now, and a
change that was not made is told. Nothing here decides; `core.deletions.journal` and `core.deletions.drop` do.
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

# Behind every id that begins with a prefix.
_LAST: Final = "\ufff0"

# A document that others write all the time is left for another look.
_TRIES: Final = 5

# CouchDB takes so many in one request to purge, by its default `[purge] max_document_id_number`.
_MAX_PURGED: Final = 100


class DeletionJournal:
    """Reads and writes the journal; for any number of threads. All of it raises CouchError."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    @property
    def database(self) -> str:
        """Return the name of the database it is kept in."""
        return self._journal.database

    # Entries

    def entry(self, entry_id: str) -> Entry | None:
        """Return an entry; None where there is none that can be read."""
        return _entry(self._journal.read(entry_id))

    def entries(self, kind: Kind, database: str | None = None) -> Iterator[Entry]:
        """Return the entries of a kind, all or those of one database, in pages of bounded size."""
        for document in self._documents(*ids_of(kind, database)):
            entry = _entry(document)
            if entry is not None:
                yield entry

    def note(self, entry: Entry) -> Entry:
        """Write a new entry, or return the one that is there; one that had ended is opened again where it must be."""
        return self.change(entry.id, lambda known: entry if known is None or renews(known, entry) else None) or entry

    def change(self, entry_id: str, edit: Callable[[Entry | None], Entry | None]) -> Entry | None:
        """Write what `edit` makes of the entry as it is; it returns None where nothing has to change.

        Returns the entry as it is then. Raises ConflictError where others write it again and again.
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
        """Remove entries with all that was said of them."""
        names = [name for each in entries for name in (each.id, word_id(each.id))]
        for begin in range(0, len(names), _MAX_PURGED):
            documents = [self._journal.read(name) for name in names[begin : begin + _MAX_PURGED]]
            self._journal.purge(each for each in documents if each.leaves)

    # Ends of databases

    def end(self, database: str) -> str | None:
        """Return the newest life of a database of which is noted that its end is no loss; None where there is none."""
        return read_end(self._journal.read(end_id(database)).bodies)

    def note_end(self, database: str, suffix: str) -> None:
        """Note that the end of a life of a database is no loss, unless that is noted of it or of a newer one."""
        for _ in range(_TRIES):
            document = self._journal.read(end_id(database))
            if not is_newer(suffix, read_end(document.bodies)):
                return
            if self._written_over(document, msgspec.to_builtins(End(suffix))):
                return
        raise ConflictError(f"{end_id(database)}: others write it all the time")

    # Words

    def saying(self, entry_id: str) -> Saying:
        """Return what the operator says of an entry."""
        return read_saying(self._journal.read(word_id(entry_id)).bodies)

    def sayings(self) -> dict[str, Saying]:
        """Return what the operator says, by the id of the entry; read in pages of bounded size."""
        return dict(self._sayings())

    def say(self, entry_id: str, edit: Callable[[Saying], Saying]) -> Saying:
        """Write a word over what was said before, on every leaf of it; raises ConflictError."""
        name = word_id(entry_id)
        for _ in range(_TRIES):
            document = self._journal.read(name)
            wanted = edit(read_saying(document.bodies))
            if self._written_over(document, as_document(wanted)):
                return wanted
        raise ConflictError(f"{name}: others write it all the time")

    # The pause

    def pause(self) -> Pause:
        """Return whether all drops wait."""
        return read_pause(self._journal.read(PAUSE_ID).bodies)

    def pause_or_unreadable(self) -> Pause:
        """Return whether all drops wait; a pause that cannot be read for whatever reason is one."""
        try:
            return self.pause()
        except CouchError:
            return UNREADABLE

    def set_pause(self, pause: Pause) -> None:
        """Write a pause, or that there is none, on every leaf; raises ConflictError."""
        for _ in range(_TRIES):
            if self._written_over(self._journal.read(PAUSE_ID), as_document(pause)):
                return
        raise ConflictError(f"{PAUSE_ID}: others write it all the time")

    def distrust(self, now: float) -> None:
        """Let nothing that stands here have consequences before an operator has looked at it; raises CouchError.

        All drops wait, and each word becomes a hold: neither is a database dropped nor is a user let in. Entries stay,
        because one that has ended can be what keeps a database from being dropped.
        """
        self.set_pause(Pause(paused=True, why=PauseReason.EXPOSED, at=now))
        for entry_id, saying in self._sayings():
            if saying.word is not Word.HOLD or saying.resumed:
                self.say(entry_id, lambda _: Saying(Word.HOLD, at=now))

    # The count of drops

    def count_drops(self, since: float, until: float, most: int) -> int:
        """Return how many drops were begun from one moment to another, counting up to `most`."""
        return self._journal.count(*drops_between(since, until), most)

    def reserve(self, reservation: str, entry: Entry) -> None:
        """Write the document that counts a drop; one that is there already is the same one."""
        try:
            self._journal.write(reservation, {"database": entry.database, "at": entry.begun_at}, None)
        except ConflictError:
            return

    def unreserve(self, reservation: str) -> None:
        """Take the count of a drop back that was not made."""
        self._journal.purge([self._journal.read(reservation)])

    def forget_drops(self, until: float) -> int:
        """Remove the counts from before a moment; return how many there were."""
        gone = 0
        for page in self._pages(drops_between(0.0, until)[0], drops_between(until, until)[0], _MAX_PURGED):
            self._journal.purge(page)
            gone += len(page)
        return gone

    # Changes

    def changed_since(self, since: int | str) -> tuple[list[str], int | str]:
        """Return the ids of documents that changed after a place in the feed, and the place up to which was read."""
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
        """Write over every leaf that is no deletion, or anew; say whether nobody else was faster.

        A leaf left beside the new one would go on saying what it said.
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
    """Return the entry that a document shows; a leaf that is about another database or revision than its id is none."""
    entries = ((body, read_entry([body])) for body in document.bodies)
    return read_entry([body for body, entry in entries if entry is not None and entry.id == document.id])
