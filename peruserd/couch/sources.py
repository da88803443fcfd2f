"""Change sources, from which a listener reads. They have one small interface and two back ends.

A shard copy is read through `/_node/{node}/…`, with integer sequences private to the copy; a server without shards
through the database's own feed, whose sequences are whatever the server makes them. `feed=continuous` is never used: on
the shard path the node buffers it until it ends, in its own memory (measured).
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

# Below the 30 s at which proxies hang up; a node keeps the handler of a client that went away this long.
LONG_POLL_SECONDS: Final = 25.0

# Names one life of a database on a server whose own answer does not.
_IDENTITY_DOCUMENT: Final = "_local/peruserd.identity"


# A page of ordinary rows has 110 kB. Ids can be as long as a document may be, so a page can be of any size: then fewer
# rows are asked for, down to one, whose id CouchDB's own limit on documents bounds (8 MB, six times that in JSON).
_PAGE_BYTES: Final = 16 << 20
_ROW_BYTES: Final = 256 << 20
_FEWER: Final = 10

# So many rows prove a history of which none was read yet, if they are short; ids can be as long as said above.
_RECENT: Final = 64

# An empty long poll that ends this soon, or in half its time, has not waited: something in between has answered.
_EARLY_SECONDS: Final = 1.0


class ChangeSource(Protocol):
    """A source of changes. Every method raises CouchError; `NotFoundError` means that the copy is gone."""

    def identify(self) -> Identity:
        """Ask which copy this is; to be compared with what a checkpoint was made for."""

    def page(self, since: Sequence, limit: int = PAGE_ROWS) -> Page:
        """Return the next rows after `since`, at once; none at the end."""

    def poll(self, since: Sequence, limit: int = PAGE_ROWS) -> Page:
        """Return the next rows after `since` as soon as there is one, or none when the poll has lasted its time."""

    def recent(self) -> list[Row]:
        """Return some of the newest rows, oldest first."""

    def has(self, *rows: Row) -> bool:
        """Say whether rows that were read are a part of the history still, though their documents may have moved on.

        The files of a copy can be put back from a backup; it keeps its identity then, and has lost the newest rows.
        """

    def interrupt(self) -> None:
        """End a request under way; for another thread to call."""


def open_source(copy: Copy, client: Client, long_poll_seconds: float = LONG_POLL_SECONDS) -> ChangeSource:
    """Return the change source of a copy; the client's session serves it alone."""
    if copy.feed is Feed.DATABASE:
        return DatabaseSource(client, copy.database, long_poll_seconds)
    return ShardSource(client, copy, long_poll_seconds)


class _FeedSource:
    """The part that all sources share: how a page of `_changes` is asked for."""

    def __init__(self, client: Client, path: str, long_poll_seconds: float) -> None:
        self._session = client.session
        self._path = path
        self._long_poll_seconds = long_poll_seconds
        # The parameters of each page.
        self._form: dict[str, str] = {}
        # How long the server may be silent when it is asked about one document.
        self._question_seconds = float("inf")

    def page(self, since: Sequence, limit: int = PAGE_ROWS) -> Page:
        """Return the next rows after `since`, at once; none at the end."""
        return self._rows(since, {}, limit)

    def poll(self, since: Sequence, limit: int = PAGE_ROWS) -> Page:
        """Return the next rows after `since` as soon as there is one, or none when the poll has lasted its time."""
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
        """Return the rows that are asked for, or only the first of them where all are too many bytes."""
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
                # A long poll that hangs on a shard while it is split away ends with an empty 200.
                return Page([], since)
            page = answer.decode(Page)
            if page.results and page.last_seq == since:
                # A proxy that drops the question's parameters: to ask again would bring the same rows for ever.
                raise UnexpectedAnswerError(f"{answer.request}: the rows end at {since!r}, where they should begin")
            return page if wanted == limit else msgspec.structs.replace(page, cut=True)

    def recent(self) -> list[Row]:
        """Return some of the newest rows, oldest first."""
        return self._newest(_RECENT)

    def newest(self) -> Row | None:
        """Return the newest row; None where there is none."""
        return next(iter(self._newest(1)), None)

    def _newest(self, limit: int) -> list[Row]:
        params = {"descending": "true", "limit": str(limit)}
        answer = self._session.request("GET", f"{self._path}/_changes", params=params, limit_bytes=_ROW_BYTES)
        return answer.expect(200).decode(Page).results[::-1]

    def has(self, *rows: Row) -> bool:
        """Say whether rows that were read are a part of the history still, though their documents may have moved on."""
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
    """A database that one node keeps for itself: a shard, or its list of databases."""

    def __init__(self, client: Client, path: str, long_poll_seconds: float) -> None:
        super().__init__(client, path, long_poll_seconds)
        self._question_seconds = COPY_SECONDS

    def identify(self) -> Identity:
        """Ask the node for the copy's `uuid`, made anew with each copy, and its last sequence."""
        info = self._session.request("GET", self._path).expect(200).decode(_ShardInfo)
        return Identity(info.uuid, info.update_seq)


class ShardSource(_LocalSource):
    """One node's copy of one range."""

    def __init__(self, client: Client, copy: Copy, long_poll_seconds: float = LONG_POLL_SECONDS) -> None:
        super().__init__(client, copy_path(copy), long_poll_seconds)


class DirectorySource(_LocalSource):
    """The databases as one node hears of them: a row, by its name and with all leaves, for each map that was written.

    It can be filtered for one name, and must not be: each change that the filter leaves out begins the time of a long
    poll anew (measured), so on a cluster where databases are made all the time none would come to an end.
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

    Such a server has no `uuid` for a database, so the first listener leaves one in a local document: it goes with the
    database when that is deleted, and another database of the same name does not have it.
    """

    def __init__(self, client: Client, database: str, long_poll_seconds: float = LONG_POLL_SECONDS) -> None:
        super().__init__(client, f"/{quoted(database)}", long_poll_seconds)

    def identify(self) -> Identity:
        """Read the database's identity, or give it one."""
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
