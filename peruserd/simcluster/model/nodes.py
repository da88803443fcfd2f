"""One node's own state: the databases that it knows, its shard files, its configuration. Pure."""

from bisect import bisect_left, insort
from collections.abc import Callable

from peruserd.core.ownership.ranges import WHOLE_SPACE, Range
from peruserd.simcluster.model.copies import ShardCopy
from peruserd.simcluster.model.revisions import Revision
from peruserd.simcluster.model.shard_maps import MapDocument
from peruserd.simcluster.options import AUTH_DATABASE

DIRECTORY = "_dbs"

CopyMaker = Callable[[str, str, Range], ShardCopy]


class Node:
    """A CouchDB node. Its files outlive its process, so a node that was stopped still has them.

    `joined` says whether it belongs to the cluster, `known` whether it ever did.
    """

    __slots__ = (
        "alive",
        "clock_offset_seconds",
        "config",
        "directory",
        "holdings",
        "joined",
        "known",
        "map_revisions",
        "maps",
        "name",
        "names",
        "number",
        "shards",
    )

    def __init__(self, number: int, name: str, *, joined: bool) -> None:
        self.number = number
        self.name = name
        self.alive = True
        # The difference between its clock and the other clocks.
        self.clock_offset_seconds = 0.0
        self.joined = joined
        self.known = joined
        self.maps: dict[str, MapDocument] = {}
        # The revisions of each shard map that the node has ever had.
        self.map_revisions: dict[str, set[str]] = {}
        # The node's own database of shard maps, CouchDB's _dbs. Only its feed is simulated.
        self.directory = ShardCopy(name, DIRECTORY, WHOLE_SPACE, name.encode().hex(), 0)
        self.names: list[str] = []
        self.shards: dict[str, ShardCopy] = {}
        self.holdings: dict[str, list[ShardCopy]] = {}
        self.config: dict[str, dict[str, str]] = {
            "chttpd_auth": {"authentication_db": AUTH_DATABASE},
            "couch_httpd_auth": {"authentication_db": AUTH_DATABASE},
            "couch_peruser": {},
            "couchdb": {},
        }

    @property
    def in_maintenance(self) -> bool:
        """Say whether the node's configuration takes it out of service."""
        return self.config["couchdb"].get("maintenance_mode") == "true"

    def database(self, name: str) -> MapDocument | None:
        """Return the shard map of a database, None where this node knows of none or of its deletion."""
        document = self.maps.get(name)
        return document if document and document.current else None

    def holding(self, name: str, position: int) -> ShardCopy | None:
        """Return this node's copy of the range that holds `position`, if it has one."""
        for copy in self.holdings.get(name, ()):
            if position in copy.range:
                return copy
        return None

    def learn(self, document: MapDocument, make: CopyMaker) -> list[ShardCopy]:
        """Take over a newer shard map: remove shard files that are not in it, make the missing ones, return these."""
        name = document.name
        known = self.database(name) is not None
        self.maps[name] = document
        self.map_revisions.setdefault(name, set()).add(document.rev)
        self.directory.put(name, (Revision(document.rev, document.events, document.current is None, {}),))
        wanted = {document.path(covered): covered for covered in document.placed.get(self.name, ())}
        for copy in self.holdings.pop(name, ()):
            if copy.path not in wanted:
                self.remove(copy)
        made = [make(self.name, path, covered) for path, covered in wanted.items() if path not in self.shards]
        self.shards.update((copy.path, copy) for copy in made)
        if wanted:
            self.holdings[name] = sorted((self.shards[path] for path in wanted), key=lambda copy: copy.range)
        if document.current and not known:
            insort(self.names, name)
        elif known and not document.current:
            del self.names[bisect_left(self.names, name)]
        return made

    def supersede(self, name: str, old: ShardCopy, new: list[ShardCopy]) -> None:
        """Replace a copy by others: by the halves of a split, or by a new copy. The old shard file stays."""
        for copy in new:
            self.shards[copy.path] = copy
        kept = [copy for copy in self.holdings[name] if copy is not old]
        self.holdings[name] = sorted([*kept, *new], key=lambda copy: copy.range)

    def remove(self, copy: ShardCopy) -> None:
        """Remove a shard file."""
        del self.shards[copy.path]
        copy.close()

    def wake(self) -> None:
        """Wake all watchers of this node's copies."""
        self.directory.wake()
        for copy in self.shards.values():
            copy.wake()
