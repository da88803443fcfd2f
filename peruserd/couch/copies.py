"""The copies of documents and security objects, each read and written by itself.

A clustered read shows one copy, and the cluster chooses which. If access or data is at stake, every copy is asked,
through `/_node/{node}/shards%2F…`: any node relays such a request to any other. A server without shards has one copy of
everything, at the database's own path.

Nothing here decides; `core.users.evidence` and `core.users.decision` do.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol, TypeVar

import msgspec

from peruserd.core.cluster.views import Copy, Feed
from peruserd.core.ownership.hashing import document_hash
from peruserd.core.ownership.ranges import Range, ShardMap
from peruserd.core.users.evidence import Evidence, Reading
from peruserd.core.users.facts import CopyReading
from peruserd.core.users.security import Security
from peruserd.couch.client import NO_DATABASE, SECURITY_BYTES, Client
from peruserd.couch.errors import (
    CouchError,
    InterruptedRequestError,
    NodeDownError,
    NotFoundError,
    ServerError,
    TimedOutError,
    UnauthorizedError,
    UnexpectedAnswerError,
)
from peruserd.couch.paths import copy_path
from peruserd.couch.revisions import COPY_SECONDS, known_of_many, winners
from peruserd.couch.session import quoted

# A shard map is cached this long. For that time a new copy does not count in the majority. A copy that has gone answers
# 404, and then the map is read again at once.
_MAP_SECONDS: Final = 5.0

SILENCE: Final = (NodeDownError, NotFoundError, ServerError, TimedOutError, UnexpectedAnswerError)
"""Failures that make one copy silent, and tell nothing about the others. A path closed to the account is one more.

Any other failure concerns all copies and is raised, such as a server that does not let this instance in.
"""

T = TypeVar("T")


class Place(msgspec.Struct, frozen=True):
    """The place of one copy: its node, and the path at which it is read and written."""

    node: str
    path: str


class Layout(Protocol):
    """Says where the copies are; both methods raise CouchError."""

    def of_document(self, document_id: str) -> tuple[Place, ...]:
        """Return the places of a document of the authentication database."""

    def of_database(self, database: str) -> tuple[Place, ...] | None:
        """Return the places of a database's security object; None if there is no such database."""

    def distrust(self) -> None:
        """Drop the cached map, because a copy was not in its place."""


class ShardLayout:
    """The places of a cluster's copies, from the shard maps of one node."""

    def __init__(self, client: Client, node: str, auth_db: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._node = node
        self._auth_db = auth_db
        self._clock = clock
        self._lock = threading.Lock()
        self._map: ShardMap | None = None
        self._read_at = float("-inf")

    def of_document(self, document_id: str) -> tuple[Place, ...]:
        """Return one place for each copy of each range that holds the document; none if there is no `_users`."""
        shard_map = self._auth_map()
        return () if shard_map is None else places_of(shard_map, shard_map.ranges_holding(document_hash(document_id)))

    def of_database(self, database: str) -> tuple[Place, ...] | None:
        """Return one place for each copy of each range of the database."""
        shard_map = self._client.shard_map(self._node, database)
        return None if shard_map is None else places_of(shard_map, shard_map.hosts)

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

    def __init__(self, client: Client, node: str, auth_db: str) -> None:
        self._client = client
        self._node = node
        self._auth_db = auth_db

    def of_document(self, _document_id: str) -> tuple[Place, ...]:
        """Return the authentication database."""
        return (Place(self._node, f"/{quoted(self._auth_db)}"),)

    def of_database(self, database: str) -> tuple[Place, ...] | None:
        """Return the database, if there is one."""
        return (Place(self._node, f"/{quoted(database)}"),) if self._client.database_exists(database) else None

    def distrust(self) -> None:
        """Do nothing, because nothing is cached."""


class Copies:
    """Asks copies one by one, from any number of threads; `followed` is the node whose copy a listener follows."""

    def __init__(self, client: Client, layout: Layout, followed: str | None = None) -> None:
        self._client = client
        self._layout = layout
        self._followed = followed

    def evidence(self, document_id: str) -> Evidence:
        """Return the evidence of all copies about a user document; raises CouchError if the server cannot be asked."""
        return self.evidences([document_id])[document_id]

    def evidences(self, document_ids: Iterable[str]) -> dict[str, Evidence]:
        """Return the evidence of all copies about some user documents, with one or two requests for each copy.

        Raises CouchError if the server cannot be asked.
        """
        places = {each: self._layout.of_document(each) for each in document_ids}
        read = self._shown(places)
        apart = {each: found for each, found in read.items() if len({one.winner for one in found.values()}) > 1}
        informed = self._informed(apart) if apart else {}
        return {
            each: Evidence(
                frozenset(place.node for place in places[each]),
                tuple(informed.get(each, found).values()),
                self._followed,
            )
            for each, found in read.items()
        }

    def _shown(self, places: Mapping[str, Iterable[Place]]) -> dict[str, dict[Place, Reading]]:
        """Return the reading of each copy that answers, by document."""
        asked: dict[Place, list[str]] = {}
        for document_id, hosts in places.items():
            for place in hosts:
                asked.setdefault(place, []).append(document_id)
        shown = _answers(asked, lambda place: winners(self._client.session, place.path, asked[place]))
        if len(shown) < len(asked):
            self._layout.distrust()
        return {
            each: {place: Reading(place.node, shown[place][each]) for place in hosts if place in shown}
            for each, hosts in places.items()
        }

    def _informed(self, read: dict[str, dict[Place, Reading]]) -> dict[str, dict[Place, Reading]]:
        """Add to each reading which of the other copies' revisions the copy knows; for documents whose copies differ.

        A copy that never had the document knows none of its revisions, and is not asked. A copy that does not answer
        now loses its reading.
        """
        asked: dict[Place, dict[str, frozenset[str]]] = {}
        for document_id, found in read.items():
            evidence = Evidence(frozenset(), tuple(found.values()))
            for place, reading in found.items():
                if reading.winner is not None:
                    asked.setdefault(place, {})[document_id] = evidence.unknown_winners(reading)
        known = _answers(asked, lambda place: known_of_many(self._client.session, place.path, asked[place]))
        return {
            each: {
                place: reading if reading.winner is None else msgspec.structs.replace(reading, knows=known[place][each])
                for place, reading in found.items()
                if reading.winner is None or place in known
            }
            for each, found in read.items()
        }

    def security(self, database: str) -> tuple[CopyReading, ...] | None:
        """Return the security object of each copy; None if there is no such database. Raises CouchError.

        If all copies seem to be lost, a clustered read follows. It tells three cases apart:

        - The database was deleted since its map was read. The clustered read does not find it either.
        - All copies are lost. The clustered read makes CouchDB create the copy on the attached node.
        - A proxy that decodes `%2F` makes each copy seem lost. They seem so after the clustered read as well, and none
          of them counts as lost.
        """
        found = self._securities(database)
        if not found or not all(each.lost for each in found):
            return found
        try:
            self._client.security(database)
        except NotFoundError:
            return None
        found = self._securities(database)
        if not found or not all(each.lost for each in found):
            return found
        return tuple(msgspec.structs.replace(each, lost=False) for each in found)

    def security_of(self, place: Place) -> Security:
        """Return the security object of one copy of a database; raises CouchError."""
        path = f"{place.path}/_security"
        answer = self._client.session.request("GET", path, limit_bytes=SECURITY_BYTES, within_seconds=COPY_SECONDS)
        return answer.expect(200).decode(dict[str, Any])

    def fill(self, database: str) -> None:
        """Make CouchDB copy documents to new copies at once; raises CouchError.

        The security objects of all copies must be the same before this. Otherwise CouchDB takes the one that most
        copies have, even if it is a new database's (measured).
        """
        self._client.session.request("POST", f"/{quoted(database)}/_sync_shards", body={}).expect(202)

    def write_each(self, wanted: Iterable[tuple[CopyReading, Security]]) -> None:
        """Write each of these copies by itself; raises the first CouchError after all were tried."""
        failure: CouchError | None = None
        for copy, security in wanted:
            try:
                self._client.session.request("PUT", f"{copy.path}/_security", body=security, prompt=True).expect(200)
            except InterruptedRequestError:
                raise
            except CouchError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def _securities(self, database: str) -> tuple[CopyReading, ...] | None:
        places = self._layout.of_database(database)
        if places is None:
            return None
        lost: set[Place] = set()

        def read(place: Place) -> Security:
            try:
                return self.security_of(place)
            except NotFoundError as error:
                if error.is_of_file:
                    lost.add(place)
                raise

        found = _answers(places, read)
        return tuple(CopyReading(each.node, found.get(each), each.path, lost=each in lost) for each in places)


class CopyOptions:
    """Reads and writes a database's option, such as `_revs_limit`, copy by copy.

    A clustered write waits for every copy: if one node is away, CouchDB does not answer for a minute (measured).
    """

    def __init__(self, client: Client, layout: Layout) -> None:
        self._client = client
        self._layout = layout

    def read(self, database: str, name: str) -> tuple[int, ...]:
        """Return the option of each copy that can be read; raises CouchError, also if no copy can."""
        return tuple(self._each(database, lambda place: self._read(place, name)).values())

    def write(self, database: str, name: str, value: int) -> None:
        """Set the option on each copy that can be reached; raises CouchError, also if no copy can."""
        self._each(database, lambda place: self._write(place, name, value))

    def _each(self, database: str, ask: Callable[[Place], T]) -> dict[Place, T]:
        places = self._layout.of_database(database)
        if places is None:
            raise NotFoundError(f"{database}: {NO_DATABASE}", NO_DATABASE)
        found = _answers(places, ask)
        if not found:
            raise NodeDownError(f"{database}: no copy of it answers")
        return found

    def _read(self, place: Place, name: str) -> int:
        return self._client.session.request("GET", f"{place.path}/{name}").expect(200).decode(int)

    def _write(self, place: Place, name: str, value: int) -> None:
        self._client.session.request("PUT", f"{place.path}/{name}", body=value, prompt=True).expect(200)


def open_layout(client: Client, feed: Feed, node: str, auth_db: str) -> Layout:
    """Return the layout for this kind of server; on one without shards `node` has all copies."""
    return SingleLayout(client, node, auth_db) if feed is Feed.DATABASE else ShardLayout(client, "_local", auth_db)


def open_copies(client: Client, followed: Copy) -> Copies:
    """Return the reader of copies for the kind of server that a listener follows."""
    return Copies(client, open_layout(client, followed.feed, followed.node, followed.database), followed.node)


def _answers(places: Iterable[Place], ask: Callable[[Place], T]) -> dict[Place, T]:
    """Return the answers of the copies that can be read.

    After a time-out a node is asked for no more copies, because it can hold many ranges of one database. Raises
    UnauthorizedError if the path of every copy is closed to the account, because waiting would not open it.
    """
    found: dict[Place, T] = {}
    others_silent = False
    closed: UnauthorizedError | None = None
    hanging: set[str] = set()
    for place in places:
        if place.node in hanging:
            continue
        try:
            found[place] = ask(place)
        except UnauthorizedError as error:
            closed = error
        except TimedOutError:
            hanging.add(place.node)
            others_silent = True
        except SILENCE:
            others_silent = True
    if closed is not None and not found and not others_silent:
        raise closed
    return found


def copies_of(shard_map: ShardMap, ranges: Iterable[Range]) -> list[Copy]:
    """Return every copy of these ranges of a database."""
    return [Copy(shard_map.database, each, node, shard_map.suffix) for each in ranges for node in shard_map.hosts[each]]


def places_of(shard_map: ShardMap, ranges: Iterable[Range]) -> tuple[Place, ...]:
    """Return the places of every copy of these ranges of a database."""
    return tuple(Place(each.node, copy_path(each)) for each in copies_of(shard_map, ranges))
