"""The owner of a document: the one instance that acts on it.

The rule (docs/architecture.md, "Ownership"):

- Take all nodes that host the document's range, sorted by name.
- Start at position `key mod count` and go round. The first node that has a live instance is the owner.
- If no host of a range has a live instance, the range is adopted. Then all live instances are its candidates, sorted,
  and the instance at `key mod count` is the owner.

With every host alive this is what couch_peruser (2.1 to 3.5) computes. When a host is lost, only its documents move, as
long as the range has a live host. In an adopted range other documents move too, because the count changes.

Invariant, for every document and every non-empty set of live instances: exactly one instance is the owner, and the
owner listens to a copy of a range with the document.
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
    """The facts that decide the owner of every document of `range`, and nothing more.

    Equal ownerships give every document the same owner. So a change of the cluster that does not concern a range leaves
    its ownership equal.

    - `hosts`: every range that overlaps `range`, with its nodes sorted by name. `range` itself is one of them, and
      there are others while ranges are being split.
    - `alive`: those nodes among them with a live instance.
    - `adopters`: all live instances. Given only if a part of the range has no live host.
    """

    database: str
    range: Range
    hosts: tuple[tuple[Range, tuple[str, ...]], ...]
    alive: tuple[str, ...]
    adopters: tuple[str, ...] = ()

    @classmethod
    def of(cls, shard_map: ShardMap, covered: Range, instances: Collection[str]) -> "Ownership":
        """Return the ownership of the range `covered`, from a shard map and the live instances (by node name)."""
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
        """Return a function that says whether `instance` owns a document id. It is fast, for one call per row."""
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

        CouchDB accepts ids that are not valid UTF-8, and shows them as valid ones. If a row's id lies outside the range
        of its copy, the row belongs to another document.
        """
        return self.range == WHOLE_SPACE or document_hash(document_id) in self.range

    def gains(self, instance: str, before: "Ownership") -> bool:
        """Say whether `instance` can own a document under this ownership that it did not own under `before`.

        False is certain. True can be a false alarm, because positions in the rings cannot be compared if the number of
        hosts changes. Then the scan finds nothing.
        """
        if self == before:
            return False
        cuts = {begin for ownership in (self, before) for begin, _ in ownership._segments}  # noqa: SLF001 - its own kind
        return any(_gains(instance, self._ring_at(cut), before._ring_at(cut)) for cut in cuts if cut in self.range)  # noqa: SLF001

    @cached_property
    def shares(self) -> dict[str, float]:
        """Return the part of the range's documents that each instance owns; they add up to 1 while one lives.

        The keys of documents are spread evenly, so it is the part of the positions.
        """
        shares: dict[str, float] = {}
        begins = [begin for begin, _ in self._segments]
        for (begin, ring), end in zip(self._segments, [*begins[1:], self.range.end + 1], strict=True):
            for owner in ring:
                shares[owner] = shares.get(owner, 0.0) + (end - begin) / self.range.width / len(ring)
        return shares

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

    A plan asks for hundreds of ownerships, so their common part is prepared once. The search for overlapping ranges
    then reads only those, and not all ranges.
    """

    def __init__(self, shard_map: ShardMap, instances: Collection[str]) -> None:
        self._database = shard_map.database
        self._hosts = list(shard_map.hosts.items())
        self._begins = [each.begin for each, _ in self._hosts]
        # The farthest end of all ranges up to this place in the list. It says where the search may begin.
        self._reach = list(accumulate((each.end for each, _ in self._hosts), max))
        self._instances = frozenset(instances)
        self._adopters = tuple(sorted(instances))

    def of(self, covered: Range) -> Ownership:
        """Return the ownership of a range. The range need not be in the shard map."""
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
    """Return, for each position in the sorted hosts, the first live host from there on, going round."""
    owner = next((node for node in hosts if node in alive), None)
    if owner is None:
        return ()
    ring = []
    # Backwards, so that each position takes over the result of the next one. There can be as many hosts as nodes.
    for node in reversed(hosts):
        if node in alive:
            owner = node
        ring.append(owner)
    return tuple(reversed(ring))
