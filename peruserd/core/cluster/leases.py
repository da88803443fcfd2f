"""Leases: how instances tell each other that they live, and what one of them may believe of the others.

A lease is a local document of a database for server admins only. Such documents keep no history and are not copied to a
node that was away, so a read can show an old one, or none although there is one, for as long as nothing new is written
(measured). Hence the one rule of this module: only a counter that grows past the highest value seen of its incarnation
shows life, for a time to live by the observer's own monotonic clock. Neither that a lease is there nor that it is
missing says anything, and clocks are never compared. (docs/architecture.md, "Ownership".)

An observer that has just begun to look cannot have seen anything grow. It takes the leases of its first look for alive,
for one time to live, so that a restart does not move every document twice.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, Self

import msgspec


class Role(StrEnum):
    """The part that an instance plays beside its node."""

    ACTIVE = "active"
    STANDBY = "standby"  # another instance beside the same node is active; this one waits to take over


class Lease(msgspec.Struct, frozen=True):
    """The sign of life of one instance, as it is written.

    `incarnation` is random and fresh at each start, `counter` grows with each writing and counts from 1. `replaces` is
    the incarnation before it on the same state directory, whose lock proves that one dead. `released` is the last word
    of an instance that stopped in order. `address` is that of its HTTP page, `maintenance` whether its node is out of
    service (it still owns). `digest` stands for the part of the configuration that must be the same everywhere.
    `breaks` is how often its node could not be reached any more: others see no absence between two of their looks.
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


class Breaks(msgspec.Struct, frozen=True):
    """How often the instance of this incarnation could not reach its node any more."""

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
    """The newest lease seen of an incarnation, and when it last gave a sign of life; None while it never did.

    `proven` says that its counter was seen to grow; otherwise it is believed on the strength of the first look.
    """

    lease: Lease
    grown_at: float | None
    seen_at: float
    proven: bool = False


# How many times the time to live a dead incarnation is remembered after it was last seen in any copy.
_REMEMBERED: Final = 30


class LeaseTable(msgspec.Struct, frozen=True):
    """All leases an observer has seen. `now` is always of one monotonic clock, in seconds.

    `opened` says whether leases were read at all, `watched_at` is when they were read or suspended last.

    Invariant: an incarnation is alive only within `ttl_seconds` after one of these moments, and never after a later
    start on its state directory, or its own release, was seen:

    - Its counter was seen to grow.
    - It was seen at the first look.
    - It was first seen in the place of an incarnation that was alive until then.
    """

    ttl_seconds: float
    observed: dict[str, ObservedLease] = {}
    opened: bool = False
    watched_at: float | None = None

    def see(self, leases: Iterable[Lease], now: float) -> Self:
        """Return what is known after one reading of the leases."""
        observed = {
            name: each
            for name, each in self.observed.items()
            if self._is_fresh(each, now) or now - each.seen_at < _REMEMBERED * self.ttl_seconds
        }
        for lease in _newest(leases):
            known = observed.get(lease.incarnation)
            if known is None:
                believed = not self.opened or self._succeeds(lease, now)
                observed[lease.incarnation] = ObservedLease(lease, now if believed else None, now)
            elif lease.counter > known.lease.counter:
                observed[lease.incarnation] = ObservedLease(lease, now, now, proven=True)
            else:
                observed[lease.incarnation] = msgspec.structs.replace(known, seen_at=now)
        return msgspec.structs.replace(self, observed=observed, opened=True, watched_at=now)

    def suspend_expiry(self, now: float) -> Self:
        """Return what is known when leases could not be read since the last time: silence says nothing then.

        It is so while their database does not exist, while none of its copies answers, and while the own node does not
        answer. The time to live stands still, and no more: were it begun anew, a network that fails now and then would
        keep the dead alive.
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

    def standing(self, incarnation: str, now: float) -> LeaseStatus:
        """Return what is believed of an incarnation; KeyError for one that was never seen."""
        observed_lease = self.observed[incarnation]
        if incarnation in self._replaced():
            return LeaseStatus.REPLACED
        if observed_lease.lease.released:
            return LeaseStatus.RELEASED
        if observed_lease.grown_at is None:
            return LeaseStatus.UNPROVEN
        return LeaseStatus.ALIVE if self._is_fresh(observed_lease, now) else LeaseStatus.SILENT

    def living(self, now: float) -> tuple[Lease, ...]:
        """Return the leases of all that are believed alive, sorted by node and incarnation."""
        replaced = self._replaced()
        alive = [
            each.lease
            for name, each in self.observed.items()
            if self._is_fresh(each, now) and not each.lease.released and name not in replaced
        ]
        return tuple(sorted(alive, key=lambda lease: (lease.node, lease.incarnation)))

    def unproven(self, now: float) -> tuple[Lease, ...]:
        """Return the leases among `living` whose counters were not seen to grow yet."""
        return tuple(lease for lease in self.living(now) if not self.observed[lease.incarnation].proven)

    def newcomers(self) -> tuple[Lease, ...]:
        """Return the leases that were met after the first look and not seen to grow: starting, or an old copy."""
        replaced = self._replaced()
        return tuple(
            each.lease
            for name, each in self.observed.items()
            if each.grown_at is None and not each.lease.released and name not in replaced
        )

    def _succeeds(self, lease: Lease, now: float) -> bool:
        """Say whether this is the next start after one that was alive a moment ago: no old copy can tell of it."""
        before = self.observed.get(lease.replaces or "")
        return before is not None and before.lease.node == lease.node and self._is_fresh(before, now)

    def _is_fresh(self, observed_lease: ObservedLease, now: float) -> bool:
        return observed_lease.grown_at is not None and now - observed_lease.grown_at < self.ttl_seconds

    def _replaced(self) -> set[str]:
        # Only beside the same node: a copied state directory must not let one node's instance bury another's.
        leases = {name: each.lease for name, each in self.observed.items()}
        return {
            lease.replaces
            for lease in leases.values()
            if lease.replaces in leases and leases[lease.replaces].node == lease.node
        }


def _newest(leases: Iterable[Lease]) -> Iterable[Lease]:
    # An instance that has changed its role left a lease under each: the second one read is no growth over the first.
    newest: dict[str, Lease] = {}
    for lease in leases:
        known = newest.get(lease.incarnation)
        if known is None or lease.counter > known.counter:
            newest[lease.incarnation] = lease
    return newest.values()


def active_nodes(leases: Iterable[Lease]) -> set[str]:
    """Return the nodes that one of the living instances acts for; one that stands by does nothing for its node yet."""
    return {lease.node for lease in leases if lease.role is Role.ACTIVE}


def holder(node: str, leases: Iterable[Lease]) -> Lease | None:
    """Return which of the living instances that name `node` acts for it; None where there is none.

    An active instance keeps its place; among equals the elder does, which has counted further.
    """
    beside = [lease for lease in leases if lease.node == node]
    return max(beside, key=lambda lease: (lease.role is Role.ACTIVE, lease.counter, lease.incarnation), default=None)
