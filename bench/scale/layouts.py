"""Clusters to compute with: their nodes, and the shard map that CouchDB would give them."""

from typing import Final

import msgspec

from peruserd.core.cluster.views import View
from peruserd.core.ownership.ranges import ShardMap, split_evenly

DATABASE: Final = "_users"


class Layout(msgspec.Struct, frozen=True):
    """A cluster of so many nodes, its authentication database in so many ranges of so many copies."""

    nodes: int
    ranges: int
    copies: int = 3

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes by name, sorted."""
        return tuple(f"couchdb@node-{number:03}.example" for number in range(1, self.nodes + 1))

    @property
    def copies_made(self) -> int:
        """The number of copies of a range: no more than there are nodes."""
        return min(self.copies, self.nodes)

    def shard_map(self) -> ShardMap:
        """Return the map. The copies go to the nodes in turn, as mem3 places them."""
        names = self.names
        hosts = {
            str(covered): [names[(index * self.copies_made + copy) % self.nodes] for copy in range(self.copies_made)]
            for index, covered in enumerate(split_evenly(self.ranges))
        }
        return ShardMap.build(DATABASE, ".1700000000", hosts)

    def view(self, instances: tuple[str, ...] | None = None) -> View:
        """Return the view while every node is connected. Without `instances`, every node has one."""
        return View(self.names, self.names if instances is None else instances, self.shard_map())
