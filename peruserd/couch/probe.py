"""The probe: finds out whether the cluster serves users at all, without the influence of any user's code or document.

CouchDB serves a user if a majority of the nodes with the copies can be reached. A clustered read does not show that,
because a minority answers it as well. So the probe asks the copies of peruserd's own database one by one, through the
attached node, and a majority must answer. If that database does not exist, it asks the copies of the range that the
listener follows.

If the listener follows the database's own feed, the probe asks no single node or copy: the server may have none, or a
proxy may hide them. There it uses the pages of databases.

Reads alone do not show everything: with a full disk, or behind a proxy that passes only reads, the cluster serves
nobody either. So the probe writes a local document to peruserd's own database, if that exists and is ours. It is always
the same document, and a majority of its copies must take it.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from peruserd.core.cluster.cluster_database import MARKER_ID, is_marker
from peruserd.core.cluster.views import Copy, Feed
from peruserd.couch.client import Client
from peruserd.couch.errors import CouchError, InterruptedRequestError
from peruserd.couch.paths import copy_path
from peruserd.couch.session import quoted

# The id of two documents: the probe reads one, which need not exist, and writes a local one.
_DOCUMENT: Final = "peruserd-probe"
_NO_DOCUMENT: Final = frozenset({"missing", "deleted"})

# The statuses of a server or proxy that does not know a page or closes it.
_NO_PAGE: Final = frozenset({400, 403, 404, 405, 501})

MAX_SECONDS: Final = 5.0
"""The limit of a probe's time-outs. A copy that takes longer serves no user in time."""


class Probe(Protocol):
    """Finds out whether the cluster serves."""

    def ask(self) -> str | None:
        """Return the reason why the cluster does not serve, as a text; None if it serves.

        Raises InterruptedRequestError.
        """


class MajorityProbe:
    """Asks the copies of the database `own`; without it, the copies of the range that is `followed`."""

    def __init__(self, client: Client, own: str, followed: Copy) -> None:
        self._client = client
        self._own = own
        self._followed = followed

    def ask(self) -> str | None:
        """Return the reason why the cluster does not serve, as a text; None if it serves."""
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
                # A copy that refuses this instance counts as failed too: it is only one copy's answer.
                failures[copy.node] = str(error)
            else:
                answered += 1
            # A node that hangs takes long, so no copy is asked once the result is known.
            if answered >= needed or len(failures) > len(copies) - needed:
                break
        if answered >= needed or not copies:
            return _without_writes(self._client, self._own) if copies and copies[0].database == self._own else None
        silent = ", ".join(sorted(failures))
        first = next(iter(failures.values()))
        return f"no majority of the {len(copies)} copies of {copies[0].database} answers: not on {silent} ({first})"

    def _copies(self) -> list[Copy]:
        shard_map = self._client.shard_map("_local", self._own)
        # A map without ranges tells nothing; somebody may have edited it.
        if shard_map is not None and shard_map.hosts:
            covered = min(shard_map.hosts)
        else:
            # Without an authentication database there are no users, so nothing needs to be served.
            covered = self._followed.range
            shard_map = self._client.shard_map("_local", self._followed.database)
            if shard_map is None or covered not in shard_map.hosts:
                return []
        nodes = shard_map.hosts[covered]
        return [Copy(shard_map.database, covered, node, shard_map.suffix) for node in nodes]


class ServerProbe:
    """Asks only the pages of databases: of the database `own`, or without it of the authentication database.

    Two requests are necessary, because each shows what the other does not:

    - By the list of hosts and the membership, a majority of the hosts of a range must be connected. A read does not
      show that: the one copy that is left answers all reads (measured with documents, lists, security objects and
      revisions).
    - A document is read. The membership does not show hosts that hang, because these stay connected for a minute. The
      read does, because CouchDB waits for a second copy.

    A server without shards has no list of hosts. There only the document is read.
    """

    def __init__(self, client: Client, own: str, auth_db: str) -> None:
        self._client = client
        self._databases = (own, auth_db)

    def ask(self) -> str | None:
        """Return the reason why the server does not serve, as a text; None if it serves."""
        return _in_words(self._ask)

    def _ask(self) -> str | None:
        for database in self._databases:
            if self._is_there(database):
                why = self.without_majority(database)
                is_own = database == self._databases[0]
                return _without_writes(self._client, database) if why is None and is_own else why
        # Without an authentication database there are no users, so nothing needs to be served.
        return None

    def _is_there(self, database: str) -> bool:
        """Read a document, which need not exist; False if there is no such database."""
        answer = self._client.session.request("GET", f"/{quoted(database)}/{quoted(_DOCUMENT)}")
        if answer.status == 404 and answer.reason in _NO_DOCUMENT:
            return True
        return answer.expect(200, 404).status == 200

    def without_majority(self, database: str) -> str | None:
        """Return why no range of a database has a majority, or None if one has; raises CouchError."""
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
        """Return the hosts of each range; none on a server without shards, or if the page is closed."""
        answer = self._client.session.request("GET", f"/{quoted(database)}/_shards")
        return answer.expect(200).decode(_Hosts).shards if answer.status not in _NO_PAGE else {}

    def _connected(self) -> frozenset[str] | None:
        """Return the connected nodes; None if the server does not say."""
        answer = self._client.session.request("GET", "/_membership")
        return None if answer.status in _NO_PAGE else frozenset(answer.expect(200).decode(_Connected).all_nodes)


def open_probe(client: Client, own: str, followed: Copy) -> Probe:
    """Return the probe for the kind of server that a listener follows."""
    if followed.feed is Feed.DATABASE:
        return ServerProbe(client, own, followed.database)
    return MajorityProbe(client, own, followed)


def _without_writes(client: Client, own: str) -> str | None:
    """Write to the database `own`; return why a majority does not take the write, or None if it does.

    Nothing is written if the database of that name is somebody else's.
    """
    marker = client.session.request("GET", f"/{quoted(own)}/{quoted(MARKER_ID)}").expect(200, 404)
    if marker.status == 404 or not is_marker(marker.decode(dict[str, Any])):
        return None
    path = f"/{quoted(own)}/_local/{quoted(_DOCUMENT)}"
    answer = client.session.request("PUT", path, body={})
    if answer.status == 409:
        # PouchDB Server takes a second write only with the revision of the first; CouchDB does not need it (measured).
        written = client.session.request("GET", path).expect(200).decode(_Written)
        answer = client.session.request("PUT", path, body={"_rev": written.rev})
    answer.expect(201, 202)
    return None if answer.status == 201 else f"no majority of the copies of {own} takes a write"


def _in_words(ask: Callable[[], str | None]) -> str | None:
    """Return the result of a probe, or its failure as a text: for any failure, no answer has shown a majority."""
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
