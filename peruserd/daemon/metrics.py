"""The metrics of an instance for Prometheus, made from the reports of its listeners and the supervisor's state.

The table in `peruserd.monitoring.table` names all metrics with their meanings.
"""

from typing import Final

from peruserd import __version__
from peruserd.core.processes.counters import Counters
from peruserd.core.processes.lifecycle import State
from peruserd.core.processes.messages import Report, Stage
from peruserd.couch.authenticator import Authenticator
from peruserd.couch.cluster_database import ClusterDatabase
from peruserd.daemon.health import Health
from peruserd.daemon.samples import Part, Samples
from peruserd.supervisor.fleet import Fleet
from peruserd.supervisor.fleet_status import FleetStatus
from peruserd.supervisor.lease_renewer import LeaseRenewer
from peruserd.supervisor.listener import ListenerStatus
from peruserd.supervisor.loop import Supervisor
from peruserd.supervisor.second_writer import SecondWriter

_COUNTERS: Final = (
    "changes_seen",
    "changes_owned",
    "users_provisioned",
    "users_revoked",
    "databases_created",
    "databases_dropped",
    "security_writes",
    "retries",
    "reviews",
    "feed_requests",
    "scans",
    "holds",
)


class InstanceMetrics:
    """The metrics of one instance but for those of deletions and the audit."""

    def __init__(
        self,
        fleet: Fleet,
        supervisor: Supervisor,
        lease_renewer: LeaseRenewer,
        health: Health,
        database: ClusterDatabase,
        second_writer: SecondWriter,
        authenticator: Authenticator,
    ) -> None:
        self._fleet = fleet
        self._supervisor = supervisor
        self._lease_renewer = lease_renewer
        self._health = health
        self._database = database
        self._second_writer = second_writer
        self._authenticator = authenticator

    def parts(self) -> dict[str, Part]:
        """Return the parts of these metrics by name. Each may fail without the others."""
        return {
            "build": lambda out: out.put("peruserd_build", 1, __version__),
            "counters": lambda out: _put_counters(out, self._fleet.status().counters),
            "listeners": lambda out: _put_listeners(out, self._fleet.status()),
            "cluster": self._put_cluster,
            "leases": self._put_leases,
            "second_writer": lambda out: out.put("peruserd_couch_peruser_enabled", self._second_writer.is_on),
            "ready": lambda out: out.put("peruserd_ready", self._health.ready()[0]),
            "authentication": self._put_authentication,
        }

    def _put_cluster(self, out: Samples) -> None:
        """Add the metrics of the cluster as this instance sees it."""
        view = self._supervisor.view
        if view is not None:
            out.put("peruserd_nodes_connected", len(view.nodes))
            out.put("peruserd_instances_alive", len(view.instances))
            out.put("peruserd_standby", view.standby)
        out.put("peruserd_lease_age_seconds", self._lease_renewer.seconds_since_renewal())
        out.put("peruserd_lease_failures", self._lease_renewer.failures)
        out.put("peruserd_node_maintenance", self._lease_renewer.maintenance)
        out.put("peruserd_plans", self._supervisor.plans)

    def _put_leases(self, out: Samples) -> None:
        """Add the metrics of the database of the leases; none before it was checked once."""
        state = self._database.state
        if state.expected:
            out.put("peruserd_lease_copies_live", len(state.live))
            out.put("peruserd_lease_copies_expected", state.expected)
            out.put("peruserd_leases_readable", self._supervisor.leases_readable)

    def _put_authentication(self, out: Samples) -> None:
        out.put("peruserd_authenticated", self._authenticator.tokens.current is not None)
        out.put("peruserd_logins", self._authenticator.logins)
        out.put("peruserd_password_refusals", self._authenticator.refusals)


def _put_counters(out: Samples, counters: Counters) -> None:
    for name in _COUNTERS:
        out.put(f"peruserd_{name}", getattr(counters, name))
    out.put_counts("peruserd_looks", counters.looks)
    out.put_counts("peruserd_failures", counters.failures)
    out.put_counts("peruserd_access_changes", counters.access_changes)
    out.put_histogram("peruserd_provisioning_latency_seconds", counters.latency)


def _put_listeners(out: Samples, status: FleetStatus) -> None:
    for each in status.listeners:
        copy = str(each.copy)
        for state in State:
            out.put("peruserd_listener_state", each.state is state, copy, state.value)
        out.put("peruserd_listener_restarts", each.restarts, copy)
        out.put("peruserd_listener_caught_up", each.caught_up, copy)
        if each.report is not None:
            _put_report(out, copy, each.report)
        _put_usage(out, copy, each)
    out.put_counts("peruserd_listener_ends", {reason.value: count for reason, count in status.stops.items()})
    out.put("peruserd_unreadable_ranges", len(status.unreadable))


def _put_report(out: Samples, copy: str, report: Report) -> None:
    out.put("peruserd_listener_scanning", report.stage is Stage.SCANNING, copy)
    out.put("peruserd_listener_on_hold", report.on_hold is not None, copy)
    out.put("peruserd_listener_waiting", report.waiting, copy)
    out.put("peruserd_listener_in_flight", report.in_flight, copy)
    out.put("peruserd_quarantined_users", report.quarantined, copy)
    out.put("peruserd_quarantined_users_permanent", report.permanent, copy)
    sequences = {"checkpoint": report.checkpoint, "shard": report.shard_sequence}
    for name, sequence in sequences.items():
        # The sequences of a clustered feed are opaque texts, so there is no number to show.
        out.put(f"peruserd_{name}_sequence", sequence if isinstance(sequence, int) else None, copy)


def _put_usage(out: Samples, copy: str, listener: ListenerStatus) -> None:
    """Add the figures of the listener's process. The listener measures them itself: no other process may."""
    usage = None if listener.pid is None or listener.report is None else listener.report.usage
    if usage is None:
        return
    out.put("peruserd_listener_cpu_seconds", usage.cpu_seconds, copy)
    out.put("peruserd_listener_resident_memory_bytes", usage.resident_bytes, copy)
    out.put("peruserd_listener_open_fds", usage.descriptors, copy)
    out.put("peruserd_listener_threads", usage.threads, copy)
