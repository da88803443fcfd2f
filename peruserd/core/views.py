"""What an instance believes of the cluster, and what follows from it: view → plan → difference.

A plan is computed from a view alone, so two instances that believe the same agree on who does what. The running
listeners are brought to the plan by carrying out the difference: stop first, then inform, then start.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from peruserd.core.ownership import Ownership
from peruserd.core.ranges import WHOLE_SPACE, Range, ShardMap


class View(msgspec.Struct, frozen=True):
    """The cluster as one instance sees it now.

    `nodes` are the CouchDB nodes connected now, `instances` the nodes that have a live peruserd, both sorted;
    `shard_map` is None while the authentication database does not exist.
    """

    nodes: tuple[str, ...]
    instances: tuple[str, ...]
    shard_map: ShardMap | None


class Feed(StrEnum):
    """Where a listener reads changes from."""

    SHARD = "shard"
    DATABASE = "database"


class Copy(msgspec.Struct, frozen=True, order=True):
    """What one listener follows: one node's copy of one range, or the database's own feed.

    `suffix` is part of it: a database deleted and made again has other copies. For a whole database the suffix is
    empty and the range covers everything.
    """

    database: str
    range: Range
    node: str
    suffix: str = ""
    feed: Feed = Feed.SHARD

    def __str__(self) -> str:
        if self.feed is Feed.DATABASE:
            return self.database
        return f"{self.range}@{self.node}"

    @property
    def shard_name(self) -> str:
        """Return the shard's database name, as its node knows it: `shards/00000000-7fffffff/_users.1795410409`."""
        return f"shards/{self.range}/{self.database}{self.suffix}"


class Assignment(msgspec.Struct, frozen=True):
    """One listener to run: the copy to follow, and who owns what of it."""

    copy: Copy
    ownership: Ownership


class Plan(msgspec.Struct, frozen=True):
    """Which copies one instance listens to.

    `unreadable` are ranges it would have to listen to that no live node hosts: nobody can serve them until one returns.
    """

    assignments: tuple[Assignment, ...] = ()
    unreadable: tuple[Range, ...] = ()


class Difference(msgspec.Struct, frozen=True):
    """What leads from the running listeners to a plan; to be carried out in the order of the fields."""

    stop: tuple[Copy, ...] = ()
    inform: tuple[Assignment, ...] = ()
    start: tuple[Assignment, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.stop or self.inform or self.start)


NOTHING_TO_DO: Final = Difference()


def make_plan(view: View, me: str) -> Plan:
    """Return the plan of the instance attached to the node `me`.

    It listens to its own node's copy of each range that node hosts, and to some live node's copy of each range that is
    adopted because none of its hosts has a live instance. An instance that the view does not hold alive listens to
    nothing.
    """
    if view.shard_map is None or me not in view.instances:
        return Plan()
    assignments = []
    unreadable = []
    for covered, hosts in view.shard_map.hosts.items():
        if me not in hosts and set(hosts).intersection(view.instances):
            continue
        readable = [node for node in hosts if node in view.nodes]
        node = me if me in hosts else next(iter(readable), None)
        if node is None:
            unreadable.append(covered)
            continue
        copy = Copy(view.shard_map.database, covered, node, view.shard_map.suffix)
        assignments.append(Assignment(copy, Ownership.of(view.shard_map, covered, view.instances)))
    return Plan(tuple(assignments), tuple(unreadable))


def make_database_plan(database: str, me: str) -> Plan:
    """Return the plan for a server without shards: one listener on the database's own feed, which owns everything."""
    copy = Copy(database, WHOLE_SPACE, me, feed=Feed.DATABASE)
    ownership = Ownership(database, WHOLE_SPACE, hosts=((WHOLE_SPACE, (me,)),), alive=(me,))
    return Plan((Assignment(copy, ownership),))


def difference(plan: Plan, running: Mapping[Copy, Ownership]) -> Difference:
    """Return what leads from the `running` listeners, each with the ownership it was told last, to `plan`."""
    wanted = {each.copy: each for each in plan.assignments}
    return Difference(
        stop=tuple(sorted(copy for copy in running if copy not in wanted)),
        inform=tuple(each for copy, each in wanted.items() if copy in running and running[copy] != each.ownership),
        start=tuple(each for copy, each in wanted.items() if copy not in running),
    )
