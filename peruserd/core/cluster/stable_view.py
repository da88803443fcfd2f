"""The quiet period: a change of the cluster takes effect once it has lasted for a while.

Otherwise a node that flaps would move its documents to and fro. The facts of a view are the connection of each node,
the live instance of each node, and the shard map. Each fact has its own quiet period. So a fact that never comes to
rest does not delay the others. The view seen last is kept beside the view in force. A document with the same owner in
both views is served without interruption. A document whose owner differs is left alone meanwhile.

While leases cannot be read, no instance of the view in force is dropped, because silence proves nothing then. An
awaited instance stays awaited.

These changes take effect at once:

- The first view, because nothing is served before it.
- A new life of the authentication database, because nothing of the old one can be served any more.
- The role of this instance, active or standby, because two instances beside one node must not both act.
- Whether leases can be read, and which nodes are away or missing to a majority. Neither moves a document.
- An instance has given up its documents, and each range has another host with an instance. Then only its own documents
  change their owner, and its last process has ended before the others hear of it. Otherwise documents move between the
  others too, and these may hear of it at different moments. The instance itself obeys at once in any case.

When an instance starts, it cannot tell a dead instance from one that is still starting. So it first assumes that every
possible instance is alive:

- These are the instances that were in force when this one stopped, or else one for each connected node.
- An awaited instance without a lease is dropped after the quiet period.
- If its lease has appeared but has not grown yet, the instance is kept for the time to live of a lease, not only for
  the quiet period. A busy machine that starts all instances takes longer than the quiet period. An instance that took
  over its documents meanwhile would scan for nothing.
- The time alone does not drop an instance. A reading after that time must confirm that the instance is missing, because
  readings are late while listeners are started.

Until then this instance serves only the documents that it owns in either case.
"""

import math
from typing import Final

import msgspec

from peruserd.core.cluster.views import View

Fact = str
"""A part of a view that changes as a whole: `node NAME`, `instance NAME` or the shard map."""

_MAP: Final[Fact] = "shard map"


class StableView(msgspec.Struct, frozen=True):
    """Two views, the one in force (`in_force`) and the one `seen` last, and their differences.

    - `since`: for each differing fact, the time of the first difference.
    - `expected`: the instances that were in force when this one stopped; None if that is not known.
    - `awaited`: the instances in force that were not seen alive yet, and still have time. They are awaited for
      `quiet_seconds`, and newcomers for `newcomer_seconds` if that is longer. The first reading after that decides.
    - `read_at`: when the last view was seen.
    """

    quiet_seconds: float
    newcomer_seconds: float
    expected: tuple[str, ...] | None = None
    in_force: View | None = None
    seen: View | None = None
    since: dict[Fact, float] = {}
    awaited: frozenset[str] = frozenset()
    read_at: float = 0.0

    def observe(self, view: View, now: float) -> "StableView":
        """Return the state after `view` was seen at `now`, by the caller's monotonic clock, in seconds."""
        in_force = _at_once(self.in_force or _first(view, self.expected), view)
        awaited = self.awaited.intersection(in_force.instances) if self.in_force else frozenset(in_force.instances)
        shown = frozenset(view.instances)
        if not view.leases_readable:
            view = _with_the_silent(view, in_force)
        before = self.seen or in_force
        same_map = before.shard_map == view.shard_map
        since = {
            fact: self.since[fact] if fact in self.since and (fact != _MAP or same_map) else now
            for fact in _differences(in_force, view)
        }
        return msgspec.structs.replace(
            self, in_force=in_force, seen=view, since=since, awaited=awaited.difference(shown), read_at=now
        )

    def advance(self, now: float) -> "StableView":
        """Return the state at `now`, with every fact in force that has lasted for its quiet period."""
        lasted = {fact for fact in self.since if now >= self._effective_at(fact)}
        if not lasted or self.in_force is None or self.seen is None:
            return self
        since = {fact: moment for fact, moment in self.since.items() if fact not in lasted}
        in_force = _taken_over(self.in_force, self.seen, lasted)
        return msgspec.structs.replace(
            self, in_force=in_force, since=since, awaited=self.awaited.intersection(in_force.instances)
        )

    @property
    def due(self) -> float | None:
        """Return when `advance` will change something; None if nothing will change, or only after another reading."""
        dates = (date for date in map(self._effective_at, self.since) if date != math.inf)
        return min(dates, default=None)

    @property
    def reading_due(self) -> float | None:
        """Return when a reading can confirm that an awaited instance is missing; None if none is needed."""
        undecided = (fact for fact in self.since if self._effective_at(fact) == math.inf)
        return min(map(self._period_ends_at, undecided), default=None)

    @property
    def certain(self) -> bool:
        """Say whether the living instances are known: the cluster was seen, and no instance is awaited any more."""
        return self.in_force is not None and not self.awaited

    def _effective_at(self, fact: Fact) -> float:
        """Return when a fact takes effect; infinity while another reading must decide."""
        date = self._period_ends_at(fact)
        return math.inf if self.read_at < date and fact in map(_instance, self.awaited) else date

    def _period_ends_at(self, fact: Fact) -> float:
        """Return when the quiet period of a fact ends."""
        newcomers = self.awaited.intersection(self.seen.newcomers) if self.seen else ()
        is_newcomer = fact in map(_instance, newcomers)
        return self.since[fact] + (
            max(self.newcomer_seconds, self.quiet_seconds) if is_newcomer else self.quiet_seconds
        )


def _first(view: View, expected: tuple[str, ...] | None) -> View:
    """Return the first view, with every instance that may be alive."""
    possible = set(view.nodes) if expected is None else set(view.nodes).intersection(expected)
    return msgspec.structs.replace(view, instances=tuple(sorted(possible.union(view.instances))))


def _at_once(in_force: View, seen: View) -> View:
    """Return the view in force, with those parts of the view seen that need no quiet period."""
    in_force = msgspec.structs.replace(
        in_force,
        standby=seen.standby,
        leases_readable=seen.leases_readable,
        cut_off=seen.cut_off,
        away=seen.away,
        me=seen.me,
        drained=seen.drained,
        instances=_without_the_drained(in_force, seen),
    )
    before, now = in_force.shard_map, seen.shard_map
    if now is not None and (before is None or before.suffix != now.suffix):
        return msgspec.structs.replace(in_force, shard_map=now)
    return in_force


def _without_the_drained(in_force: View, seen: View) -> tuple[str, ...]:
    """Return the instances in force, without those that have given up their documents if that takes effect at once."""
    gone = set(in_force.instances).intersection(seen.drained).difference(seen.instances)
    left = tuple(each for each in in_force.instances if each not in gone)
    maps = [each for each in (in_force.shard_map, seen.shard_map) if each is not None]
    hosted = all(not set(left).isdisjoint(hosts) for each in maps for hosts in each.hosts.values())
    return left if hosted or seen.me in gone else in_force.instances


def _with_the_silent(view: View, in_force: View) -> View:
    """Return a view without readable leases, with all instances in force whose node is connected added.

    If a node is not connected, its instance is missing for that reason, and not because of its silence.
    """
    silent = set(in_force.instances).intersection(view.nodes)
    return msgspec.structs.replace(view, instances=tuple(sorted(silent.union(view.instances))))


def _instance(name: str) -> Fact:
    return f"instance {name}"


def _differences(in_force: View, seen: View) -> set[Fact]:
    facts = {f"node {name}" for name in set(in_force.nodes) ^ set(seen.nodes)}
    facts |= {_instance(name) for name in set(in_force.instances) ^ set(seen.instances)}
    if in_force.shard_map != seen.shard_map:
        facts.add(_MAP)
    return facts


def _taken_over(in_force: View, seen: View, facts: set[Fact]) -> View:
    return msgspec.structs.replace(
        in_force,
        nodes=_merged("node", in_force.nodes, seen.nodes, facts),
        instances=_merged("instance", in_force.instances, seen.instances, facts),
        shard_map=seen.shard_map if _MAP in facts else in_force.shard_map,
    )


def _merged(kind: str, in_force: tuple[str, ...], seen: tuple[str, ...], facts: set[Fact]) -> tuple[str, ...]:
    names = set(in_force) | set(seen)
    return tuple(sorted(name for name in names if name in (seen if f"{kind} {name}" in facts else in_force)))
