"""The question which revisions of a document a copy has ever heard of."""

import secrets
from collections.abc import Collection
from typing import Final

import msgspec

from peruserd.couch.errors import UnexpectedAnswerError
from peruserd.couch.session import Session

_RANDOM_BYTES: Final = 16


class _Difference(msgspec.Struct, frozen=True):
    missing: tuple[str, ...] = ()


def known_revisions(session: Session, path: str, document_id: str, asked: Collection[str]) -> frozenset[str]:
    """Return those of the revisions that the copy or database at `path` knows; raises CouchError.

    CouchDB leaves out what it knows. So a revision that never was is asked for as well: an answer that leaves that out
    is not CouchDB's.
    """
    unheard = f"1-{secrets.token_hex(_RANDOM_BYTES)}"
    answer = session.request("POST", f"{path}/_revs_diff", body={document_id: [*sorted(asked), unheard]})
    missing = answer.expect(200).decode(dict[str, _Difference]).get(document_id, _Difference()).missing
    if unheard not in missing:
        raise UnexpectedAnswerError(f"{answer.request}: the answer is not about the revisions asked for")
    return frozenset(asked).difference(missing)
