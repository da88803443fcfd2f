"""The cluster as an instance believes it to be, and the consequences: view → plan → difference.

A plan is computed only from the view in force and the view seen last. So two instances with the same views agree on who
does what. The difference leads from the running listeners to the plan, in this order: stop, inform, start.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from peruserd.core.cluster.leases import Breaks
from peruserd.core.ownership.ownership import Owners, Ownership
from peruserd.core.ownership.ranges import WHOLE_SPACE, Range, ShardMap


class View(msgspec.Struct, frozen=True):
    """The cluster as one instance sees it now.

    - `nodes`: the connected CouchDB nodes. `instances`: the nodes with a live peruserd. Both are sorted.
    - `shard_map`: None while the authentication database does not exist.
    - `standby`: another instance is active for this instance's node.
    - `newcomers`: the nodes with a lease that has appeared but is not believed yet, sorted.
    - `leases_readable`: whether the leases could be read. While they cannot, silence proves nothing: no instance is
      declared dead, and nothing irreversible may be done.
    - `cut_off`: no majority of the cluster's nodes is connected, so a write can be lost when the others return.
    - `breaks`: reports of absences that were too short to be seen.
    - `away`: the nodes that belong to the cluster and are not connected, sorted.
    - `me`: the node of the instance that has this view.
    - `drained`: the nodes, sorted, whose instance lives and has given up its documents. They are not in `instances`,
      unless all were told to: somebody must serve the users.
    """

    nodes: tuple[str, ...]
    instances: tuple[str, ...]
    shard_map: ShardMap | None
    standby: bool = False
    newcomers: tuple[str, ...] = ()
    leases_readable: bool = True
    cut_off: bool = False
    breaks: tuple[Breaks, ...] = ()
    away: tuple[str, ...] = ()
    me: str = ""
    drained: tuple[str, ...] = ()

    @property
    def gives_up(self) -> bool:
        """Say whether this instance leaves all documents to others, because it was told to, or will have them soon."""
        return not self.standby and bool(self.me) and self.me not in self.instances


class Feed(StrEnum):
    """The kind of feed that a listener reads changes from."""

    SHARD = "shard"
    DATABASE = "database"


class Copy(msgspec.Struct, frozen=True, order=True):
    """The source that one listener follows: one node's copy of one range, or the database's own feed.

    `suffix` is part of the identity, because a database that is deleted and created again has new copies. For the
    database's own feed the suffix is empty and the range covers everything.
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

    def can_have_split_into(self, other: "Copy") -> bool:
        """Say whether `other` can be a part of this copy after the node has split the copy."""
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
    """One listener to run: the copy to follow, and its ownership.

    `upcoming` is the ownership after the quiet period. It is given only if this instance will lose documents. These
    documents are left alone until then.
    """

    copy: Copy
    ownership: Ownership
    upcoming: Ownership | None = None


class Plan(msgspec.Struct, frozen=True):
    """The copies that one instance listens to.

    - `unreadable`: ranges that the instance should follow but no connected node hosts. Nobody can serve them until a
      host returns. Ranges that the shard map leaves out are among them.
    - `nodes`: the connected nodes of the view seen last, for users whose databases wait for a node. A quiet period
      would only make these users wait longer.
    - `cut_off`: these nodes are no majority of the cluster's nodes.
    """

    assignments: tuple[Assignment, ...] = ()
    unreadable: tuple[Range, ...] = ()
    nodes: tuple[str, ...] = ()
    cut_off: bool = False

    @property
    def without_upcoming(self) -> tuple[tuple[Copy, Ownership], ...]:
        """Return each copy with its ownership in force, without the upcoming one."""
        return tuple((each.copy, each.ownership) for each in self.assignments)


class Difference(msgspec.Struct, frozen=True):
    """The steps from the running listeners to a plan. They are carried out in the order of the fields."""

    stop: tuple[Copy, ...] = ()
    inform: tuple[Assignment, ...] = ()
    start: tuple[Assignment, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.stop or self.inform or self.start)


def make_plan(view: View, me: str, seen: View | None = None) -> Plan:
    """Return the plan of the instance attached to the node `me`, by the view in force and the view `seen` last.

    - The instance listens to its own node's copy of each range that the node hosts.
    - It also listens to each adopted range, through a connected host. A range is adopted if none of its hosts has a
      live instance.
    - A standby instance listens to nothing. Nor does an instance that is not alive in the view.

    The copies are those of the shard map seen last, because a copy that is gone cannot be read during a quiet period.
    Their owners are those of the view in force.
    """
    seen = view if seen is None else seen
    if view.shard_map is None or view.standby or me not in view.instances:
        return Plan()
    present = seen.shard_map or view.shard_map
    owners = Owners(view.shard_map, view.instances)
    nothing_upcoming = present == view.shard_map and seen.instances == view.instances
    upcoming_owners = owners if nothing_upcoming else Owners(present, seen.instances)
    instances, instances_seen = frozenset(view.instances), frozenset(seen.instances)
    assignments = []
    # A shard map that somebody has edited can leave out a range. Nobody serves the users of that range, so the plan
    # must say so.
    unreadable = list(present.holes())
    for covered, hosts in present.hosts.items():
        is_left_to_others = me not in hosts and not instances.isdisjoint(hosts)
        if is_left_to_others and not instances_seen.isdisjoint(hosts):
            continue
        ownership = owners.of(covered)
        # This range is left to an instance that is in force but was not seen last. This instance follows the range only
        # if the view in force makes it a candidate there. That is so if the copy has moved since.
        if is_left_to_others and me not in ownership.candidates:
            continue
        node = me if me in hosts else _read_through(hosts, view, seen)
        if node is None:
            unreadable.append(covered)
            continue
        upcoming = ownership if nothing_upcoming else upcoming_owners.of(covered)
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
    """Return the host through which an adopted range is read: connected in both views if possible, else in force."""
    readable = [node for node in hosts if node in view.nodes]
    lasting = [node for node in readable if node in seen.nodes]
    return next(iter(lasting or readable), None)


def make_database_plan(database: str, me: str) -> Plan:
    """Return the plan for a server without shards: one listener on the database's own feed, with all documents."""
    copy = Copy(database, WHOLE_SPACE, me, feed=Feed.DATABASE)
    ownership = Ownership(database, WHOLE_SPACE, hosts=((WHOLE_SPACE, (me,)),), alive=(me,))
    return Plan((Assignment(copy, ownership),), nodes=(me,))


def difference(plan: Plan, running: Mapping[Copy, Assignment]) -> Difference:
    """Return the steps from the `running` listeners to `plan`. Each copy is given with its last assignment."""
    wanted = {each.copy: each for each in plan.assignments}
    return Difference(
        stop=tuple(sorted(copy for copy in running if copy not in wanted)),
        inform=tuple(each for copy, each in wanted.items() if copy in running and running[copy] != each),
        start=tuple(each for copy, each in wanted.items() if copy not in running),
    )
