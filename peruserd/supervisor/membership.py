"""Membership: this instance's own lease, and which other instances it takes for alive by their leases.

Two threads use it: the lease renewer writes the lease, and the cluster watch reads all leases. The rules are in
`core.cluster.leases`.
"""

import threading
import time
from collections.abc import Iterable
from typing import Protocol

import msgspec
import structlog

from peruserd.core.cluster.agreement import differing
from peruserd.core.cluster.leases import (
    PROTOCOL,
    Breaks,
    Drain,
    Lease,
    LeaseStatus,
    LeaseTable,
    Role,
    active_nodes,
    drain_of,
    holder,
)

log = structlog.get_logger(__name__)


class Peer(msgspec.Struct, frozen=True):
    """Another instance: its lease, and whether it is taken for alive.

    `silent_seconds` is the time since its last sign of life; None if there was none.
    """

    lease: Lease
    status: LeaseStatus
    silent_seconds: float | None = None


class LiveInstances(msgspec.Struct, frozen=True):
    """The nodes, sorted, of all live instances, and the lease for which this instance stands by, if any.

    `newcomers` are the nodes, sorted, whose instance has written a lease that is not believed yet. `breaks` counts for
    each live instance how often it lost the connection to its node. `drain` says who gives up its documents.
    """

    instances: tuple[str, ...]
    standby_for: Lease | None = None
    newcomers: tuple[str, ...] = ()
    breaks: tuple[Breaks, ...] = ()
    drain: Drain = Drain()


class LeaseTracker(Protocol):
    """Takes readings of the leases; `node` is the node to which their reader is attached. `now` is monotonic."""

    def observe(self, node: str, leases: Iterable[Lease], now: float, /) -> LiveInstances:
        """Add one reading of the leases, and return the live instances."""

    def suspend_expiry(self, node: str, now: float, /) -> LiveInstances:
        """Note that no instance could write a lease until now, and return the live instances."""


class LeaseObserver:
    """Reads leases without having one, for commands. Not thread-safe."""

    def __init__(self, ttl_seconds: float) -> None:
        self._table = LeaseTable(ttl_seconds)

    def observe(self, _node: str, leases: Iterable[Lease], now: float, /) -> LiveInstances:
        """Add one reading of the leases, and return the live instances."""
        self._table = self._table.observe(leases, now)
        return self._live_instances(now)

    def suspend_expiry(self, _node: str, now: float, /) -> LiveInstances:
        """Note that no instance could write a lease until now, and return the live instances."""
        self._table = self._table.suspend_expiry(now)
        return self._live_instances(now)

    def peers(self, now: float) -> list[Peer]:
        """Return every other instance whose lease was seen, sorted by node."""
        return _peers(self._table, now)

    def living(self, now: float) -> tuple[Lease, ...]:
        """Return the leases of all other instances that are taken for alive."""
        return self._table.living(now)

    def unproven(self, now: float) -> tuple[Lease, ...]:
        """Return the leases that count as alive although they were not seen to grow yet."""
        return self._table.unproven(now)

    def _live_instances(self, now: float) -> LiveInstances:
        living = self._table.living(now)
        return LiveInstances(
            _sorted_nodes(living),
            newcomers=_sorted_nodes(self._table.newcomers()),
            drain=drain_of(living),
        )


class Member:
    """An instance with its own lease. Its role follows from the leases that it reads.

    - It never takes itself for dead. If its lease cannot be written, another instance may do the same work at the same
      time. That is harmless, and work that no instance does is not.
    - A standby takes over with the first reading that shows no other active instance beside the node. The new role
      counts without a quiet period, and the next lease has it.

    Any thread may read `differing`: how many live instances have another configuration, as far as all must share it.
    """

    def __init__(
        self, *, incarnation: str, replaces: str | None, ttl_seconds: float, version: str, digest: str = ""
    ) -> None:
        self._lock = threading.Lock()
        self._table = LeaseTable(ttl_seconds)
        self._logged: dict[str, LeaseStatus] = {}
        self._logged_differing: set[tuple[str, str]] = set()
        self.differing = 0
        # Until it has read the leases it claims nothing.
        self._own = Lease(
            node="",
            incarnation=incarnation,
            counter=0,
            role=Role.STANDBY,
            replaces=replaces,
            version=version,
            digest=digest,
            protocol=PROTOCOL,
        )
        self._draining = False
        # Whether a lease may be there that says that the documents were given up.
        self._may_be_drained = False

    @property
    def lease(self) -> Lease:
        """The newest lease that was signed."""
        with self._lock:
            return self._own

    def observe(self, node: str, leases: Iterable[Lease], now: float, /) -> LiveInstances:
        """Add one reading of the leases, and return the live instances."""
        with self._lock:
            self._table = self._table.observe(self._others(leases, node), now)
            self._log_changes(now)
            return self._live_instances(node, now)

    def suspend_expiry(self, node: str, now: float, /) -> LiveInstances:
        """Note that no instance could write a lease until now, and return the live instances."""
        with self._lock:
            self._table = self._table.suspend_expiry(now)
            return self._live_instances(node, now)

    def peers(self, now: float) -> list[Peer]:
        """Return every other instance whose lease was seen, sorted by node; for any thread."""
        with self._lock:
            return _peers(self._table, now)

    @property
    def has_read_leases(self) -> bool:
        """Say whether all leases were read once; before that an old instance cannot be told from a new one."""
        with self._lock:
            return self._table.was_read

    def set_address(self, address: str) -> None:
        """Set the address of the HTTP page, once it is known."""
        with self._lock:
            self._own = msgspec.structs.replace(self._own, address=address)

    def take_over(self, *, ttl_seconds: float, digest: str) -> None:
        """Take another time to live for the leases of others, and another digest for its own; for any thread."""
        with self._lock:
            self._table = self._table.with_ttl(ttl_seconds, time.monotonic())
            self._own = msgspec.structs.replace(self._own, digest=digest)

    def note_break(self) -> None:
        """Count one break of the connection to the node, for all later leases; for any thread."""
        with self._lock:
            self._own = msgspec.structs.replace(self._own, breaks=self._own.breaks + 1)

    @property
    def draining(self) -> bool:
        """Say whether this instance was told to give up its documents; for any thread."""
        with self._lock:
            return self._draining

    def drain(self, *, on: bool) -> None:
        """Give up all documents if others are there to take them over, or take them back; for any thread.

        This instance counts as given up from now on, and others hear of it by a lease that says so. It counts as taken
        back once a lease is written that says so, because others may act until then.
        """
        with self._lock:
            self._draining = on

    def next_lease(
        self, node: str, *, maintenance: bool = False, released: bool = False, drained: bool = False
    ) -> Lease:
        """Return the lease to write now, with a counter that is one higher."""
        with self._lock:
            self._may_be_drained |= drained
            self._own = msgspec.structs.replace(
                self._own,
                node=node,
                counter=self._own.counter + 1,
                maintenance=maintenance,
                released=released,
                draining=self._draining,
                drained=drained,
            )
            return self._own

    def note_written(self, lease: Lease) -> None:
        """Note that a lease of `next_lease` was written."""
        with self._lock:
            self._may_be_drained &= lease.drained

    # Inside, with the lock held

    def _others(self, leases: Iterable[Lease], node: str) -> Iterable[Lease]:
        own = self._own
        # The lock on the state directory proves the end of its predecessor. The lease of that one says nothing.
        return [
            each
            for each in leases
            if each.incarnation != own.incarnation and (each.incarnation != own.replaces or each.node != node)
        ]

    def _live_instances(self, node: str, now: float) -> LiveInstances:
        living = self._table.living(now)
        own = msgspec.structs.replace(self._own, node=node)
        chosen = holder(node, (own, *living))
        standby_for = None if chosen is own else chosen
        self._take_role(own, standby_for)
        # An instance that stands by counts its node as well, because another instance acts there.
        instances = _sorted_nodes(living, node)
        breaks = tuple(Breaks(each.node, each.incarnation, each.breaks) for each in living)
        gives_up = self._draining or self._may_be_drained
        mine = msgspec.structs.replace(self._own, draining=gives_up, drained=gives_up)
        drain = drain_of((mine, *living))
        return LiveInstances(instances, standby_for, _sorted_nodes(self._table.newcomers()), breaks, drain)

    def _take_role(self, own: Lease, standby_for: Lease | None) -> None:
        role = Role.ACTIVE if standby_for is None else Role.STANDBY
        if role is not own.role:
            log.info("role", role=role.value, beside=own.node, standby_for=standby_for and standby_for.incarnation)
        self._own = msgspec.structs.replace(own, role=role)

    def _log_changes(self, now: float) -> None:
        statuses = {name: self._table.status(name, now) for name in self._table.observed}
        for name, status in statuses.items():
            if self._logged.get(name) is not status:
                log.info(
                    "instance", node=self._table.observed[name].lease.node, incarnation=name, standing=status.value
                )
        self._logged = statuses
        self._log_differences(now)

    def _log_differences(self, now: float) -> None:
        own = self._own
        apart = differing(own.digest, self._table.living(now)) if own.digest else ()
        for lease in apart:
            if (lease.incarnation, lease.digest) not in self._logged_differing:
                log.warning(
                    "instance has another configuration of databases or templates; users are served by either",
                    node=lease.node,
                    incarnation=lease.incarnation,
                    version=lease.version,
                    digest=lease.digest,
                    own_digest=own.digest,
                )
        self._logged_differing = {(lease.incarnation, lease.digest) for lease in apart}
        self.differing = len(apart)


def _peers(table: LeaseTable, now: float) -> list[Peer]:
    known = [
        Peer(each.lease, table.status(name, now), None if each.grown_at is None else max(0.0, now - each.grown_at))
        for name, each in table.observed.items()
    ]
    return sorted(known, key=lambda each: (each.lease.node, each.lease.incarnation))


def _sorted_nodes(leases: Iterable[Lease], *more: str) -> tuple[str, ...]:
    return tuple(sorted(active_nodes(leases).union(more)))
