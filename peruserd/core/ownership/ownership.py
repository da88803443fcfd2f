"""Which instance acts on which document of a range.

The rule (docs/architecture.md, "Ownership"):

- Take all nodes that host the document's range, sorted by name.
- Start at position `key mod count` and go round. The first node that has a live instance is the owner.
- A range none of whose hosts has a live instance is adopted. All live instances are its candidates then, sorted, and
  the one at `key mod count` is the owner.

With every host alive this is what couch_peruser (2.1 to 3.5) computes. When a host is lost, only its documents move.

Invariant, for every document and every set of live instances that is not empty: exactly one of them is the owner, and
the owner listens to a copy of a range that holds the document.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Container, Sequence
from functools import cached_property
from itertools import accumulate

import msgspec

from peruserd.core.ownership.hashing import document_hash, document_key, document_keys
from peruserd.core.ownership.ranges import WHOLE_SPACE, Range, ShardMap

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
        return Owners(shard_map, instances).of(covered)

    @property
    def candidates(self) -> tuple[str, ...]:
        """Return the instances that can own a document of the range, sorted."""
        return tuple(sorted({*self.alive, *self.adopters}))

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

    def is_inside(self, document_id: str) -> bool:
        """Say whether a document id hashes into the range.

        CouchDB takes ids whose bytes are no proper UTF-8, and shows them as proper ones: a row whose id lies outside
        the range that it was read from is not of the document of that id.
        """
        return self.range == WHOLE_SPACE or document_hash(document_id) in self.range

    def gains(self, instance: str, before: "Ownership") -> bool:
        """Say whether `instance` can own a document under this ownership that it did not own under `before`.

        It may be True where nothing is gained (a scan that finds nothing), never False where something is: where the
        number of hosts changes, places in the rings cannot be compared.
        """
        if self == before:
            return False
        cuts = {begin for ownership in (self, before) for begin, _ in ownership._segments}  # noqa: SLF001 - its own kind
        return any(_gains(instance, self._ring_at(cut), before._ring_at(cut)) for cut in cuts if cut in self.range)  # noqa: SLF001

    @cached_property
    def _segments(self) -> tuple[tuple[int, Ring], ...]:
        """Cut the range where an overlapping range begins or ends: (first position, ring), ascending."""
        cuts = {self.range.begin}
        for each, _ in self.hosts:
            cuts.update(place for place in (each.begin, each.end + 1) if place in self.range)
        return tuple((begin, self._ring_at(begin)) for begin in sorted(cuts))

    def _ring_at(self, position: int) -> Ring:
        hosts = sorted({node for each, nodes in self.hosts if position in each for node in nodes})
        return _ring(hosts, set(self.alive)) or self.adopters

    def _segment_of(self, document_id: str) -> int:
        begins = [begin for begin, _ in self._segments]
        return max(0, bisect_right(begins, document_hash(document_id)) - 1)


class Owners:
    """Makes the ownerships of one shard map's ranges, by one set of live instances.

    A plan asks for hundreds of them, so what they have in common is prepared once: finding the ranges that overlap one
    looks at these only, not at all ranges.
    """

    def __init__(self, shard_map: ShardMap, instances: Collection[str]) -> None:
        self._database = shard_map.database
        self._hosts = list(shard_map.hosts.items())
        self._begins = [each.begin for each, _ in self._hosts]
        # How far anything reaches that begins no later than here: it tells where to stop looking back.
        self._reach = list(accumulate((each.end for each, _ in self._hosts), max))
        self._instances = frozenset(instances)
        self._adopters = tuple(sorted(instances))

    def of(self, covered: Range) -> Ownership:
        """Return the ownership of a range, which need not be one of the map's own."""
        hosts = tuple(self._overlapping(covered))
        alive = tuple(sorted({node for _, nodes in hosts for node in nodes if node in self._instances}))
        hosted = Ownership(self._database, covered, hosts, alive)
        if all(ring for _, ring in hosted._segments):  # noqa: SLF001 - its own maker
            return hosted
        return msgspec.structs.replace(hosted, adopters=self._adopters)

    def _overlapping(self, covered: Range) -> list[tuple[Range, tuple[str, ...]]]:
        behind = bisect_right(self._begins, covered.end)
        first = bisect_left(self._reach, covered.begin)
        return [each for each in self._hosts[first:behind] if each[0].end >= covered.begin]


def _gains(instance: str, ring: Ring, before: Ring) -> bool:
    if len(ring) == len(before):
        return any(now == instance != then for now, then in zip(ring, before, strict=True))
    return instance in ring and any(then != instance for then in before or ("",))


def _ring(hosts: Sequence[str], alive: Container[str]) -> Ring:
    """Return for each place among the sorted hosts the first from there on, going round, that is alive."""
    owner = next((node for node in hosts if node in alive), None)
    if owner is None:
        return ()
    ring = []
    # Backwards, so that each place takes what the one behind it found: hosts can be as many as nodes.
    for node in reversed(hosts):
        if node in alive:
            owner = node
        ring.append(owner)
    return tuple(reversed(ring))
