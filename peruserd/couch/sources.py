"""Change sources: where a listener reads changes from. One small interface, two back ends.

A shard copy is read through `/_node/{node}/…`, with integer sequences private to the copy; a server without shards
through the database's own feed, whose sequences are whatever the server makes them. `feed=continuous` is never used: on
the shard path the node buffers it until it ends, in its own memory (measured).
"""

import secrets
from typing import Final, Protocol

import msgspec

from peruserd.core.messages import Sequence
from peruserd.core.progress import Identity
from peruserd.core.views import Copy, Feed
from peruserd.couch.client import Client
from peruserd.couch.errors import NotFoundError, NothingYetError
from peruserd.couch.session import quoted

# Below the 30 s at which proxies hang up; a node keeps the handler of a client that went away this long.
LONG_POLL_SECONDS: Final = 25.0

# Reads a backlog fastest over one connection: 35,000 rows/s against 13,000 with 100 rows a page, 9,000 with 20,000.
PAGE_ROWS: Final = 1_000

# Names one life of a database on a server whose own answer does not.
_IDENTITY_DOCUMENT: Final = "_local/peruserd.identity"


class Row(msgspec.Struct, frozen=True, gc=False):
    """One row of a feed: the newest change of a document."""

    seq: Sequence
    id: str
    deleted: bool = False


class Page(msgspec.Struct, frozen=True):
    """Rows in their order and the sequence to go on from."""

    results: list[Row]
    last_seq: Sequence


class ChangeSource(Protocol):
    """Where changes come from. Every method raises CouchError; `NotFoundError` means that the copy is gone."""

    def identify(self) -> Identity:
        """Ask which copy this is; to be compared with what a checkpoint was made for."""

    def page(self, since: Sequence, limit: int = PAGE_ROWS) -> Page:
        """Return the next rows after `since`, at once; none at the end."""

    def poll(self, since: Sequence, limit: int = PAGE_ROWS) -> Page:
        """Return the next rows after `since` as soon as there is one, or none when the poll has lasted its time."""

    def interrupt(self) -> None:
        """End a request under way; for another thread to call."""


def open_source(copy: Copy, client: Client, long_poll_seconds: float = LONG_POLL_SECONDS) -> ChangeSource:
    """Return the change source of a copy; the client's session serves it alone."""
    if copy.feed is Feed.DATABASE:
        return DatabaseSource(client, copy.database, long_poll_seconds)
    return ShardSource(client, copy, long_poll_seconds)


class _FeedSource:
    """What both back ends share: how a page of `_changes` is asked for."""

    def __init__(self, client: Client, path: str, long_poll_seconds: float) -> None:
        self._session = client.session
        self._path = path
        self._long_poll_seconds = long_poll_seconds

    def page(self, since: Sequence, limit: int = PAGE_ROWS) -> Page:
        """Return the next rows after `since`, at once; none at the end."""
        params = {"since": str(since), "limit": str(limit)}
        return self._session.request("GET", f"{self._path}/_changes", params=params).expect(200).decode(Page)

    def poll(self, since: Sequence, limit: int = PAGE_ROWS) -> Page:
        """Return the next rows after `since` as soon as there is one, or none when the poll has lasted its time."""
        params = {
            "feed": "longpoll",
            "since": str(since),
            "limit": str(limit),
            "timeout": str(int(self._long_poll_seconds * 1000)),
        }
        try:
            answer = self._session.request(
                "GET", f"{self._path}/_changes", params=params, wait_seconds=self._long_poll_seconds
            ).expect(200)
        except NothingYetError:
            return Page([], since)
        # A long poll that hangs on a shard while it is split away ends with an empty 200.
        return answer.decode(Page) if answer.body.strip() else Page([], since)

    def interrupt(self) -> None:
        """End a request under way."""
        self._session.interrupt()


class _ShardInfo(msgspec.Struct, frozen=True):
    uuid: str
    update_seq: int


class ShardSource(_FeedSource):
    """One node's copy of one range."""

    def __init__(self, client: Client, copy: Copy, long_poll_seconds: float = LONG_POLL_SECONDS) -> None:
        super().__init__(client, f"/_node/{quoted(copy.node)}/{quoted(copy.shard_name)}", long_poll_seconds)

    def identify(self) -> Identity:
        """Ask the node for the copy's `uuid`, made anew with each copy, and its last sequence."""
        info = self._session.request("GET", self._path).expect(200).decode(_ShardInfo)
        return Identity(info.uuid, info.update_seq)


class DirectorySource(_FeedSource):
    """What one node hears of databases: a row, by the database's name, for each whose shard map was written.

    It can be filtered for one name, and must not be: each change that the filter leaves out begins the time of a long
    poll anew (measured), so on a cluster where databases are made all the time none would come to an end.
    """

    def __init__(self, client: Client, node: str, long_poll_seconds: float = LONG_POLL_SECONDS) -> None:
        super().__init__(client, f"/_node/{quoted(node)}/_dbs", long_poll_seconds)

    def end(self) -> Sequence:
        """Return the sequence of the newest change."""
        return self.page("now", 1).last_seq


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
