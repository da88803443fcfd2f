"""Recorded feeds: pages of `_changes`, byte for byte as from a shard copy of CouchDB 3.5. A row has about 109 bytes."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import Final

import msgspec

from peruserd.core.cluster.views import Copy
from peruserd.core.common.names import user_document_id
from peruserd.core.feed.rows import PAGE_ROWS
from peruserd.core.ownership.hashing import document_hash
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.ownership.ranges import Range

ME: Final = "couchdb@node-1.example"
_NODES: Final = (ME, "couchdb@node-2.example", "couchdb@node-3.example")

COPY: Final = Copy("_users", Range(0, 0x7FFFFFFF), ME, ".1700000000")
OWNERSHIP: Final = Ownership(COPY.database, COPY.range, ((COPY.range, _NODES),), _NODES)
"""A cluster of three nodes, an instance beside each, and a copy of everything everywhere."""


class Recording(msgspec.Struct, frozen=True):
    """The pages of a copy from its start, and the last sequence. The key of a page is the sequence before its rows."""

    pages: dict[int, bytes]
    end: int


def record(rows: int, *, owned: bool) -> Recording:
    """Return a feed of so many user documents. This instance owns all of them, or none."""
    ids = islice(_user_documents(owned=owned), rows)
    pages: dict[int, bytes] = {}
    end = 0
    while page := list(islice(ids, PAGE_ROWS)):
        pages[end] = page_of(page, since=end)
        end += len(page)
    return Recording(pages, end)


def page_of(document_ids: Sequence[str], *, since: int) -> bytes:
    """Return the answer to a request for the changes after `since`."""
    rows = (
        f'{{"seq":{sequence},"id":"{document_id}","changes":[{{"rev":"1-{_revision(document_id)}"}}]}}'
        for sequence, document_id in enumerate(document_ids, start=since + 1)
    )
    # The line breaks are the server's own, of both kinds.
    return ('{"results":[\n' + ",\r\n".join(rows) + f'\n],\n"last_seq":{since + len(document_ids)}}}\n').encode()


def _user_documents(*, owned: bool) -> Iterator[str]:
    mine = OWNERSHIP.belongs_to(ME)
    for number in count():
        document_id = user_document_id(f"user-{number:07}")
        if document_hash(document_id) in COPY.range and mine(document_id) is owned:
            yield document_id


def _revision(document_id: str) -> str:
    return hashlib.md5(document_id.encode(), usedforsecurity=False).hexdigest()
