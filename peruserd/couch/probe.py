"""A question whether the cluster serves at all, that no user's own code or document can answer.

CouchDB serves a user when a majority of the nodes that hold the copies can be reached. A clustered read does not show
that, because a minority answers it as well. So the copies of peruserd's own database are asked one by one, through the
node that is asked for everything: a majority of them must answer. Where that database is not there, the copies of the
range that the listener follows are asked instead.

A server without shards has one copy of everything and need not have that database. It serves when it shows its
authentication database.
"""

from typing import Final, Protocol

import msgspec

from peruserd.core.config import CouchDBConfig
from peruserd.core.views import Copy, Feed
from peruserd.couch.client import Client, copy_path
from peruserd.couch.errors import CouchError, InterruptedRequestError

# A copy that has not answered by then is none that serves anybody in time.
_LONGEST_SECONDS: Final = 5.0


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
        try:
            return self._ask()
        except InterruptedRequestError:
            raise
        except CouchError as error:
            return str(error)

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
            return None
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
    """Asks a server without shards for its authentication database."""

    def __init__(self, client: Client, auth_db: str) -> None:
        self._client = client
        self._auth_db = auth_db

    def ask(self) -> str | None:
        """Return in words what keeps the server from serving, None where nothing does."""
        try:
            self._client.database_exists(self._auth_db)
        except InterruptedRequestError:
            raise
        except CouchError as error:
            return str(error)
        return None


def open_probe(client: Client, own: str, followed: Copy) -> Probe:
    """Return the probe for the kind of server that a listener follows a copy of."""
    if followed.feed is Feed.DATABASE:
        return ServerProbe(client, followed.database)
    return MajorityProbe(client, own, followed)


def probing(couchdb: CouchDBConfig) -> CouchDBConfig:
    """Return how to reach the node for a probe, whose answer is worth nothing when it is late."""
    return msgspec.structs.replace(
        couchdb,
        connect_timeout=min(couchdb.connect_timeout, _LONGEST_SECONDS),
        read_timeout=min(couchdb.read_timeout, _LONGEST_SECONDS),
    )
