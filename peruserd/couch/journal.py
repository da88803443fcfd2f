"""The journal's documents in peruserd's own database, read in pages, with every leaf of each document.

A write succeeds only if a majority takes it. A conflict is raised and never overwritten, so a writer reads the document
first. The rules are in `core.deletions.journal`; nothing here decides.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from peruserd.couch.client import NO_DATABASE
from peruserd.couch.errors import NoMajorityError, UnexpectedAnswerError
from peruserd.couch.session import Session, quoted

PAGE_ROWS: Final = 500
"""The number of documents in a page; an entry has some 500 bytes."""

# Instances and operators that do not know of each other make far fewer leaves of one document.
_MAX_LEAVES: Final = 100


# The statuses of servers without `_purge`. PouchDB Server takes the path for a document's, and answers 400 (measured).
_NO_PURGE: Final = frozenset({400, 404, 405, 501})


class Leaf(msgspec.Struct, frozen=True):
    """A leaf of a document's revision tree: no revision follows it. `body` is None if it is a deletion."""

    rev: str
    body: dict[str, Any] | None


class Document(msgspec.Struct, frozen=True):
    """A document with all its leaves, deleted ones last. Without leaves there never was such a document."""

    id: str
    leaves: tuple[Leaf, ...] = ()

    @property
    def bodies(self) -> list[dict[str, Any] | None]:
        """Return the bodies of its leaves."""
        return [each.body for each in self.leaves]


class Page(msgspec.Struct, frozen=True):
    """A page of documents, by id. `more` says that others may follow the last one."""

    documents: tuple[Document, ...]
    more: bool


class _Written(msgspec.Struct, frozen=True):
    rev: str


class _OpenRevision(msgspec.Struct, frozen=True):
    ok: dict[str, Any] | None = None


class _Row(msgspec.Struct, frozen=True):
    id: str
    doc: dict[str, Any] | None = None


class _Rows(msgspec.Struct, frozen=True):
    rows: list[_Row]


class _Change(msgspec.Struct, frozen=True):
    id: str


class _Changes(msgspec.Struct, frozen=True):
    results: list[_Change]
    last_seq: int | str


class Journal:
    """The documents of one database, through one session; for any number of threads."""

    def __init__(self, session: Session, database: str) -> None:
        self.database = database
        self._session = session

    def read(self, document_id: str) -> Document:
        """Return a document with every leaf; raises CouchError."""
        answer = self._session.request(
            "GET", self._path(quoted(document_id)), params={"open_revs": "all", "revs": "false"}
        )
        if answer.status == 404 and answer.reason in ("missing", "deleted"):
            return Document(document_id)
        revisions = answer.expect(200).decode(list[_OpenRevision])
        if len(revisions) > _MAX_LEAVES:
            # A leaf that is not read may be the most careful one.
            raise UnexpectedAnswerError(f"{answer.request}: more than {_MAX_LEAVES} conflicting revisions; delete it")
        leaves = [_leaf(each.ok, document_id) for each in revisions if each.ok is not None]
        # CouchDB returns leaves in no meaningful order.
        return Document(document_id, tuple(sorted(leaves, key=_liveliest, reverse=True)))

    def write(self, document_id: str, body: dict[str, Any], rev: str | None) -> str:
        """Write a new document, or a new revision of one; return the revision.

        Raises ConflictError if there is another revision, NoMajorityError if only a minority took the write.
        """
        content = body if rev is None else {**body, "_rev": rev}
        answer = self._session.request("PUT", self._path(quoted(document_id)), body=content).expect(201, 202)
        if answer.status == 202:
            raise NoMajorityError(f"{answer.request}: only a minority of the copies has it")
        return answer.decode(_Written).rev

    def page(self, first: str, last: str, *, after: str | None = None, limit: int = PAGE_ROWS) -> Page:
        """Return the documents from `first` to `last`, or only those after the id `after`; raises CouchError."""
        params = {
            "include_docs": "true",
            "conflicts": "true",
            "limit": str(limit),
            "start_key": _key(first if after is None else after + "\x00"),
            "end_key": _key(last),
        }
        answer = self._session.request("GET", self._path("_all_docs"), params=params)
        rows = answer.expect(200).decode(_Rows).rows
        if rows and after is not None and rows[-1].id <= after:
            # With such answers reading page after page would never end.
            raise UnexpectedAnswerError(f"{answer.request}: the answer is not about what comes after {after!r}")
        return Page(tuple(self._of_row(each) for each in rows[:limit]), more=len(rows) >= limit)

    def count(self, first: str, last: str, most: int) -> int:
        """Count the documents from `first` to `last`, up to `most`; raises CouchError."""
        params = {"start_key": _key(first), "end_key": _key(last), "limit": str(most)}
        answer = self._session.request("GET", self._path("_all_docs"), params=params)
        return len(answer.expect(200).decode(_Rows).rows)

    def changed_since(self, since: int | str, limit: int = PAGE_ROWS) -> tuple[list[str], int | str]:
        """Return the ids of documents that changed after a place in the feed, and the place where this page ends."""
        params = {"since": str(since), "limit": str(limit)}
        found = self._session.request("GET", self._path("_changes"), params=params).expect(200).decode(_Changes)
        return [each.id for each in found.results], found.last_seq

    def purge(self, documents: Iterable[Document]) -> None:
        """Remove documents with all their history, so that no tombstones pile up; raises CouchError.

        A server that cannot purge keeps their tombstones.
        """
        gone = {each.id: [leaf.rev for leaf in each.leaves] for each in documents if each.leaves}
        if not gone:
            return
        answer = self._session.request("POST", self._path("_purge"), body=gone)
        if answer.status in _NO_PURGE and answer.reason != NO_DATABASE:
            self._delete(gone)
            return
        answer.expect(200, 201, 202)

    def _delete(self, revisions: dict[str, list[str]]) -> None:
        docs = [{"_id": name, "_rev": rev, "_deleted": True} for name, revs in revisions.items() for rev in revs]
        self._session.request("POST", self._path("_bulk_docs"), body={"docs": docs}).expect(200, 201, 202)

    def _of_row(self, row: _Row) -> Document:
        if row.doc is None or row.doc.get("_conflicts"):
            return self.read(row.id)
        return Document(row.id, (_leaf(row.doc, row.id),))

    def _path(self, rest: str) -> str:
        return f"/{quoted(self.database)}/{rest}"


def _leaf(document: dict[str, Any], asked: str) -> Leaf:
    rev = document.get("_rev")
    if document.get("_id") != asked or not isinstance(rev, str):
        raise UnexpectedAnswerError(f"the answer to the request for {asked!r} is another document")
    if document.get("_deleted") is True:
        return Leaf(rev, None)
    return Leaf(rev, {key: value for key, value in document.items() if not key.startswith("_")})


def _liveliest(leaf: Leaf) -> tuple[bool, str]:
    return leaf.body is not None, leaf.rev


def _key(document_id: str) -> str:
    return msgspec.json.encode(document_id).decode()
