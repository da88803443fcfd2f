"""The documents that get another owner when one of N instances is lost, by peruserd's rule and by couch_peruser's.

Keys are those of real document ids, and peruserd's owners come from its own code. couch_peruser (CouchDB 2.1 to 3.5)
sorts the hosts that are connected, and takes the one at `key mod count` (mem3:owner). With one host fewer the count
changes, and with it nearly every remainder.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from bench.results import Chart, Table
from bench.scale.layouts import Layout
from peruserd.core.common.names import user_document_id
from peruserd.core.ownership.hashing import document_hash, document_key
from peruserd.core.ownership.ownership import Owners
from peruserd.core.ownership.ranges import Range, ShardMap

Rule = Callable[[ShardMap, frozenset[str]], Callable[[str], str | None]]
"""Given the shard map and the live instances' nodes, the function from a document id to its owner."""

THREE_COPIES: Final = "three copies, 64 ranges"
EVERYWHERE: Final = "a copy on every node, 8 ranges"

SHOWN: Final = (2, 3, 4, 5, 6, 8, 10, 16, 20, 32, 50)


class Move(msgspec.Struct, frozen=True):
    """The effect of one loss, in documents: all, those of the lost instance, and those that have another owner now."""

    documents: int
    lost: int
    moved: int

    @property
    def needless(self) -> int:
        """Return how many documents moved although their owner lives."""
        return self.moved - self.lost

    @property
    def share(self) -> float:
        """Return the share of all documents that moved, in per cent."""
        return 100 * self.moved / self.documents


class Loss(msgspec.Struct, frozen=True):
    """The loss of one instance, by both rules, in a cluster with an instance beside each node."""

    layout: Layout
    lost: str
    peruserd: Move
    couch_peruser: Move


def peruserd_rule(shard_map: ShardMap, alive: frozenset[str]) -> Callable[[str], str | None]:
    """Return the owners by peruserd's rule."""
    owners = Owners(shard_map, alive)
    by_range = {covered: owners.of(covered) for covered in shard_map.hosts}
    find = _range_finder(shard_map)
    return lambda document_id: by_range[find(document_id)].owner(document_id)


def couch_peruser_rule(shard_map: ShardMap, alive: frozenset[str]) -> Callable[[str], str | None]:
    """Return the owners by couch_peruser's rule."""
    hosts = {covered: [node for node in nodes if node in alive] for covered, nodes in shard_map.hosts.items()}
    find = _range_finder(shard_map)

    def owner(document_id: str) -> str | None:
        ring = hosts[find(document_id)]
        return ring[document_key(shard_map.database, document_id) % len(ring)] if ring else None

    return owner


def user_documents(count: int) -> list[str]:
    """Return so many ids of user documents."""
    return [user_document_id(f"user-{number:06}") for number in range(count)]


def lose_one(layout: Layout, lost: str, documents: list[str]) -> Loss:
    """Return the effect of the loss of one instance, by both rules."""
    return Loss(layout, lost, *(_move(rule, layout, lost, documents) for rule in (peruserd_rule, couch_peruser_rule)))


def measure(sizes: Iterable[int], count: int) -> dict[str, list[Loss]]:
    """Return by placement of the copies the losses of the first, a middle and the last node, for each size N.

    Each loss is that of so many documents.
    """
    documents = user_documents(count)
    losses: dict[str, list[Loss]] = {THREE_COPIES: [], EVERYWHERE: []}
    for size in sizes:
        for name, layout in ((THREE_COPIES, Layout(size, 64)), (EVERYWHERE, Layout(size, 8, copies=size))):
            names = layout.names
            for lost in sorted({names[0], names[size // 2], names[-1]}):
                losses[name].append(lose_one(layout, lost, documents))
    return losses


def table(losses: dict[str, list[Loss]]) -> Table:
    """Return the shares of documents that move, for some N. Each share is the mean over the lost instances."""
    rows = []
    for placement, each in losses.items():
        for size in SHOWN:
            of_size = [loss for loss in each if loss.layout.nodes == size]
            own = _mean(100 * loss.peruserd.lost / loss.peruserd.documents for loss in of_size)
            ours, theirs = _mean(_shares(of_size, "peruserd")), _mean(_shares(of_size, "couch_peruser"))
            rows.append((placement, str(size), f"{own:.1f} %", f"{ours:.1f} %", f"{theirs:.1f} %"))
    head = ("copies", "N", "owned by the lost one", "peruserd moves", "couch_peruser moves")
    return Table("Documents that change owner when one of N instances is lost", head, tuple(rows))


def chart(losses: dict[str, list[Loss]]) -> Chart:
    """Return the shares over N."""
    lines = {
        f"{rule}, {placement}": [
            (float(size), _mean(_shares((loss for loss in each if loss.layout.nodes == size), rule)))
            for size in sorted({loss.layout.nodes for loss in each})
        ]
        for placement, each in losses.items()
        for rule in ("couch_peruser", "peruserd")
    }
    return Chart("one of N instances is lost", "N", "% of the documents that change owner", lines)


def _move(rule: Rule, layout: Layout, lost: str, documents: list[str]) -> Move:
    shard_map = layout.shard_map()
    before = rule(shard_map, frozenset(layout.names))
    after = rule(shard_map, frozenset(layout.names) - {lost})
    owners = [(before(each), after(each)) for each in documents]
    return Move(
        documents=len(documents),
        lost=sum(then == lost for then, _ in owners),
        moved=sum(then != now for then, now in owners),
    )


def _range_finder(shard_map: ShardMap) -> Callable[[str], Range]:
    """Return a function from a document id to its range. The ranges of the map must not overlap."""
    ranges = list(shard_map.hosts)
    begins = [each.begin for each in ranges]
    return lambda document_id: ranges[bisect_right(begins, document_hash(document_id)) - 1]


def _shares(losses: Iterable[Loss], rule: str) -> list[float]:
    return [getattr(loss, rule).share for loss in losses]


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)
