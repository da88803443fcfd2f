"""Leases: how instances show each other that they are alive, and what an observer may believe.

A lease is a local document of a database for server admins only. Such documents keep no history, and CouchDB does not
copy them to a node that was away. So until the next write, a read can show an old lease, or none although there is one
(measured). The presence or absence of a lease proves nothing. The rule of this module is therefore: an instance gives a
sign of life when the counter of its lease grows past the highest value that the observer has seen. The sign is valid
for one time to live, by the observer's own monotonic clock. Clocks are never compared. (docs/architecture.md,
"Ownership".)

Two kinds of leases count as a sign of life before their counter has grown:

- Those of an observer's first reading. Otherwise each restart would move every document away and back.
- A lease that replaces the lease of a live instance on the same node. The instance has started again.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, Self

import msgspec

PROTOCOL: Final = 1
"""The rules that this version knows. From 1 on an instance knows what `drained` means."""


class Role(StrEnum):
    """The part that an instance plays beside its node."""

    ACTIVE = "active"
    STANDBY = "standby"  # another instance of the same node is active; this one waits to take over


class Lease(msgspec.Struct, frozen=True):
    """The sign of life of one instance, as it is written to the cluster's database.

    - `incarnation`: random, and new at each start. `counter`: grows with each write, from 1.
    - `replaces`: the previous incarnation on the same state directory. The directory's lock proves that it is dead.
    - `released`: the instance stopped in order. This is its last lease.
    - `maintenance`: the node is in maintenance. Its instance still owns documents.
    - `draining`: the instance was told to give up its documents. `drained`: no process of it acts on any now.
    - `protocol`: which rules of this module the instance knows: `PROTOCOL` of its version, and 0 before there was one.
    - `address`: the address of the instance's HTTP page.
    - `digest`: stands for the part of the configuration that must be the same everywhere.
    - `breaks`: how often the instance lost the connection to its node. Others cannot see an absence between two of
      their readings.
    """

    node: str
    incarnation: str
    counter: int
    role: Role = Role.ACTIVE
    replaces: str | None = None
    released: bool = False
    maintenance: bool = False
    version: str = ""
    address: str = ""
    digest: str = ""
    breaks: int = 0
    draining: bool = False
    drained: bool = False
    protocol: int = 0


class Breaks(msgspec.Struct, frozen=True):
    """How often the instance of this incarnation lost the connection to its node."""

    node: str
    incarnation: str
    count: int


class LeaseStatus(StrEnum):
    """The belief about an incarnation."""

    ALIVE = "alive"
    UNPROVEN = "not seen to grow yet"
    SILENT = "silent for longer than the time to live"
    RELEASED = "stopped in order"
    REPLACED = "replaced by a later start"


class ObservedLease(msgspec.Struct, frozen=True):
    """The newest lease seen of an incarnation.

    `grown_at` is the time of its last sign of life; None if there was none. `proven` says that its counter was seen to
    grow. Otherwise the sign of life was only its presence at the first reading.
    """

    lease: Lease
    grown_at: float | None
    seen_at: float
    proven: bool = False


# How long a dead incarnation is remembered after it was last seen in any copy, as a multiple of the time to live.
_REMEMBERED: Final = 30


class LeaseTable(msgspec.Struct, frozen=True):
    """All leases an observer has seen. `now` is always of one monotonic clock, in seconds.

    `was_read` says whether leases were ever read. `watched_at` is when they were last read, or when expiry was last
    suspended.

    Invariant: an incarnation is alive only within `ttl_seconds` after one of these moments:

    - Its counter was seen to grow.
    - It was seen at the first reading.
    - It was first seen as the replacement of an incarnation that was alive until then.

    It is never alive after its release was seen, or a later start on its state directory.
    """

    ttl_seconds: float
    observed: dict[str, ObservedLease] = {}
    was_read: bool = False
    watched_at: float | None = None

    def observe(self, leases: Iterable[Lease], now: float) -> Self:
        """Return the table after one reading of the leases."""
        observed = {
            name: each
            for name, each in self.observed.items()
            if self._is_fresh(each, now) or now - each.seen_at < _REMEMBERED * self.ttl_seconds
        }
        for lease in _newest(leases):
            known = observed.get(lease.incarnation)
            if known is None:
                believed = not self.was_read or self._succeeds(lease, now)
                observed[lease.incarnation] = ObservedLease(lease, now if believed else None, now)
            elif lease.counter > known.lease.counter:
                observed[lease.incarnation] = ObservedLease(lease, now, now, proven=True)
            else:
                observed[lease.incarnation] = msgspec.structs.replace(known, seen_at=now)
        return msgspec.structs.replace(self, observed=observed, was_read=True, watched_at=now)

    def suspend_expiry(self, now: float) -> Self:
        """Return the table after a time in which leases could not be read. Silence proves nothing then.

        This is so while the cluster's database does not exist, while none of its copies answers, and while the
        instance's own node does not answer. Every time to live stands still meanwhile. It does not begin anew, because
        a network that fails now and then would keep dead instances alive.
        """
        missed = 0.0 if self.watched_at is None else max(0.0, now - self.watched_at)
        observed = {
            name: msgspec.structs.replace(
                each,
                grown_at=None if each.grown_at is None else each.grown_at + missed,
                seen_at=each.seen_at + missed,
            )
            for name, each in self.observed.items()
        }
        return msgspec.structs.replace(self, observed=observed, watched_at=now)

    def with_ttl(self, ttl_seconds: float, now: float) -> Self:
        """Return the table with another time to live. Whoever is silent already stays so until its counter grows."""
        observed = {
            name: each
            if each.grown_at is None or self._is_fresh(each, now)
            else msgspec.structs.replace(each, grown_at=min(each.grown_at, now - ttl_seconds))
            for name, each in self.observed.items()
        }
        return msgspec.structs.replace(self, ttl_seconds=ttl_seconds, observed=observed)

    def status(self, incarnation: str, now: float) -> LeaseStatus:
        """Return the status of an incarnation; raises KeyError if it was never seen."""
        observed_lease = self.observed[incarnation]
        if incarnation in self._replaced():
            return LeaseStatus.REPLACED
        if observed_lease.lease.released:
            return LeaseStatus.RELEASED
        if observed_lease.grown_at is None:
            return LeaseStatus.UNPROVEN
        return LeaseStatus.ALIVE if self._is_fresh(observed_lease, now) else LeaseStatus.SILENT

    def living(self, now: float) -> tuple[Lease, ...]:
        """Return the leases of all incarnations that are believed alive, sorted by node and incarnation."""
        replaced = self._replaced()
        alive = [
            each.lease
            for name, each in self.observed.items()
            if self._is_fresh(each, now) and not each.lease.released and name not in replaced
        ]
        return tuple(sorted(alive, key=lambda lease: (lease.node, lease.incarnation)))

    def unproven(self, now: float) -> tuple[Lease, ...]:
        """Return the leases among `living` whose counter was not seen to grow yet."""
        return tuple(lease for lease in self.living(now) if not self.observed[lease.incarnation].proven)

    def newcomers(self) -> tuple[Lease, ...]:
        """Return leases that appeared after the first reading and have not grown: of new instances, or old copies."""
        replaced = self._replaced()
        return tuple(
            each.lease
            for name, each in self.observed.items()
            if each.grown_at is None and not each.lease.released and name not in replaced
        )

    def _succeeds(self, lease: Lease, now: float) -> bool:
        """Say whether this lease replaces an incarnation that is still alive.

        An old copy of a lease never names such an incarnation.
        """
        before = self.observed.get(lease.replaces or "")
        return before is not None and before.lease.node == lease.node and self._is_fresh(before, now)

    def _is_fresh(self, observed_lease: ObservedLease, now: float) -> bool:
        return observed_lease.grown_at is not None and now - observed_lease.grown_at < self.ttl_seconds

    def _replaced(self) -> set[str]:
        # Only for the same node. Otherwise a copied state directory would declare another node's instance dead.
        leases = {name: each.lease for name, each in self.observed.items()}
        return {
            lease.replaces
            for lease in leases.values()
            if lease.replaces in leases and leases[lease.replaces].node == lease.node
        }


def _newest(leases: Iterable[Lease]) -> Iterable[Lease]:
    # An instance that has changed its role has left two leases. The second one read must not count as growth.
    newest: dict[str, Lease] = {}
    for lease in leases:
        known = newest.get(lease.incarnation)
        if known is None or lease.counter > known.counter:
            newest[lease.incarnation] = lease
    return newest.values()


def active_nodes(leases: Iterable[Lease]) -> set[str]:
    """Return the nodes with an active instance among the living ones. A standby instance does not count."""
    return {lease.node for lease in leases if lease.role is Role.ACTIVE}


def holder(node: str, leases: Iterable[Lease]) -> Lease | None:
    """Return the living instance that acts for `node`; None if there is none.

    An active instance keeps its role. Among instances of the same role the older one wins: the one that has counted
    further.
    """
    beside = [lease for lease in leases if lease.node == node]
    return max(beside, key=lambda lease: (lease.role is Role.ACTIVE, lease.counter, lease.incarnation), default=None)


class Drain(msgspec.Struct, frozen=True):
    """The nodes whose active instance was told to give up its documents, and those where it has done so.

    Each of the second kind is one of the first, too.
    """

    draining: frozenset[str] = frozenset()
    drained: frozenset[str] = frozenset()

    def owners(self, instances: Iterable[str]) -> tuple[str, ...]:
        """Return the instances that may own documents: those that have not given theirs up.

        If all were told to, none of these orders counts, because somebody must serve the users.
        """
        alive = tuple(instances)
        if self.draining.issuperset(alive):
            return alive
        return tuple(each for each in alive if each not in self.drained)


def drain_of(leases: Iterable[Lease]) -> Drain:
    """Return which instances give up their documents, among the living ones.

    None does while one of the active instances does not know what that means. It would count the drained one as an
    owner, and nobody would serve the documents that the others leave to it. All observers of the same leases come to
    the same result, so the drained instance takes its documents back in that case.
    """
    active = [lease for lease in leases if lease.role is Role.ACTIVE]
    if any(lease.protocol < PROTOCOL for lease in active):
        return Drain()
    staying = active_nodes(lease for lease in active if not lease.draining)
    acting = active_nodes(lease for lease in active if not lease.drained)
    nodes = active_nodes(active)
    return Drain(frozenset(nodes - staying), frozenset(nodes - staying - acting))
