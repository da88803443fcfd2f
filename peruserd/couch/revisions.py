"""Asks a copy for the winning revisions of some documents, and for the revisions that it knows."""

import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from peruserd.core.users.evidence import Winner
from peruserd.couch.errors import UnexpectedAnswerError
from peruserd.couch.session import Session

_RANDOM_BYTES: Final = 16

COPY_SECONDS: Final = 5.0
"""The limit for one copy's silence. An answer takes milliseconds, under load some hundreds of them.

If a node relays a request to a starting or hanging node, no answer ever comes (measured for a starting one). Meanwhile
users wait for the other copies' answers, so the limit must be a small part of the promised half minute.
"""


class _Difference(msgspec.Struct, frozen=True):
    missing: tuple[str, ...] = ()


class _Value(msgspec.Struct, frozen=True):
    rev: str
    deleted: bool = False


class _Row(msgspec.Struct, frozen=True):
    key: str
    value: _Value | None = None
    error: str | None = None


class _Rows(msgspec.Struct, frozen=True):
    rows: list[_Row]


def winners(session: Session, path: str, document_ids: Sequence[str]) -> dict[str, Winner | None]:
    """Return the winning revisions of some documents at the copy or database `path`; None for an unknown document.

    Raises CouchError, also if the answer is not about each of the documents.
    """
    answer = session.request(
        "POST", f"{path}/_all_docs", body={"keys": list(document_ids)}, within_seconds=COPY_SECONDS
    )
    rows = answer.expect(200).decode(_Rows).rows
    is_whole = [each.key for each in rows] == list(document_ids)
    if not is_whole or any((each.value is None) == (each.error is None) for each in rows):
        raise UnexpectedAnswerError(f"{answer.request}: the answer is not about the document asked for")
    return {each.key: None if each.value is None else Winner(each.value.rev, each.value.deleted) for each in rows}


def known_of_many(session: Session, path: str, asked: Mapping[str, Collection[str]]) -> dict[str, frozenset[str]]:
    """Return, for each document, which of these revisions the copy or database at `path` knows; raises CouchError.

    CouchDB leaves known revisions out of its answer. So the request also has, for each document, a random revision that
    cannot exist. An answer that leaves this one out is not CouchDB's.
    """
    unheard = f"1-{secrets.token_hex(_RANDOM_BYTES)}"
    body = {document_id: [*sorted(revisions), unheard] for document_id, revisions in asked.items()}
    answer = session.request("POST", f"{path}/_revs_diff", body=body, within_seconds=COPY_SECONDS)
    found = answer.expect(200).decode(dict[str, _Difference])
    known = {}
    for document_id, revisions in asked.items():
        missing = found.get(document_id, _Difference()).missing
        if unheard not in missing:
            raise UnexpectedAnswerError(f"{answer.request}: the answer is not about the revisions asked for")
        known[document_id] = frozenset(revisions).difference(missing)
    return known
