"""The quiet period: a change of the cluster takes effect once it has lasted for a while.

A node that flaps would otherwise move its documents to and fro. Each fact of a view (is this node connected, does that
one have a live instance, what is the shard map) has a quiet period of its own, so that one that never comes to rest
does not hold up the others. The view seen last is kept beside the view in force: a document whose owner is the same in
both is served without interruption, and one whose owner differs is left alone meanwhile.

While leases cannot be read, no instance that is in force is missed, because silence says nothing then. An instance that
was awaited is awaited still.

Two things take effect at once: the first view, because nothing is served before it, and another life of the
authentication database, because nothing of the old one can be served any more.

At the first view nobody can be told dead from not yet started: where all instances start together, each is there before
the others. So each instance that can be there is in force with it: all that were when this instance stopped, or where
that is not known, one beside each connected node. An instance that does not show within the quiet period is not there.
An instance whose lease is found by then is about to show, and has the time to live of a lease: a busy machine that
starts them all takes longer than the quiet period, and an instance that took over meanwhile would scan what another one
scans as well. The time alone does not tell: only a look after it shows that an instance has not come. While listeners
are started, looks are late and their answers wait to be taken in. Until then documents that are this instance's all the
same are served, and those it would have to take over are not.
"""

import math
from typing import Final

import msgspec

from peruserd.core.cluster.views import View

Fact = str
"""A part of a view that changes as a whole: `node NAME`, `instance NAME` or the shard map."""

_MAP: Final[Fact] = "shard map"


class StableView(msgspec.Struct, frozen=True):
    """The view in force (`in_force`), the view seen last, and since when each fact in which they differ has been so.

    `expected` are the instances that were in force when this one stopped, None where that is not known. `awaited` are
    those in force that were not seen yet and still have time to show themselves: `quiet_seconds`, and as newcomers
    `newcomer_seconds` where that is longer, and in any case until a look after that time. `looked_at` is when the last
    view was seen.
    """

    quiet_seconds: float
    newcomer_seconds: float
    expected: tuple[str, ...] | None = None
    in_force: View | None = None
    seen: View | None = None
    since: dict[Fact, float] = {}
    awaited: frozenset[str] = frozenset()
    looked_at: float = 0.0

    def see(self, view: View, now: float) -> "StableView":
        """Return what is believed after `view` was seen at `now`, by the caller's monotonic clock, in seconds."""
        in_force = _at_once(self.in_force or _first(view, self.expected), view)
        awaited = self.awaited if self.in_force else frozenset(in_force.instances)
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
            self, in_force=in_force, seen=view, since=since, awaited=awaited.difference(shown), looked_at=now
        )

    def advance(self, now: float) -> "StableView":
        """Return what is believed at `now`: what has lasted for its quiet period is in force."""
        ripe = {fact for fact in self.since if now >= self._ripe_at(fact)}
        if not ripe or self.in_force is None or self.seen is None:
            return self
        since = {fact: moment for fact, moment in self.since.items() if fact not in ripe}
        in_force = _taken_over(self.in_force, self.seen, ripe)
        return msgspec.structs.replace(
            self, in_force=in_force, since=since, awaited=self.awaited.intersection(in_force.instances)
        )

    @property
    def due(self) -> float | None:
        """Return when `ripen` will change something; None while nothing is to come, or only by another look."""
        dates = (date for date in map(self._ripe_at, self.since) if date != math.inf)
        return min(dates, default=None)

    @property
    def look_due(self) -> float | None:
        """Return when a look would tell that an instance has not come; None while none is needed for that."""
        undecided = (fact for fact in self.since if self._ripe_at(fact) == math.inf)
        return min(map(self._over_at, undecided), default=None)

    @property
    def certain(self) -> bool:
        """Say whether who is there is known: the cluster was seen, and nobody is awaited any more."""
        return self.in_force is not None and not self.awaited

    def _ripe_at(self, fact: Fact) -> float:
        """Return when a fact takes effect: never, as long as only another look can tell."""
        date = self._over_at(fact)
        return math.inf if self.looked_at < date and fact in map(_instance, self.awaited) else date

    def _over_at(self, fact: Fact) -> float:
        """Return when the time of a fact is over."""
        newcomers = self.awaited.intersection(self.seen.newcomers) if self.seen else ()
        patient = fact in map(_instance, newcomers)
        return self.since[fact] + (max(self.newcomer_seconds, self.quiet_seconds) if patient else self.quiet_seconds)


def _first(view: View, expected: tuple[str, ...] | None) -> View:
    """Return the first view with everybody who can be there."""
    possible = set(view.nodes) if expected is None else set(view.nodes).intersection(expected)
    return msgspec.structs.replace(view, instances=tuple(sorted(possible.union(view.instances))))


def _at_once(in_force: View, seen: View) -> View:
    """Return the view in force with what needs no quiet period taken from the view seen."""
    in_force = msgspec.structs.replace(
        in_force, standby=seen.standby, leases_readable=seen.leases_readable, cut_off=seen.cut_off
    )
    before, now = in_force.shard_map, seen.shard_map
    if now is not None and (before is None or before.suffix != now.suffix):
        return msgspec.structs.replace(in_force, shard_map=now)
    return in_force


def _with_the_silent(view: View, in_force: View) -> View:
    """Return a view in which leases could not be read with everybody in it whose node is connected.

    An instance whose node is away is not missing for its silence.
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
