"""A question whether the cluster serves at all, that no user's own code or document can answer.

CouchDB serves a user when a majority of the nodes that hold the copies can be reached. A clustered read does not show
that, because a minority answers it as well. So the copies of peruserd's own database are asked one by one, through the
node that is asked for everything: a majority of them must answer. Where that database is not there, the copies of the
range that the listener follows are asked instead.

Where the database's own feed is followed, no node and no copy is asked for by itself: the server may have none, or a
proxy before it. There the pages of databases tell as much.

Reads alone do not show everything: a full disk, or a proxy that lets nothing but reads pass, keeps the cluster from
serving as well. So a local document of peruserd's own database is written, where that database is there and is ours. It
is always the same one, and a majority of its copies must take it.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from peruserd.core.cluster.cluster_database import MARKER_ID, is_marker
from peruserd.core.cluster.views import Copy, Feed
from peruserd.core.configuration.config import CouchDBConfig
from peruserd.couch.client import Client
from peruserd.couch.errors import CouchError, InterruptedRequestError
from peruserd.couch.paths import copy_path
from peruserd.couch.session import quoted

# The document that is read, which is never there and need not be, and the local one that is written.
_DOCUMENT: Final = "peruserd-probe"
_NO_DOCUMENT: Final = frozenset({"missing", "deleted"})

# The answers of a server, or of something before it, that does not know a page or keeps it to itself.
_NO_PAGE: Final = frozenset({400, 403, 404, 405, 501})

# A copy that has not answered by then is none that serves anybody in time.
_MAX_SECONDS: Final = 5.0


class Probe(Protocol):
    """Finds out whether the cluster serves."""

    def ask(self) -> str | None:
        """Return in words what keeps the cluster from serving, None where nothing does.

        Raises InterruptedRequestError.
        """


class MajorityProbe:
    """Asks the copies of the database `own`, or else those of the range of the copy that is `followed`."""

    def __init__(self, client: Client, own: str, followed: Copy) -> None:
        self._client = client
        self._own = own
        self._followed = followed

    def ask(self) -> str | None:
        """Return in words what keeps the cluster from serving, None where nothing does."""
        return _in_words(self._ask)

    def _ask(self) -> str | None:
        copies = self._copies()
        needed = len(copies) // 2 + 1
        answered = 0
        failures: dict[str, str] = {}
        for copy in copies:
            try:
                self._client.session.request("GET", copy_path(copy)).expect(200)
            except InterruptedRequestError:
                raise
            except CouchError as error:
                # Also one that refuses this instance, and of which nobody can find out why: it is one copy's word.
                failures[copy.node] = str(error)
            else:
                answered += 1
            # A node that hangs takes its time, so nobody is asked for nothing.
            if answered >= needed or len(failures) > len(copies) - needed:
                break
        if answered >= needed or not copies:
            return _without_writes(self._client, self._own) if copies and copies[0].database == self._own else None
        silent = ", ".join(sorted(failures))
        first = next(iter(failures.values()))
        return f"no majority of the {len(copies)} copies of {copies[0].database} answers: not on {silent} ({first})"

    def _copies(self) -> list[Copy]:
        shard_map = self._client.shard_map("_local", self._own)
        # A map without a range tells nothing, whoever made it up.
        if shard_map is not None and shard_map.hosts:
            covered = min(shard_map.hosts)
        else:
            # Without an authentication database there are no users, and nobody to ask about.
            covered = self._followed.range
            shard_map = self._client.shard_map("_local", self._followed.database)
            if shard_map is None or covered not in shard_map.hosts:
                return []
        nodes = shard_map.hosts[covered]
        return [Copy(shard_map.database, covered, node, shard_map.suffix) for node in nodes]


class ServerProbe:
    """Asks by the pages of databases alone: for the database `own`, or else for the authentication database.

    Two questions show what one cannot:

    - A majority of the hosts of a range must be connected, by the list of hosts and the membership. A read is answered
      by the one copy that is left (measured: documents, lists, security objects, revisions, all of them).
    - A document is read. Hosts that hang are connected for a minute still, and CouchDB waits for a second copy of it.

    A server without shards tells of no hosts. There the read alone is asked for.
    """

    def __init__(self, client: Client, own: str, auth_db: str) -> None:
        self._client = client
        self._databases = (own, auth_db)

    def ask(self) -> str | None:
        """Return in words what keeps the server from serving, None where nothing does."""
        return _in_words(self._ask)

    def _ask(self) -> str | None:
        for database in self._databases:
            if self._is_there(database):
                why = self.without_majority(database)
                is_own = database == self._databases[0]
                return _without_writes(self._client, database) if why is None and is_own else why
        # Without an authentication database there are no users, and nobody to ask about.
        return None

    def _is_there(self, database: str) -> bool:
        """Read a document, which need not be there; False where there is no such database."""
        answer = self._client.session.request("GET", f"/{quoted(database)}/{quoted(_DOCUMENT)}")
        if answer.status == 404 and answer.reason in _NO_DOCUMENT:
            return True
        return answer.expect(200, 404).status == 200

    def without_majority(self, database: str) -> str | None:
        """Return in words why no range of a database has a majority, None where one has; raises CouchError."""
        hosts = self._hosts(database)
        connected = self._connected() if hosts else None
        if not hosts or connected is None:
            return None
        missing = [frozenset(nodes) - connected for nodes in hosts.values()]
        if any(2 * len(away) < len(nodes) for away, nodes in zip(missing, hosts.values(), strict=True)):
            return None
        silent = ", ".join(sorted(frozenset().union(*missing)))
        return f"no majority of the hosts of {database} is connected: {silent} not"

    def _hosts(self, database: str) -> dict[str, list[str]]:
        """Return the hosts of each range; none on a server without shards, or where that is nobody's business."""
        answer = self._client.session.request("GET", f"/{quoted(database)}/_shards")
        return answer.expect(200).decode(_Hosts).shards if answer.status not in _NO_PAGE else {}

    def _connected(self) -> frozenset[str] | None:
        """Return the nodes that are connected; None where the server does not say."""
        answer = self._client.session.request("GET", "/_membership")
        return None if answer.status in _NO_PAGE else frozenset(answer.expect(200).decode(_Connected).all_nodes)


def open_probe(client: Client, own: str, followed: Copy) -> Probe:
    """Return the probe for the kind of server that a listener follows a copy of."""
    if followed.feed is Feed.DATABASE:
        return ServerProbe(client, own, followed.database)
    return MajorityProbe(client, own, followed)


def _without_writes(client: Client, own: str) -> str | None:
    """Write to the database `own`; return in words why a majority does not take it, None where it does.

    A database of that name that is somebody else's is never written to.
    """
    marker = client.session.request("GET", f"/{quoted(own)}/{quoted(MARKER_ID)}").expect(200, 404)
    if marker.status == 404 or not is_marker(marker.decode(dict[str, Any])):
        return None
    path = f"/{quoted(own)}/_local/{quoted(_DOCUMENT)}"
    answer = client.session.request("PUT", path, body={})
    if answer.status == 409:
        # PouchDB Server takes a second write only with the revision of the first; CouchDB never asks for it (measured).
        written = client.session.request("GET", path).expect(200).decode(_Written)
        answer = client.session.request("PUT", path, body={"_rev": written.rev})
    answer.expect(201, 202)
    return None if answer.status == 201 else f"no majority of the copies of {own} takes a write"


def _in_words(ask: Callable[[], str | None]) -> str | None:
    """Return what a question finds, or its failure: whatever the reason, no answer came that shows a majority."""
    try:
        return ask()
    except InterruptedRequestError:
        raise
    except CouchError as error:
        return str(error)


class _Hosts(msgspec.Struct, frozen=True):
    shards: dict[str, list[str]]


class _Written(msgspec.Struct, frozen=True, rename={"rev": "_rev"}):
    rev: str


class _Connected(msgspec.Struct, frozen=True):
    all_nodes: list[str]


def probing(couchdb: CouchDBConfig) -> CouchDBConfig:
    """Return how to reach the node for a probe, whose answer is worth nothing when it is late."""
    return msgspec.structs.replace(
        couchdb,
        connect_timeout=min(couchdb.connect_timeout, _MAX_SECONDS),
        read_timeout=min(couchdb.read_timeout, _MAX_SECONDS),
    )
