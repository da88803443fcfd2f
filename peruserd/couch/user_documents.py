"""Reads and writes the documents of templates in users' databases; nothing here decides.

Everything in such a database is under its user's control: a document can be large, deeply nested, or changed.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from peruserd.core.common.nesting import MAX_LEVELS, is_too_deep
from peruserd.core.users.contents import StoredDocument
from peruserd.couch.errors import TooLargeError, UnexpectedAnswerError
from peruserd.couch.session import Session, quoted

_MAX_WORDS: Final = 200

# All template files together have at most 1 MiB, before names are filled in.
_READ_BYTES: Final = 4 << 20


class Written(msgspec.Struct, frozen=True):
    """The result of a request to write several documents.

    - `agreed` says that a majority of the copies took each document.
    - `conflicts` are the ids of documents that somebody else wrote meanwhile.
    - `refusals` are the server's reasons for the documents that it does not take.
    """

    agreed: bool
    conflicts: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()


class UserDocuments:
    """Reads and writes through one session, from any number of threads. Every method raises CouchError."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def read(self, database: str, ids: Sequence[str]) -> dict[str, StoredDocument]:
        """Return these documents, as a majority of the copies shows them.

        Users can make documents large or deeply nested. Such a document must not hide another one.
        """
        if not ids:
            return {}
        path = f"/{quoted(database)}/_all_docs"
        try:
            answer = self._session.request(
                "POST", path, params={"include_docs": "true"}, body={"keys": ids}, limit_bytes=_READ_BYTES
            ).expect(200)
            rows = answer.decode(_Rows).rows
        except (TooLargeError, UnexpectedAnswerError):
            if len(ids) == 1:
                return {ids[0]: self._beyond(path, ids[0])}
            half = len(ids) // 2
            return {**self.read(database, ids[:half]), **self.read(database, ids[half:])}
        found = {row.key: row.found() for row in rows}
        if len(rows) != len(ids) or found.keys() != set(ids) or not all(row.is_sound for row in rows):
            raise UnexpectedAnswerError(f"{answer.request}: the answer is not about the documents asked for")
        return found

    def _beyond(self, path: str, document_id: str) -> StoredDocument:
        """Return only the revision of a document whose content cannot be read."""
        answer = self._session.request("POST", path, body={"keys": [document_id]}, limit_bytes=_READ_BYTES).expect(200)
        rows = answer.decode(_Rows).rows
        value = rows[0].value if len(rows) == 1 and rows[0].key == document_id else None
        if value is None:
            raise UnexpectedAnswerError(f"{answer.request}: the answer is not about the document asked for")
        return StoredDocument(value.rev) if value.deleted else StoredDocument(value.rev, beyond=True)

    def write(self, database: str, documents: Sequence[dict[str, Any]]) -> Written:
        """Write documents in one request; the server takes or refuses each by itself."""
        answer = self._session.request(
            "POST", f"/{quoted(database)}/_bulk_docs", body={"docs": documents}, prompt=True
        ).expect(201, 202)
        rows = answer.decode(list[_Result])
        if {row.id for row in rows} != {each["_id"] for each in documents}:
            raise UnexpectedAnswerError(f"{answer.request}: the answer is not about the documents that were sent")
        return Written(
            answer.status == 201,
            tuple(row.id for row in rows if row.error == "conflict"),
            tuple(row.words for row in rows if row.error not in (None, "conflict")),
        )


class _Value(msgspec.Struct, frozen=True):
    rev: str
    deleted: bool = False


class _Row(msgspec.Struct, frozen=True):
    key: str
    value: _Value | None = None
    doc: dict[str, Any] | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        """Refuse a document that could not be worked with; the decoder makes this an error of its own."""
        if self.doc is not None and is_too_deep(self.doc):
            raise ValueError(f"more than {MAX_LEVELS} objects inside one another")

    @property
    def is_sound(self) -> bool:
        """Say whether the row is consistent: the document is missing, deleted, or there."""
        if self.value is None:
            return self.error == "not_found"
        return self.value.deleted or (self.doc is not None and self.doc.get("_id") == self.key)

    def found(self) -> StoredDocument:
        """Return the document; the body has no id and no revision."""
        if self.value is None:
            return StoredDocument()
        if self.value.deleted or self.doc is None:
            return StoredDocument(self.value.rev)
        return StoredDocument(
            self.value.rev, {key: value for key, value in self.doc.items() if key not in ("_id", "_rev")}
        )


class _Rows(msgspec.Struct, frozen=True):
    rows: list[_Row]


class _Result(msgspec.Struct, frozen=True):
    id: str
    error: str | None = None
    reason: Any = None

    @property
    def words(self) -> str:
        """Return why the document was refused. A user's own function may write this text, so it is cut."""
        reason = self.reason if isinstance(self.reason, str) else msgspec.json.encode(self.reason).decode()
        return f"{self.id}: {(self.error or '')[:_MAX_WORDS]}: {reason[:_MAX_WORDS]}"
