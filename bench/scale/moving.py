"""The documents that change hands when one of N instances is lost, by peruserd's rule and by couch_peruser's.

Keys are those of real document ids; peruserd's owners come from its own code. couch_peruser (CouchDB 2.1 to 3.5) takes
the hosts that are connected, sorted, and among them the one at `key mod count` (mem3:owner): with one host fewer the
count is another, and so is nearly every remainder.
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

_SHOWN: Final = (2, 3, 4, 5, 6, 8, 10, 16, 20, 32, 50)
_DOCUMENTS: Final = 20_000


class Move(msgspec.Struct, frozen=True):
    """The effect of one instance's loss, in documents: all, those the lost one owned, those with another owner now."""

    documents: int
    lost: int
    moved: int

    @property
    def needless(self) -> int:
        """Return how many moved although their owner lives."""
        return self.moved - self.lost

    @property
    def share(self) -> float:
        """Return which part of all documents moved, in per cent."""
        return 100 * self.moved / self.documents


class Loss(msgspec.Struct, frozen=True):
    """One instance lost of a cluster that has one beside each node, by both rules."""

    layout: Layout
    lost: str
    peruserd: Move
    couch_peruser: Move


def peruserd_rule(shard_map: ShardMap, alive: frozenset[str]) -> Callable[[str], str | None]:
    """Return the owners as peruserd has them."""
    owners = Owners(shard_map, alive)
    by_range = {covered: owners.of(covered) for covered in shard_map.hosts}
    find = _range_finder(shard_map)
    return lambda document_id: by_range[find(document_id)].owner(document_id)


def couch_peruser_rule(shard_map: ShardMap, alive: frozenset[str]) -> Callable[[str], str | None]:
    """Return the owners as couch_peruser has them."""
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
    """Return what the loss of one instance does by both rules."""
    return Loss(layout, lost, *(_move(rule, layout, lost, documents) for rule in (peruserd_rule, couch_peruser_rule)))


def measure(*, quick: bool) -> dict[str, list[Loss]]:
    """Return by placement of the copies the losses of the first, a middle and the last node, for N from 2 to 50."""
    documents = user_documents(_DOCUMENTS // 10 if quick else _DOCUMENTS)
    sizes: Iterable[int] = _SHOWN if quick else range(2, 51)
    losses: dict[str, list[Loss]] = {THREE_COPIES: [], EVERYWHERE: []}
    for size in sizes:
        for name, layout in ((THREE_COPIES, Layout(size, 64)), (EVERYWHERE, Layout(size, 8, copies=size))):
            names = layout.names
            for lost in sorted({names[0], names[size // 2], names[-1]}):
                losses[name].append(lose_one(layout, lost, documents))
    return losses


def table(losses: dict[str, list[Loss]]) -> Table:
    """Return the shares of documents that move, each the mean over the instances lost, for some N."""
    head = ["N"]
    for placement in losses:
        head += [f"{placement}: the lost one's own", "peruserd moves", "couch_peruser moves"]
    rows = []
    for size in _SHOWN:
        row = [str(size)]
        for each in losses.values():
            of_size = [loss for loss in each if loss.layout.nodes == size]
            own = _mean(100 * loss.peruserd.lost / loss.peruserd.documents for loss in of_size)
            ours, theirs = _mean(_shares(of_size, "peruserd")), _mean(_shares(of_size, "couch_peruser"))
            row += [f"{own:.1f} %", f"{ours:.1f} %", f"{theirs:.1f} %"]
        rows.append(tuple(row))
    return Table("Documents that change owner when one of N instances is lost", tuple(head), tuple(rows))


def chart(losses: dict[str, list[Loss]]) -> Chart:
    """Return the shares over N; peruserd's is the same wherever the copies lie."""
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
    """Return the function from a document id to its range, in a map whose ranges do not overlap."""
    ranges = list(shard_map.hosts)
    begins = [each.begin for each in ranges]
    return lambda document_id: ranges[bisect_right(begins, document_hash(document_id)) - 1]


def _shares(losses: Iterable[Loss], rule: str) -> list[float]:
    return [getattr(loss, rule).share for loss in losses]


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)
