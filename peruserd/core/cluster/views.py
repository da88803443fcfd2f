"""The cluster as an instance believes it to be, and what follows from it: view → plan → difference.

A plan is computed from views alone (the one in force, and the one seen last), so two instances that believe the same
agree on who does what. The running listeners are brought to the plan by carrying out the difference: stop first, then
inform, then start.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from peruserd.core.cluster.leases import Breaks
from peruserd.core.ownership.ownership import Owners, Ownership
from peruserd.core.ownership.ranges import WHOLE_SPACE, Range, ShardMap


class View(msgspec.Struct, frozen=True):
    """The cluster as one instance sees it now.

    `nodes` are the CouchDB nodes connected now, `instances` the nodes that have a live peruserd, both sorted;
    `shard_map` is None while the authentication database does not exist. `standby` says that another instance acts
    beside this one's node. `newcomers` are the nodes, sorted, of which a lease has appeared that is not believed yet.
    `leases_readable` says whether the leases could be read: while they cannot, silence says nothing, nobody is declared
    dead for it, and nothing may be done that cannot be undone. `cut_off` says that no majority of the cluster's nodes
    is connected, so what is written here can be lost when the others return. `breaks` tells of absences that were too
    short to be seen.
    """

    nodes: tuple[str, ...]
    instances: tuple[str, ...]
    shard_map: ShardMap | None
    standby: bool = False
    newcomers: tuple[str, ...] = ()
    leases_readable: bool = True
    cut_off: bool = False
    breaks: tuple[Breaks, ...] = ()


class Feed(StrEnum):
    """The kind of feed that a listener reads changes from."""

    SHARD = "shard"
    DATABASE = "database"


class Copy(msgspec.Struct, frozen=True, order=True):
    """The source that one listener follows: one node's copy of one range, or the database's own feed.

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

    def is_around(self, other: "Copy") -> bool:
        """Say whether `other` can be a part of this copy after its node has split it."""
        same_place = (self.database, self.suffix, self.node, self.feed) == (
            other.database,
            other.suffix,
            other.node,
            other.feed,
        )
        return same_place and self.range != other.range and self.range.holds(other.range)

    @property
    def shard_name(self) -> str:
        """Return the shard's database name, as its node knows it: `shards/00000000-7fffffff/_users.1795410409`."""
        return f"shards/{self.range}/{self.database}{self.suffix}"


class Assignment(msgspec.Struct, frozen=True):
    """One listener to run: the copy to follow, and who owns what of it.

    `upcoming` is the ownership that will follow when the quiet period is over, given only where this instance loses
    documents by it: those are left alone until then.
    """

    copy: Copy
    ownership: Ownership
    upcoming: Ownership | None = None


class Plan(msgspec.Struct, frozen=True):
    """Which copies one instance listens to.

    `unreadable` are ranges it would have to listen to that no live node hosts: nobody can serve them until one returns.
    Ranges that the shard map leaves out are among them.
    `nodes` are the nodes that were connected when the view was seen last, for users whose databases wait for one, and
    `cut_off` says that they were no majority of the cluster's nodes. A quiet period would only make users wait.
    """

    assignments: tuple[Assignment, ...] = ()
    unreadable: tuple[Range, ...] = ()
    nodes: tuple[str, ...] = ()
    cut_off: bool = False

    @property
    def in_force(self) -> tuple[tuple[Copy, Ownership], ...]:
        """Return the plan without what is only coming."""
        return tuple((each.copy, each.ownership) for each in self.assignments)


class Difference(msgspec.Struct, frozen=True):
    """The steps from the running listeners to a plan, to be carried out in the order of the fields."""

    stop: tuple[Copy, ...] = ()
    inform: tuple[Assignment, ...] = ()
    start: tuple[Assignment, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.stop or self.inform or self.start)


NOTHING_TO_DO: Final = Difference()


def make_plan(view: View, me: str, seen: View | None = None) -> Plan:
    """Return the plan of the instance attached to the node `me`, by the view in force and the one seen last.

    It listens to its own node's copy of each range that node hosts, and to some live node's copy of each range that is
    adopted because none of its hosts has a live instance. An instance that stands by, or that the view does not hold
    alive, listens to nothing.

    Which copies there are is taken from the shard map seen last, because a copy that is gone cannot be read for another
    quiet period; who owns what of them, from the view in force.
    """
    seen = view if seen is None else seen
    if view.shard_map is None or view.standby or me not in view.instances:
        return Plan()
    present = seen.shard_map or view.shard_map
    owners = Owners(view.shard_map, view.instances)
    nothing_comes = present == view.shard_map and seen.instances == view.instances
    owners_to_come = owners if nothing_comes else Owners(present, seen.instances)
    instances, instances_seen = frozenset(view.instances), frozenset(seen.instances)
    assignments = []
    # A map that somebody has edited can leave a range out. Its users are served by nobody, and that must be said.
    unreadable = list(present.holes())
    for covered, hosts in present.hosts.items():
        is_anothers = me not in hosts and not instances.isdisjoint(hosts)
        if is_anothers and not instances_seen.isdisjoint(hosts):
            continue
        ownership = owners.of(covered)
        # Moved to a node whose instance has just died, a range can stay this instance's all the same.
        if is_anothers and me not in ownership.candidates:
            continue
        node = me if me in hosts else _read_through(hosts, view, seen)
        if node is None:
            unreadable.append(covered)
            continue
        upcoming = ownership if nothing_comes else owners_to_come.of(covered)
        assignments.append(
            Assignment(
                Copy(present.database, covered, node, present.suffix),
                ownership,
                upcoming if ownership.gains(me, before=upcoming) else None,
            )
        )
    if not assignments:
        return Plan(unreadable=tuple(unreadable))
    return Plan(tuple(assignments), tuple(unreadable), seen.nodes, seen.cut_off)


def _read_through(hosts: tuple[str, ...], view: View, seen: View) -> str | None:
    """Return the host through which an adopted range is read: one that is connected, and stays so if any does."""
    readable = [node for node in hosts if node in view.nodes]
    lasting = [node for node in readable if node in seen.nodes]
    return next(iter(lasting or readable), None)


def make_database_plan(database: str, me: str) -> Plan:
    """Return the plan for a server without shards: one listener on the database's own feed, which owns everything."""
    copy = Copy(database, WHOLE_SPACE, me, feed=Feed.DATABASE)
    ownership = Ownership(database, WHOLE_SPACE, hosts=((WHOLE_SPACE, (me,)),), alive=(me,))
    return Plan((Assignment(copy, ownership),), nodes=(me,))


def difference(plan: Plan, running: Mapping[Copy, Assignment]) -> Difference:
    """Return what leads from the `running` listeners, each with the assignment it was told last, to `plan`."""
    wanted = {each.copy: each for each in plan.assignments}
    return Difference(
        stop=tuple(sorted(copy for copy in running if copy not in wanted)),
        inform=tuple(each for copy, each in wanted.items() if copy in running and running[copy] != each),
        start=tuple(each for copy, each in wanted.items() if copy not in running),
    )
