"""The status of this instance, put together from all its parts: what `/status.json` and the page `/` show.

Nothing is asked of the server for it, and nothing waits. One status serves all who ask within a second, so that many
clients cost no more than one.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec

from peruserd import __version__
from peruserd.core.cluster.leases import Lease, LeaseStatus, Role
from peruserd.core.cluster.views import View
from peruserd.core.common.escaping import calm_json
from peruserd.core.deletions.journal import Pause
from peruserd.core.processes.latency import LatencyHistory
from peruserd.core.processes.status import (
    FORMAT,
    MAX_ROWS,
    AuthenticationView,
    Cutter,
    InstanceRole,
    Opinion,
    RangeStatus,
    SeenInstance,
    Status,
    cut,
    encode_status,
)
from peruserd.couch.authenticator import Authenticator
from peruserd.daemon.health import Health
from peruserd.daemon.status_parts import (
    audit_view,
    counted,
    deletions_view,
    listener_view,
    quarantined_by_kind,
    range_rows,
)
from peruserd.supervisor.cluster_reader import ClusterReader
from peruserd.supervisor.fleet import Fleet
from peruserd.supervisor.fleet_status import FleetStatus
from peruserd.supervisor.lease_renewer import LeaseRenewer
from peruserd.supervisor.loop import Supervisor
from peruserd.supervisor.membership import Member
from peruserd.supervisor.peruser_watch import PeruserWatch

MAX_BYTES: Final = 2_000_000
"""The limit of `/status.json`. Beyond it the lists are cut further."""

_FRESH_SECONDS: Final = 1.0

# The instances that are alive come first, because the others are remembered for some time only.
_ORDER: Final = (LeaseStatus.ALIVE, LeaseStatus.UNPROVEN, LeaseStatus.SILENT, LeaseStatus.RELEASED)


class InstanceStatus:
    """Makes the status of an instance; any thread may ask.

    `pause` returns the pause of all drops; None if nothing is ever dropped. `refused` returns why the last reload was
    refused; None if it was not.
    """

    def __init__(
        self,
        *,
        auth_db: str,
        fleet: Fleet,
        supervisor: Supervisor,
        member: Member,
        lease_renewer: LeaseRenewer,
        cluster_reader: ClusterReader,
        health: Health,
        authenticator: Authenticator,
        peruser_watch: PeruserWatch,
        pause: Callable[[], Pause | None],
        refused: Callable[[], str | None],
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._auth_db = auth_db
        self._fleet = fleet
        self._supervisor = supervisor
        self._member = member
        self._lease_renewer = lease_renewer
        self._cluster_reader = cluster_reader
        self._health = health
        self._authenticator = authenticator
        self._peruser_watch = peruser_watch
        self._pause = pause
        self._refused = refused
        self._clock = clock
        self._wall_clock = wall_clock
        self._started = wall_clock()
        self._began = clock()
        self._latency = LatencyHistory()
        self._lock = threading.Lock()
        self._latest: tuple[float, Status, bytes] | None = None

    def sample(self, now: float) -> None:
        """Take a sample of the latency if one is due. The supervisor's loop calls this after each round."""
        if self._latency.is_due(now):
            self._latency = self._latency.sampled(self._fleet.status().counters.latency, now)

    def as_json(self) -> bytes:
        """Return the status in JSON, at most a second old, and at most `MAX_BYTES` long."""
        return self._fresh()[1]

    def latest(self) -> Status:
        """Return the status that `as_json` has."""
        return self._fresh()[0]

    def _fresh(self) -> tuple[Status, bytes]:
        with self._lock:
            now = self._clock()
            if self._latest is None or now - self._latest[0] >= _FRESH_SECONDS:
                self._latest = now, *self._make()
            return self._latest[1:]

    def _make(self) -> tuple[Status, bytes]:
        rows = MAX_ROWS
        status = self.status(rows)
        encoded = calm_json(encode_status(status))
        while len(encoded) > MAX_BYTES and rows > 1:
            rows //= 4
            status = self.status(rows)
            encoded = calm_json(encode_status(status))
        return status, encoded

    def status(self, rows: int = MAX_ROWS) -> Status:
        """Return the status of this moment, with at most so many rows in each list."""
        cutter = Cutter(rows)
        now, wall = self._clock(), self._wall_clock()
        fleet = self._fleet.status()
        views = self._supervisor.views
        followed = self._supervisor.view
        return Status(
            format=FORMAT,
            time=wall,
            version=__version__,
            node=self._node(),
            incarnation=self._member.lease.incarnation,
            started=self._started,
            uptime=now - self._began,
            role=self._role(followed),
            healthy=_opinion(*self._health.healthy()),
            ready=_opinion(*self._health.ready()),
            nodes=None if views is None else tuple(map(cut, cutter.rows("nodes", views[1].nodes))),
            leases_readable=self._supervisor.leases_readable,
            database=self._auth_db,
            instances=self._instances(now, cutter),
            ranges=self._ranges(views, fleet, cutter),
            unreadable=tuple(cutter.rows("unreadable", fleet.unreadable)),
            listeners=tuple(listener_view(each, now) for each in cutter.rows("listeners", fleet.listeners)),
            latency=self._latency.status(fleet.counters.latency, now, wall),
            quarantine=quarantined_by_kind(fleet.listeners),
            deletions=deletions_view(fleet, self._pause(), wall),
            audit=audit_view(fleet.listeners),
            authentication=self._authentication(),
            couch_peruser=self._peruser_watch.is_on,
            maintenance=self._lease_renewer.maintenance,
            plans=self._supervisor.plan_history.changes,
            counters=counted(fleet.counters),
            failures=dict(sorted(fleet.counters.failures.items())),
            away=() if views is None else tuple(map(cut, cutter.rows("away", views[1].away))),
            failing=self._health.failing(),
            refused=None if (refused := self._refused()) is None else cut(refused),
            omitted=cutter.omitted,
        )

    def _node(self) -> str | None:
        attachment = self._cluster_reader.attached
        return None if attachment is None else cut(attachment.node)

    def _role(self, view: View | None) -> InstanceRole:
        if self._supervisor.stopping:
            return InstanceRole.STOPPING
        if view is None:
            return InstanceRole.WAITING
        if view.gives_up:
            return InstanceRole.DRAINED
        return InstanceRole.STANDBY if view.standby else InstanceRole.ACTIVE

    def _instances(self, now: float, cutter: Cutter) -> tuple[SeenInstance, ...]:
        own = self._member.lease
        peers = [each for each in self._member.peers(now) if each.status in _ORDER]
        peers.sort(key=lambda each: (_ORDER.index(each.status), each.lease.node, each.lease.incarnation))
        # Without a node there are no leases, and this instance is the only one.
        mine = msgspec.structs.replace(
            own, node=own.node or self._node() or "", maintenance=self._lease_renewer.maintenance
        )
        me = _seen(mine, LeaseStatus.ALIVE, self._lease_renewer.seconds_since_renewal(), own)
        return (
            me,
            *(_seen(each.lease, each.status, each.silent_seconds, own) for each in cutter.rows("instances", peers)),
        )

    def _ranges(self, views: tuple[View, View] | None, fleet: FleetStatus, cutter: Cutter) -> tuple[RangeStatus, ...]:
        return () if views is None else range_rows(*views, (each.copy for each in fleet.listeners), cutter)

    def _authentication(self) -> AuthenticationView:
        trouble = self._authenticator.trouble
        return AuthenticationView(
            let_in=self._authenticator.tokens.current is not None,
            trouble=None if trouble is None else cut(trouble),
            logins=self._authenticator.logins,
            refusals=self._authenticator.refusals,
        )


def _opinion(ok: bool, why: str) -> Opinion:  # noqa: FBT001 - the two values of a check
    return Opinion(ok, cut(why))


def _seen(lease: Lease, status: LeaseStatus, age: float | None, own: Lease) -> SeenInstance:
    return SeenInstance(
        node=cut(lease.node),
        incarnation=cut(lease.incarnation),
        version=cut(lease.version),
        status=status,
        is_me=lease.incarnation == own.incarnation,
        is_active=lease.role is Role.ACTIVE,
        lease_age=age,
        maintenance=lease.maintenance,
        drained=lease.drained,
        same_configuration=lease.digest == own.digest if lease.digest and own.digest else None,
        address=cut(lease.address),
    )
