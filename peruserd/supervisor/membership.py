"""This instance among the others: its own lease, and what it believes of theirs.

Used by two threads: the lease renewer writes the lease, and the watcher reads all of them. Rules are
`core.cluster.leases`'.
"""

import threading
from collections.abc import Iterable

import msgspec
import structlog

from peruserd.core.cluster.agreement import differing
from peruserd.core.cluster.leases import Breaks, Lease, LeaseStatus, LeaseTable, Role, active_nodes, holder

log = structlog.get_logger(__name__)


class Peer(msgspec.Struct, frozen=True):
    """Another instance as it is believed to be."""

    lease: Lease
    standing: LeaseStatus


class LiveInstances(msgspec.Struct, frozen=True):
    """The instances that are there: their nodes, sorted, and the lease for which this instance stands by, if any.

    `newcomers` are the nodes, sorted, whose instance has written a lease that is not believed yet. `breaks` tells of
    each living one how often it could not reach its node any more.
    """

    instances: tuple[str, ...]
    standby_for: Lease | None = None
    newcomers: tuple[str, ...] = ()
    breaks: tuple[Breaks, ...] = ()


class LeaseObserver:
    """Watches the leases without having one: for commands that only ask."""

    def __init__(self, ttl_seconds: float) -> None:
        self._lock = threading.Lock()
        self._table = LeaseTable(ttl_seconds)

    def observe(self, node: str, leases: Iterable[Lease], now: float) -> LiveInstances:
        """Take in one reading of the leases and say who is there.

        `node` is the one the observer is attached to.
        """
        with self._lock:
            self._table = self._table.see(self._others(leases, node), now)
            self._log_changes(now)
            return self._live_instances(node, now)

    def suspend_expiry(self, node: str, now: float) -> LiveInstances:
        """Take note that nobody could write a lease until now, and say who is there."""
        with self._lock:
            self._table = self._table.suspend_expiry(now)
            return self._live_instances(node, now)

    @property
    def has_looked(self) -> bool:
        """Say whether all leases were read once; until then nobody can be told from a newcomer."""
        with self._lock:
            return self._table.opened

    def peers(self, now: float) -> list[Peer]:
        """Return every other instance of which a lease was seen, sorted by node."""
        with self._lock:
            table = self._table
            known = [Peer(each.lease, table.standing(name, now)) for name, each in table.observed.items()]
        return sorted(known, key=lambda each: (each.lease.node, each.lease.incarnation))

    def living(self, now: float) -> tuple[Lease, ...]:
        """Return the leases of all other instances that are believed alive."""
        with self._lock:
            return self._table.living(now)

    def unproven(self, now: float) -> tuple[Lease, ...]:
        """Return the leases that are believed and were not seen to grow yet."""
        with self._lock:
            return self._table.unproven(now)

    # Inside, with the lock held

    def _others(self, leases: Iterable[Lease], _node: str) -> Iterable[Lease]:
        return leases

    def _live_instances(self, _node: str, now: float) -> LiveInstances:
        return LiveInstances(_sorted_nodes(self._table.living(now)), newcomers=_sorted_nodes(self._table.newcomers()))

    def _log_changes(self, now: float) -> None:
        """Say nothing: commands print what they found. An instance keeps a log."""


class Member(LeaseObserver):
    """An instance that has a lease of its own. Its role follows from what it sees.

    It never takes itself for dead: if its lease cannot be written, others may do its work as well, which is harmless,
    while nobody doing it would not be.
    """

    def __init__(
        self, *, incarnation: str, replaces: str | None, ttl_seconds: float, version: str, digest: str = ""
    ) -> None:
        super().__init__(ttl_seconds)
        self._logged: dict[str, LeaseStatus] = {}
        self._logged_differing: set[tuple[str, str]] = set()
        # Until it has looked round it claims nothing.
        self._own = Lease(
            node="",
            incarnation=incarnation,
            counter=0,
            role=Role.STANDBY,
            replaces=replaces,
            version=version,
            digest=digest,
        )

    @property
    def lease(self) -> Lease:
        """The lease as it was signed last."""
        with self._lock:
            return self._own

    def set_address(self, address: str) -> None:
        """Set the address of the HTTP page, once it is known."""
        with self._lock:
            self._own = msgspec.structs.replace(self._own, address=address)

    def note_break(self) -> None:
        """Note that the node cannot be reached any more, for the leases to come; for any thread."""
        with self._lock:
            self._own = msgspec.structs.replace(self._own, breaks=self._own.breaks + 1)

    def sign(self, node: str, *, maintenance: bool = False, released: bool = False) -> Lease:
        """Return the lease to write now: its counter has grown."""
        with self._lock:
            self._own = msgspec.structs.replace(
                self._own, node=node, counter=self._own.counter + 1, maintenance=maintenance, released=released
            )
            return self._own

    def _others(self, leases: Iterable[Lease], node: str) -> Iterable[Lease]:
        own = self._own
        # The lock on the state directory proves its predecessor dead, whatever is written of that one.
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
        # An instance that stands by counts its node as well: another one acts for it.
        instances = _sorted_nodes(living, node)
        breaks = tuple(Breaks(each.node, each.incarnation, each.breaks) for each in living)
        return LiveInstances(instances, standby_for, _sorted_nodes(self._table.newcomers()), breaks)

    def _take_role(self, own: Lease, standby_for: Lease | None) -> None:
        role = Role.ACTIVE if standby_for is None else Role.STANDBY
        if role is not own.role:
            log.info("role", role=role.value, beside=own.node, standby_for=standby_for and standby_for.incarnation)
        self._own = msgspec.structs.replace(own, role=role)

    def _log_changes(self, now: float) -> None:
        standings = {name: self._table.standing(name, now) for name in self._table.observed}
        for name, standing in standings.items():
            if self._logged.get(name) is not standing:
                log.info(
                    "instance", node=self._table.observed[name].lease.node, incarnation=name, standing=standing.value
                )
        self._logged = standings
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


def _sorted_nodes(leases: Iterable[Lease], *more: str) -> tuple[str, ...]:
    return tuple(sorted(active_nodes(leases).union(more)))
