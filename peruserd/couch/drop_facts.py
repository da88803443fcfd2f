"""The facts of a cluster that decide about a drop: which life of the database it is, its connected hosts, and the time.

Each fact is read again for each decision. Nothing here decides; `core.deletions.drop` does.
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

# The time is asked of this many nodes, if there are as many: two must agree, and one may be wrong.
_CLOCKS: Final = 3


class DropFacts(msgspec.Struct, frozen=True):
    """The facts at one moment; see `core.deletions.drop.Known`."""

    suffixes: frozenset[str | None]
    hosts: tuple[Hosts, ...]
    dates: dict[str, float]
    nodes: int


class DropFactsReader(Protocol):
    """Reads the facts for a drop; every method raises CouchError."""

    def suffix(self, database: str) -> str | None:
        """Return the suffix by which this database differs from others of its name; None if there is no database."""

    def now(self) -> float | None:
        """Return the time by the clock of the node that is asked."""

    def read(self, document_id: str, database: str, *, with_dates: bool) -> DropFacts:
        """Return the facts as they are now."""

    def is_blank(self, database: str) -> bool:
        """Say whether every copy answers, and says that the database never had a document."""


class ShardDropFactsReader:
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

    def read(self, document_id: str, database: str, *, with_dates: bool) -> DropFacts:
        """Return the facts by the attached node's shard maps. The database's own map also comes from another node."""
        membership = self._client.membership()
        there = frozenset(membership.all_nodes)
        me = self._client.node_name() or "_local"
        # A connected node that is no member may know no database of this cluster.
        others = sorted(there - {me}, key=lambda each: (each not in membership.cluster_nodes, each))
        maps = [self._client.shard_map(node, database) for node in (me, *others[:1])]
        hosts = [
            *self._ranges(self._client.shard_map(me, self._auth_db), there, document_id),
            *self._ranges(self._client.shard_map(me, self._journal), there, None),
            *self._ranges(maps[0], there, None),
        ]
        return DropFacts(
            suffixes=frozenset(None if each is None else each.suffix for each in maps),
            hosts=tuple(hosts),
            dates=self._dates((me, *others[: _CLOCKS - 1])) if with_dates else {},
            # Only connected nodes count here. A node that is only listed may be gone for good, and `hosts` already has
            # the hosts of each range.
            nodes=len(there),
        )

    def is_blank(self, database: str) -> bool:
        """Ask each copy. A silent copy counts as not blank, because it may have documents that the others lack."""
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
            # Nothing is known of the database. A range without hosts has no majority.
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


class SingleDropFactsReader:
    """A server without shards: one host, one clock, and no suffix to tell two databases of one name apart."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def suffix(self, database: str) -> str | None:
        """Return the empty text if the database exists, and None if not."""
        return "" if self._client.database_exists(database) else None

    def now(self) -> float | None:
        """Return the date of the server's answer."""
        return server_clock(self._client)

    def read(self, document_id: str, database: str, *, with_dates: bool) -> DropFacts:  # noqa: ARG002 - one host has all
        """Return the facts; the server that answers is the only host."""
        alone = frozenset({""})
        date = server_clock(self._client) if with_dates else None
        return DropFacts(
            suffixes=frozenset({self.suffix(database)}),
            hosts=(Hosts(alone, alone),),
            dates={} if date is None else {"": date},
            nodes=1,
        )

    def is_blank(self, database: str) -> bool:
        """Ask the server, which has the only copy."""
        return self._client.documents_in(f"/{quoted(database)}") == 0


def open_drop_facts_reader(client: Client, followed: Copy, journal: str) -> DropFactsReader:
    """Return the reader of facts for the kind of server that a listener follows."""
    if followed.feed is Feed.DATABASE:
        return SingleDropFactsReader(client)
    return ShardDropFactsReader(client, followed.database, journal)
