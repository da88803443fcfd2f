"""The change sources from which a listener reads: one small interface and two back ends.

- A shard copy is read through `/_node/{node}/…`, with integer sequences that belong to the copy.
- A server without shards is read through the database's own feed, with opaque sequences.

`feed=continuous` is never used: on a shard's path the node buffers the whole feed in memory until it ends (measured).
"""

import secrets
import time
from typing import Final, Protocol

import msgspec

from peruserd.core.cluster.views import Copy, Feed
from peruserd.core.feed.progress import Identity, is_where_it_was
from peruserd.core.feed.rows import PAGE_ROWS, Page, Row, Sequence
from peruserd.couch.client import Client
from peruserd.couch.errors import NotFoundError, NothingYetError, TooLargeError, UnexpectedAnswerError
from peruserd.couch.paths import copy_path
from peruserd.couch.revisions import COPY_SECONDS, known_of_many
from peruserd.couch.session import quoted

# The length of a long poll. It is below 30 s, after which proxies hang up. A node keeps the handler of a lost client
# this long.
LONG_POLL_SECONDS: Final = 25.0

# This document identifies one life of a database, on a server that does not do so itself.
_IDENTITY_DOCUMENT: Final = "_local/peruserd.identity"


# A page of ordinary rows has 110 kB. But an id can be as long as a document, so a page can be of any size. If a page is
# too large, fewer rows are asked for, down to one. CouchDB's own limit on documents bounds the id of one row (8 MB, six
# times that in JSON).
_PAGE_BYTES: Final = 16 << 20
_ROW_BYTES: Final = 256 << 20
_FEWER: Final = 10

# The number of rows that prove a copy's history before the first page is read. Only short rows count, because ids can
# be as long as said above.
_RECENT: Final = 64

# An empty long poll that ends this soon, or within half its time, has not waited: a proxy has answered.
_EARLY_SECONDS: Final = 1.0


class ChangeSource(Protocol):
    """A source of changes. Every method raises CouchError; NotFoundError means that the copy is gone."""

    def identify(self) -> Identity:
        """Return the identity of the copy, to compare it with a checkpoint's."""

    def page(self, since: Sequence, limit: int = PAGE_ROWS) -> Page:
        """Return the next rows after `since` at once; none at the end."""

    def poll(self, since: Sequence, limit: int = PAGE_ROWS) -> Page:
        """Return the next rows after `since` as soon as there is one, or none after the time of the long poll."""

    def recent(self) -> list[Row]:
        """Return some of the newest rows, oldest first."""

    def has(self, *rows: Row) -> bool:
        """Say whether rows that were read earlier still belong to the history, even if documents have changed since.

        If the files of a copy are restored from a backup, the copy keeps its identity and has lost its newest rows.
        """

    def interrupt(self) -> None:
        """End a request under way; for any thread."""


def open_source(copy: Copy, client: Client, long_poll_seconds: float = LONG_POLL_SECONDS) -> ChangeSource:
    """Return the change source of a copy; it must be the only user of the client's session."""
    if copy.feed is Feed.DATABASE:
        return DatabaseSource(client, copy.database, long_poll_seconds)
    return ShardSource(client, copy, long_poll_seconds)


class _FeedSource:
    """The common part of all sources: it asks for pages of `_changes`."""

    def __init__(self, client: Client, path: str, long_poll_seconds: float) -> None:
        self._session = client.session
        self._path = path
        self._long_poll_seconds = long_poll_seconds
        # Parameters for each page.
        self._form: dict[str, str] = {}
        # How long the server may be silent after a request about single documents.
        self._question_seconds = float("inf")

    def page(self, since: Sequence, limit: int = PAGE_ROWS) -> Page:
        """Return the next rows after `since` at once; none at the end."""
        return self._rows(since, {}, limit)

    def poll(self, since: Sequence, limit: int = PAGE_ROWS) -> Page:
        """Return the next rows after `since` as soon as there is one, or none after the time of the long poll."""
        params = {"feed": "longpoll", "timeout": str(int(self._long_poll_seconds * 1000))}
        early_until = time.monotonic() + min(_EARLY_SECONDS, self._long_poll_seconds / 2)
        try:
            page = self._rows(since, params, limit, wait_seconds=self._long_poll_seconds)
        except NothingYetError:
            return Page([], since)
        if page.results or time.monotonic() >= early_until:
            return page
        return msgspec.structs.replace(page, early=True)

    def _rows(self, since: Sequence, params: dict[str, str], limit: int, *, wait_seconds: float = 0.0) -> Page:
        """Return the requested rows, or fewer if the answer would be too large."""
        wanted = limit
        while True:
            try:
                answer = self._session.request(
                    "GET",
                    f"{self._path}/_changes",
                    params={"since": str(since), "limit": str(wanted), **self._form, **params},
                    wait_seconds=wait_seconds,
                    limit_bytes=_PAGE_BYTES if wanted > 1 else _ROW_BYTES,
                ).expect(200)
            except TooLargeError:
                if wanted == 1:
                    raise
                wanted = max(1, wanted // _FEWER)
                continue
            if not answer.body.strip() and wait_seconds:
                # If a shard is split during a long poll, the poll ends with an empty 200.
                return Page([], since)
            page = answer.decode(Page)
            if page.results and page.last_seq == since:
                # A proxy has dropped the request's parameters. Another request would return the same rows, for ever.
                raise UnexpectedAnswerError(f"{answer.request}: the rows end at {since!r}, where they should begin")
            return page if wanted == limit else msgspec.structs.replace(page, cut=True)

    def recent(self) -> list[Row]:
        """Return some of the newest rows, oldest first."""
        return self._newest(_RECENT)

    def newest(self) -> Row | None:
        """Return the newest row; None if there is none."""
        return next(iter(self._newest(1)), None)

    def _newest(self, limit: int) -> list[Row]:
        params = {"descending": "true", "limit": str(limit)}
        answer = self._session.request("GET", f"{self._path}/_changes", params=params, limit_bytes=_ROW_BYTES)
        return answer.expect(200).decode(Page).results[::-1]

    def has(self, *rows: Row) -> bool:
        """Say whether rows that were read earlier still belong to the history, even if documents have changed since."""
        asked = {row.id: row for row in rows}
        answer = self._session.request(
            "POST",
            f"{self._path}/_changes",
            params={"filter": "_doc_ids", "style": "all_docs"},
            body={"doc_ids": list(asked)},
            within_seconds=self._question_seconds,
        )
        found = {each.id: each for each in answer.expect(200).decode(Page).results}
        if not found.keys() <= asked.keys():
            raise UnexpectedAnswerError(f"{answer.request}: the answer is not about the documents asked for")
        moved = {}
        for row in asked.values():
            verdict = is_where_it_was(row, found.get(row.id))
            if verdict is False or (verdict is None and row.rev is None):
                return False
            if verdict is None and row.rev is not None:
                moved[row.id] = [row.rev]
        return not moved or all(known_of_many(self._session, self._path, moved).values())

    def interrupt(self) -> None:
        """End a request under way."""
        self._session.interrupt()


class _ShardInfo(msgspec.Struct, frozen=True):
    uuid: str
    update_seq: int


class _LocalSource(_FeedSource):
    """A database that belongs to one node: a shard, or the node's list of databases."""

    def __init__(self, client: Client, path: str, long_poll_seconds: float) -> None:
        super().__init__(client, path, long_poll_seconds)
        self._question_seconds = COPY_SECONDS

    def identify(self) -> Identity:
        """Ask the node for the copy's `uuid`, which is new for each copy, and its last sequence."""
        info = self._session.request("GET", self._path).expect(200).decode(_ShardInfo)
        return Identity(info.uuid, info.update_seq)


class ShardSource(_LocalSource):
    """One node's copy of one range."""

    def __init__(self, client: Client, copy: Copy, long_poll_seconds: float = LONG_POLL_SECONDS) -> None:
        super().__init__(client, copy_path(copy), long_poll_seconds)


class DirectorySource(_LocalSource):
    """One node's list of databases: each written map makes a row with the database's name and all leaves of the map.

    The feed must not be filtered for one name. Each change that the filter leaves out restarts the time of a long poll
    (measured). On a cluster where databases are made all the time, no long poll would ever end.
    """

    def __init__(self, client: Client, node: str, long_poll_seconds: float = LONG_POLL_SECONDS) -> None:
        super().__init__(client, f"/_node/{quoted(node)}/_dbs", long_poll_seconds)
        self._form = {"style": "all_docs"}


class _DatabaseInfo(msgspec.Struct, frozen=True):
    update_seq: Sequence


class _IdentityDocument(msgspec.Struct, frozen=True):
    uuid: str


class DatabaseSource(_FeedSource):
    """A whole database, on a server without shards.

    Such a server has no `uuid` for a database. So the first listener writes one into a local document. If the database
    is deleted, so is this document, and a later database of the same name does not have it.
    """

    def __init__(self, client: Client, database: str, long_poll_seconds: float = LONG_POLL_SECONDS) -> None:
        super().__init__(client, f"/{quoted(database)}", long_poll_seconds)

    def identify(self) -> Identity:
        """Read the database's identity, or write a new one."""
        info = self._session.request("GET", self._path).expect(200).decode(_DatabaseInfo)
        return Identity(self._uuid(), info.update_seq)

    def _uuid(self) -> str:
        path = f"{self._path}/{_IDENTITY_DOCUMENT}"
        try:
            return self._session.request("GET", path).expect(200).decode(_IdentityDocument).uuid
        except NotFoundError:
            mine = _IdentityDocument(secrets.token_hex(16))
            self._session.request("PUT", path, body=mine).expect(200, 201, 202)
            return mine.uuid
