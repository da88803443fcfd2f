"""The facts of a cluster that matter to a drop: which database it is, whether its hosts are there, the time.

Each fact is read anew, at the moment of the decision. Nothing here decides; `core.deletions.drop` does.
"""

from typing import Final, Protocol

import msgspec

from peruserd.core.cluster.views import Copy, Feed
from peruserd.core.deletions.drop import Hosts
from peruserd.core.ownership.hashing import document_hash
from peruserd.core.ownership.ranges import ShardMap
from peruserd.couch.client import Client
from peruserd.couch.clocks import node_clock, server_clock
from peruserd.couch.copies import copies_of
from peruserd.couch.errors import CouchError, InterruptedRequestError, RefusedError
from peruserd.couch.session import quoted

# How many nodes are asked what time it is, where there are as many: two must agree, and one may be wrong.
_CLOCKS: Final = 3


class Scene(msgspec.Struct, frozen=True):
    """The facts of one moment: see `core.deletions.drop.Known`."""

    suffixes: frozenset[str | None]
    hosts: tuple[Hosts, ...]
    dates: dict[str, float]
    nodes: int


class Grounds(Protocol):
    """Reads what matters to a drop; all of it raises CouchError."""

    def suffix(self, database: str) -> str | None:
        """Return what tells the database from another one of its name; None where there is none."""

    def now(self) -> float | None:
        """Return the time by the clock of the node that is asked."""

    def scene(self, document_id: str, database: str, *, with_dates: bool) -> Scene:
        """Return the facts of this moment."""

    def is_blank(self, database: str) -> bool:
        """Say whether every copy answers that nobody ever wrote a document to the database."""


class ShardGrounds:
    """A cluster with shards, seen through one node."""

    def __init__(self, client: Client, auth_db: str, journal: str) -> None:
        self._client = client
        self._auth_db = auth_db
        self._journal = journal

    def suffix(self, database: str) -> str | None:
        """Return the suffix by the shard map of the node that is asked."""
        shard_map = self._client.shard_map("_local", database)
        return None if shard_map is None else shard_map.suffix

    def now(self) -> float | None:
        """Return the time by the clock of the node that is asked."""
        return node_clock(self._client, "_local")

    def scene(self, document_id: str, database: str, *, with_dates: bool) -> Scene:
        """Return the facts by the maps of the node that is asked, and of another one for the database."""
        membership = self._client.membership()
        there = frozenset(membership.all_nodes)
        me = self._client.node_name() or "_local"
        # A node that is connected and no member need not know of any database of this cluster.
        others = sorted(there - {me}, key=lambda each: (each not in membership.cluster_nodes, each))
        maps = [self._client.shard_map(node, database) for node in (me, *others[:1])]
        hosts = [
            *self._ranges(self._client.shard_map(me, self._auth_db), there, document_id),
            *self._ranges(self._client.shard_map(me, self._journal), there, None),
            *self._ranges(maps[0], there, None),
        ]
        return Scene(
            suffixes=frozenset(None if each is None else each.suffix for each in maps),
            hosts=tuple(hosts),
            dates=self._dates((me, *others[: _CLOCKS - 1])) if with_dates else {},
            # Nodes that are only listed can be gone for good, and the hosts that matter are counted one by one.
            nodes=len(there),
        )

    def is_blank(self, database: str) -> bool:
        """Ask each copy; one that cannot be asked may have what the others lack."""
        shard_map = self._client.shard_map("_local", database)
        if shard_map is None:
            return False
        copies = copies_of(shard_map, shard_map.hosts)
        try:
            return bool(copies) and all(self._client.copy_is_untouched(each) for each in copies)
        except (InterruptedRequestError, RefusedError):
            raise
        except CouchError:
            return False

    def _ranges(self, shard_map: ShardMap | None, there: frozenset[str], document_id: str | None) -> list[Hosts]:
        if shard_map is None:
            # Nothing is known of it, and a range that nobody hosts has no majority.
            return [Hosts(frozenset(), frozenset())]
        ranges = shard_map.hosts if document_id is None else shard_map.ranges_holding(document_hash(document_id))
        found = [frozenset(shard_map.hosts[each]) for each in ranges]
        return [Hosts(each, each & there) for each in found] or [Hosts(frozenset(), frozenset())]

    def _dates(self, nodes: tuple[str, ...]) -> dict[str, float]:
        found = {}
        for node in nodes:
            try:
                date = node_clock(self._client, node)
            except (InterruptedRequestError, RefusedError):
                raise
            except CouchError:
                continue
            if date is not None:
                found[node] = date
        return found


class SingleGrounds:
    """A server without shards: one host, one clock, and nothing that tells two databases of one name apart."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def suffix(self, database: str) -> str | None:
        """Say only whether it is there."""
        return "" if self._client.database_exists(database) else None

    def now(self) -> float | None:
        """Return the date of an answer."""
        return server_clock(self._client)

    def scene(self, document_id: str, database: str, *, with_dates: bool) -> Scene:  # noqa: ARG002 - one host has all
        """Return the facts: the server that answers is all there is."""
        alone = frozenset({""})
        date = server_clock(self._client) if with_dates else None
        return Scene(
            suffixes=frozenset({self.suffix(database)}),
            hosts=(Hosts(alone, alone),),
            dates={} if date is None else {"": date},
            nodes=1,
        )

    def is_blank(self, database: str) -> bool:
        """Ask the server, which knows it all."""
        return self._client.documents_in(f"/{quoted(database)}") == 0


def open_grounds(client: Client, followed: Copy, journal: str) -> Grounds:
    """Return what reads the facts on the kind of server that a listener follows a copy of."""
    if followed.feed is Feed.DATABASE:
        return SingleGrounds(client)
    return ShardGrounds(client, followed.database, journal)
