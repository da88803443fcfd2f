"""The copies of one document and of one security object, each read and written by itself.

A clustered read shows one copy, and which one is the cluster's choice. Where access or data is at stake, every copy is
asked: through `/_node/{node}/shards%2F…`, which any node relays to any other. A server without shards has one copy of
everything, which is read at the database's own path.

Nothing here decides; `core.evidence` and `core.decision` do.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from peruserd.core.decision import CopyReading
from peruserd.core.evidence import Evidence, Reading, Winner
from peruserd.core.hashing import document_hash
from peruserd.core.ranges import Range, ShardMap
from peruserd.core.security import Security
from peruserd.core.views import Copy, Feed
from peruserd.couch.client import SECURITY_BYTES, Client
from peruserd.couch.errors import NodeDownError, NotFoundError, ServerError, TimedOutError, UnexpectedAnswerError
from peruserd.couch.session import quoted

# A map that was read is believed this long. A copy that has come since is no part of the majority for that time. One
# that has gone answers 404, and then the map is read again at once.
_MAP_SECONDS: Final = 5.0

# What makes one copy silent. Anything else, such as a refused password, concerns all of them and is raised.
_SILENCE: Final = (NodeDownError, NotFoundError, ServerError, TimedOutError, UnexpectedAnswerError)


class Place(msgspec.Struct, frozen=True):
    """Where one copy is: the node that holds it, and the path at which it is read and written."""

    node: str
    path: str


class Layout(Protocol):
    """Says where the copies are; both methods raise CouchError."""

    def of_document(self, document_id: str) -> tuple[Place, ...]:
        """Return the places of a document of the authentication database."""

    def of_database(self, database: str) -> tuple[Place, ...] | None:
        """Return the places of a database's security object; None where there is no such database."""

    def distrust(self) -> None:
        """Forget what was read before, because a copy was not where it should be."""


class ShardLayout:
    """The places of a cluster's copies, by the shard maps of one node."""

    def __init__(self, client: Client, node: str, auth_db: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._node = node
        self._auth_db = auth_db
        self._clock = clock
        self._lock = threading.Lock()
        self._map: ShardMap | None = None
        self._read_at = float("-inf")

    def of_document(self, document_id: str) -> tuple[Place, ...]:
        """Return one place for each copy of each range that holds the document; none while there is no `_users`."""
        shard_map = self._auth_map()
        return () if shard_map is None else _places(shard_map, shard_map.ranges_holding(document_hash(document_id)))

    def of_database(self, database: str) -> tuple[Place, ...] | None:
        """Return one place for each copy of each range of the database."""
        shard_map = self._client.shard_map(self._node, database)
        return None if shard_map is None else _places(shard_map, tuple(shard_map.hosts))

    def distrust(self) -> None:
        """Read the shard map of the authentication database again next time."""
        with self._lock:
            self._map = None

    def _auth_map(self) -> ShardMap | None:
        with self._lock:
            if self._map is not None and self._clock() - self._read_at < _MAP_SECONDS:
                return self._map
        found = self._client.shard_map(self._node, self._auth_db)
        with self._lock:
            self._map, self._read_at = found, self._clock()
        return found


class SingleLayout:
    """A server without shards: one copy of everything, at the database's own path."""

    def __init__(self, client: Client, auth_db: str) -> None:
        self._client = client
        self._auth_db = auth_db

    def of_document(self, _document_id: str) -> tuple[Place, ...]:
        """Return the authentication database."""
        return (Place("", f"/{quoted(self._auth_db)}"),)

    def of_database(self, database: str) -> tuple[Place, ...] | None:
        """Return the database, if there is one."""
        return (Place("", f"/{quoted(database)}"),) if self._client.database_exists(database) else None

    def distrust(self) -> None:
        """Nothing is remembered."""


class Copies:
    """Asks copies one by one, from any number of threads."""

    def __init__(self, client: Client, layout: Layout) -> None:
        self._client = client
        self._layout = layout

    def evidence(self, document_id: str) -> Evidence:
        """Return what the copies of a user document say; raises CouchError where the server cannot be asked."""
        places = self._layout.of_document(document_id)
        hosts = frozenset(each.node for each in places)
        read = {place: winner for place in places for winner in self._winner(place, document_id)}
        first = Evidence(hosts, tuple(Reading(place.node, winner) for place, winner in read.items()))
        if len(read) < len(places):
            self._layout.distrust()
        if len({each.winner for each in first.readings}) < 2:
            return first
        pairs = zip(read, first.readings, strict=True)
        readings = [
            each
            for place, reading in pairs
            for each in self._with_knowledge(place, reading, first.unknown_winners(reading), document_id)
        ]
        return Evidence(hosts, tuple(readings))

    def security(self, database: str) -> tuple[CopyReading, ...] | None:
        """Return the security object of each copy; None where there is no such database. Raises CouchError."""
        places = self._layout.of_database(database)
        if places is None:
            return None
        return tuple(CopyReading(each.node, self._security(each), each.path) for each in places)

    def write_security(self, copy: CopyReading, security: Security) -> None:
        """Write one copy alone; raises CouchError."""
        self._client.session.request("PUT", f"{copy.path}/_security", body=security, prompt=True).expect(200)

    def _winner(self, place: Place, document_id: str) -> list[Winner | None]:
        """Return the copy's winner, in a list that is empty where the copy cannot be read."""
        try:
            answer = self._client.session.request("POST", f"{place.path}/_all_docs", body={"keys": [document_id]})
            rows = answer.expect(200).decode(_Rows).rows
            if len(rows) != 1 or rows[0].key != document_id or (rows[0].value is None) == (rows[0].error is None):
                raise UnexpectedAnswerError(f"{answer.request}: the answer is not about the document asked for")
        except _SILENCE:
            return []
        value = rows[0].value
        return [None if value is None else Winner(value.rev, value.deleted)]

    def _with_knowledge(self, place: Place, reading: Reading, asked: frozenset[str], document_id: str) -> list[Reading]:
        """Return a reading with what the copy knows of the others' winners; nothing where it is silent by now."""
        if reading.winner is None:
            # A copy that never heard of the document knows none of its revisions.
            return [reading]
        try:
            answer = self._client.session.request("POST", f"{place.path}/_revs_diff", body={document_id: sorted(asked)})
            differences = answer.expect(200).decode(dict[str, _Difference])
        except _SILENCE:
            return []
        missing = differences[document_id].missing if document_id in differences else ()
        return [msgspec.structs.replace(reading, knows=asked.difference(missing))]

    def _security(self, place: Place) -> Security | None:
        try:
            answer = self._client.session.request("GET", f"{place.path}/_security", limit_bytes=SECURITY_BYTES)
            return answer.expect(200).decode(dict[str, Any])
        except _SILENCE:
            return None


def open_copies(client: Client, followed: Copy) -> Copies:
    """Return the reader of copies on the kind of server that a listener follows a copy of."""
    if followed.feed is Feed.DATABASE:
        return Copies(client, SingleLayout(client, followed.database))
    return Copies(client, ShardLayout(client, "_local", followed.database))


class _Value(msgspec.Struct, frozen=True):
    rev: str
    deleted: bool = False


class _Row(msgspec.Struct, frozen=True):
    key: str
    value: _Value | None = None
    error: str | None = None


class _Rows(msgspec.Struct, frozen=True):
    rows: list[_Row]


class _Difference(msgspec.Struct, frozen=True):
    missing: tuple[str, ...] = ()


def _places(shard_map: ShardMap, ranges: tuple[Range, ...]) -> tuple[Place, ...]:
    return tuple(
        Place(node, f"/_node/{quoted(node)}/{quoted(f'shards/{each}/{shard_map.database}{shard_map.suffix}')}")
        for each in ranges
        for node in shard_map.hosts[each]
    )
