"""Which instance acts on which document of a range.

The rule (design, "Rules of ownership"): take all nodes that host the document's range, sorted by name; start at
position `key mod count` and go round; the first that has a live instance is the owner. With every host alive this is
what couch_peruser (2.1 to 3.5) computes; when one is lost, only its documents move. A range none of whose hosts has a
live instance is adopted: then all live instances are its candidates, and the one at `key mod count` is the owner.

Invariant, for every document and every set of live instances that is not empty: exactly one of them is the owner, and
the owner listens to a copy of a range that holds the document.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection
from functools import cached_property

import msgspec

from peruserd.core.hashing import document_hash, document_key, document_keys
from peruserd.core.ranges import Range, ShardMap

Ring = tuple[str, ...]
"""The owner by position: a document belongs to `ring[key % len(ring)]`."""


class Ownership(msgspec.Struct, frozen=True, dict=True):
    """All it takes to tell the owner of any document of `range`, and nothing more.

    Two that are equal give every document the same owner, so a change of the cluster that does not matter to a range
    leaves its ownership equal. `hosts` has every range that overlaps `range` (itself included, several while ranges are
    split) with its nodes sorted by name; `alive` those of these nodes that have a live instance; `adopters` all live
    instances, given only where a part of the range has no live host.
    """

    database: str
    range: Range
    hosts: tuple[tuple[Range, tuple[str, ...]], ...]
    alive: tuple[str, ...]
    adopters: tuple[str, ...] = ()

    @classmethod
    def of(cls, shard_map: ShardMap, covered: Range, instances: Collection[str]) -> "Ownership":
        """Take from a shard map and the live instances (by node name) what concerns the range `covered`."""
        hosts = tuple((each, nodes) for each, nodes in shard_map.hosts.items() if each.overlaps(covered))
        known = {node for _, nodes in hosts for node in nodes}
        alive = tuple(sorted(known.intersection(instances)))
        hosted = cls(shard_map.database, covered, hosts, alive)
        if all(ring for _, ring in hosted._segments):
            return hosted
        return msgspec.structs.replace(hosted, adopters=tuple(sorted(instances)))

    @property
    def candidates(self) -> tuple[str, ...]:
        """Return the instances that can own a document of the range, sorted."""
        return tuple(sorted({owner for _, ring in self._segments for owner in ring}))

    def owner(self, document_id: str) -> str | None:
        """Return the name of the instance that owns the document; None while no instance lives."""
        _, ring = self._segments[self._segment_of(document_id)]
        return ring[document_key(self.database, document_id) % len(ring)] if ring else None

    def belongs_to(self, instance: str) -> Callable[[str], bool]:
        """Return the function that says of a document id whether `instance` owns it; made to be called per row."""
        key = document_keys(self.database)
        segments = [(begin, [owner == instance for owner in ring]) for begin, ring in self._segments]
        if len(segments) == 1:
            ((_, mine),) = segments
            count = len(mine)
            if count == 0:
                return lambda _document_id: False
            return lambda document_id: mine[key(document_id) % count]
        begins = [begin for begin, _ in segments]

        def belongs(document_id: str) -> bool:
            _, ring = segments[max(0, bisect_right(begins, document_hash(document_id)) - 1)]
            return bool(ring) and ring[key(document_id) % len(ring)]

        return belongs

    def gains(self, instance: str, before: "Ownership") -> bool:
        """Say whether `instance` can own a document under this ownership that it did not own under `before`.

        It may be True where nothing is gained (a scan that finds nothing), never False where something is: places in
        the rings can be compared only while hosts and adopters are the same.
        """
        if self.hosts != before.hosts:
            return True
        return any(
            len(ring) != len(old) or any(now == instance != then for now, then in zip(ring, old, strict=True))
            for (_, ring), (_, old) in zip(self._segments, before._segments, strict=True)  # noqa: SLF001 - its own kind
        )

    @cached_property
    def _segments(self) -> tuple[tuple[int, Ring], ...]:
        """Cut the range where an overlapping range begins or ends: (first position, ring), ascending."""
        cuts = {self.range.begin}
        for each, _ in self.hosts:
            cuts.update(place for place in (each.begin, each.end + 1) if place in self.range)
        return tuple((begin, self._ring_at(begin)) for begin in sorted(cuts))

    def _ring_at(self, position: int) -> Ring:
        hosts = sorted({node for each, nodes in self.hosts if position in each for node in nodes})
        alive = set(self.alive)
        if not alive.intersection(hosts):
            return self.adopters
        return tuple(_first_alive(hosts, start, alive) for start in range(len(hosts)))

    def _segment_of(self, document_id: str) -> int:
        begins = [begin for begin, _ in self._segments]
        return max(0, bisect_right(begins, document_hash(document_id)) - 1)


def _first_alive(hosts: list[str], start: int, alive: set[str]) -> str:
    return next(node for node in hosts[start:] + hosts[:start] if node in alive)
