"""The metrics of an instance for Prometheus, made from the reports of its listeners and the supervisor's state.

Names follow Prometheus' conventions: base units, `_total` only on counters, bounded labels. No label names a user or a
process id.
"""

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from peruserd import __version__
from peruserd.core.processes.counters import LATENCY_BUCKETS, Counters
from peruserd.core.processes.lifecycle import State
from peruserd.core.processes.messages import Stage
from peruserd.couch.authenticator import Authenticator
from peruserd.couch.cluster_database import ClusterDatabase
from peruserd.daemon.collecting import Source
from peruserd.daemon.health import Health
from peruserd.supervisor.fleet import Fleet
from peruserd.supervisor.fleet_status import FleetStatus
from peruserd.supervisor.lease_renewer import LeaseRenewer
from peruserd.supervisor.listener import ListenerStatus
from peruserd.supervisor.loop import Supervisor
from peruserd.supervisor.second_writer import SecondWriter

_COUNTERS: Final = {
    "changes_seen": "Changes read from the feeds, of documents owned or not.",
    "changes_owned": "Changes of user documents that this instance owns.",
    "users_provisioned": "Users served to the end: their database is there and secured.",
    "users_revoked": "Users whose access was taken away after their document was deleted.",
    "databases_created": "Databases created: answers 201 and 202 only, never 412.",
    "databases_dropped": "Databases deleted after their user document was.",
    "security_writes": "Security objects written, with a majority's consent.",
    "retries": "Tries of users out of quarantine.",
    "reviews": "Looks at what was done last for documents that another instance owns by now.",
    "feed_requests": "Pages of changes read.",
    "scans": "Scans of a range that reached their end.",
    "holds": "Times that a listener was on hold, because the cluster served nobody.",
}


class InstanceCollector(Collector):
    """Makes the metrics of one instance at each scrape."""

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

    def collect(self) -> Iterator[Metric]:
        """Return all metric families."""
        for source in self.sources().values():
            yield from source()

    def sources(self) -> dict[str, Source]:
        """Return the parts of these metrics by name. Each may fail without the others."""
        return {
            "build": self._build,
            "counters": lambda: _counted(self._fleet.status().counters),
            "listeners": lambda: _listeners(self._fleet.status()),
            "cluster": lambda: _cluster(self._supervisor, self._lease_renewer),
            "leases": lambda: _leases(self._supervisor, self._database),
            "second_writer": lambda: _second_writer(self._second_writer),
            "ready": self._ready,
            "authentication": lambda: _authentication(self._authenticator),
            "listener_processes": lambda: self._sampled(self._fleet.status().listeners),
        }

    @staticmethod
    def _build() -> Iterator[Metric]:
        yield InfoMetricFamily("peruserd_build", "The program.", value={"version": __version__})

    def _ready(self) -> Iterator[Metric]:
        ready, _ = self._health.ready()
        yield GaugeMetricFamily("peruserd_ready", "1 when every user this instance owns is served.", value=ready)

    @staticmethod
    def _sampled(listeners: Iterable[ListenerStatus]) -> Iterator[Metric]:
        """Return the figures of each listener's process. The listener measures them itself: no other process may."""
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {
            "cpu": CounterMetricFamily(
                "peruserd_listener_cpu_seconds", "Processor time of the listener's process.", labels=["listener"]
            ),
            "memory": GaugeMetricFamily(
                "peruserd_listener_resident_memory_bytes", "Resident memory of the process.", labels=["listener"]
            ),
            "descriptors": GaugeMetricFamily(
                "peruserd_listener_open_fds", "Open file descriptors of the process.", labels=["listener"]
            ),
            "threads": GaugeMetricFamily("peruserd_listener_threads", "Threads of the process.", labels=["listener"]),
        }
        for each in listeners:
            usage = None if each.pid is None or each.report is None else each.report.usage
            if usage is None:
                continue
            copy = str(each.copy)
            families["cpu"].add_metric([copy], usage.cpu_seconds)
            families["memory"].add_metric([copy], usage.resident_bytes)
            families["descriptors"].add_metric([copy], usage.descriptors)
            families["threads"].add_metric([copy], usage.threads)
        yield from families.values()


def _counted(counters: Counters) -> Iterator[Metric]:
    for name, help_text in _COUNTERS.items():
        yield CounterMetricFamily(f"peruserd_{name}", help_text, value=getattr(counters, name))
    looks = CounterMetricFamily("peruserd_looks", "Acts on a user document, by the reason for them.", labels=["reason"])
    for reason, count in sorted(counters.looks.items()):
        looks.add_metric([reason], count)
    yield looks
    failures = CounterMetricFamily("peruserd_failures", "Actions and feed reads that failed, by kind.", labels=["kind"])
    for kind, count in sorted(counters.failures.items()):
        failures.add_metric([kind], count)
    yield failures
    changes = CounterMetricFamily(
        "peruserd_access_changes", "Databases made and security objects written, by what was done.", labels=["action"]
    )
    for action, count in sorted(counters.access_changes.items()):
        changes.add_metric([action], count)
    yield changes
    bounds = [*(str(bound) for bound in LATENCY_BUCKETS), "+Inf"]
    yield HistogramMetricFamily(
        "peruserd_provisioning_latency_seconds",
        "Time from reading a live change to the user being served.",
        buckets=list(zip(bounds, accumulate(counters.latency.buckets), strict=True)),
        sum_value=counters.latency.sum_seconds,
    )


def _authentication(authenticator: Authenticator) -> Iterator[Metric]:
    let_in = authenticator.tokens.current is not None
    yield GaugeMetricFamily("peruserd_authenticated", "1 while requests carry what lets them in.", value=let_in)
    yield CounterMetricFamily("peruserd_logins", "Logins that succeeded.", value=authenticator.logins)
    yield CounterMetricFamily(
        "peruserd_password_refusals", "Refusals of the password by the server.", value=authenticator.refusals
    )


def _cluster(supervisor: Supervisor, lease_renewer: LeaseRenewer) -> Iterator[Metric]:
    """Return the metrics of the cluster as this instance sees it; a gauge without a value yet is left out."""
    view = supervisor.view
    if view is not None:
        yield GaugeMetricFamily("peruserd_nodes_connected", "CouchDB nodes connected.", value=len(view.nodes))
        yield GaugeMetricFamily("peruserd_instances_alive", "Live instances.", value=len(view.instances))
        yield GaugeMetricFamily("peruserd_standby", "1 for an instance that stands by.", value=view.standby)
    silence = lease_renewer.seconds_since_renewal()
    if silence is not None:
        yield GaugeMetricFamily("peruserd_lease_age_seconds", "Time since the lease was last written.", value=silence)
    yield CounterMetricFamily(
        "peruserd_lease_failures", "Leases that could not be written.", value=lease_renewer.failures
    )
    yield GaugeMetricFamily(
        "peruserd_node_maintenance", "1 while the node is in maintenance mode.", value=lease_renewer.maintenance
    )
    yield CounterMetricFamily("peruserd_plans", "Plans carried out.", value=supervisor.plans)


def _leases(supervisor: Supervisor, database: ClusterDatabase) -> Iterator[Metric]:
    """Return the metrics of the database of the leases; none before it was checked once."""
    state = database.state
    if not state.expected:
        return
    yield GaugeMetricFamily(
        "peruserd_lease_copies_live",
        "Copies of the database of the leases that answer.",
        value=len(state.live),
    )
    yield GaugeMetricFamily(
        "peruserd_lease_copies_expected", "Copies of it that there should be.", value=state.expected
    )
    yield GaugeMetricFamily(
        "peruserd_leases_readable",
        "1 while leases can be read and trusted; otherwise nobody is declared dead.",
        value=supervisor.leases_readable,
    )


def _second_writer(second_writer: SecondWriter) -> Iterator[Metric]:
    if second_writer.is_on is not None:
        yield GaugeMetricFamily(
            "peruserd_couch_peruser_enabled",
            "1 while CouchDB's couch_peruser is on at the node, beside this instance.",
            value=second_writer.is_on,
        )


def _listeners(status: FleetStatus) -> Iterator[Metric]:
    states = GaugeMetricFamily(
        "peruserd_listener_state", "1 for the state a listener is in.", labels=["listener", "state"]
    )
    stages = GaugeMetricFamily("peruserd_listener_caught_up", "1 for a listener with no backlog.", labels=["listener"])
    scans = GaugeMetricFamily(
        "peruserd_listener_scanning",
        "1 while a scan goes on; its last part compares copies, when the listener has caught up.",
        labels=["listener"],
    )
    holds = GaugeMetricFamily(
        "peruserd_listener_on_hold", "1 while the cluster serves nobody, so no user is tried.", labels=["listener"]
    )
    restarts = CounterMetricFamily(
        "peruserd_listener_restarts", "Restarts after an unplanned end.", labels=["listener"]
    )
    ends = CounterMetricFamily("peruserd_listener_ends", "Listener processes that ended, by reason.", labels=["reason"])
    gauges = {
        "waiting": GaugeMetricFamily("peruserd_listener_waiting", "Documents that wait.", labels=["listener"]),
        "in_flight": GaugeMetricFamily("peruserd_listener_in_flight", "Documents worked on.", labels=["listener"]),
        "quarantined": GaugeMetricFamily(
            "peruserd_quarantined_users", "Users kept in quarantine.", labels=["listener"]
        ),
        "permanent": GaugeMetricFamily(
            "peruserd_quarantined_users_permanent",
            "Of these, users for whom somebody has to change something. Many are still tried, at least once an hour.",
            labels=["listener"],
        ),
        "checkpoint": GaugeMetricFamily(
            "peruserd_checkpoint_sequence", "Sequence up to which all is done (integer feeds).", labels=["listener"]
        ),
        "shard_sequence": GaugeMetricFamily(
            "peruserd_shard_sequence", "Last sequence seen of the copy (integer feeds).", labels=["listener"]
        ),
    }
    for each in status.listeners:
        copy = str(each.copy)
        for state in State:
            states.add_metric([copy, state.value], each.state is state)
        restarts.add_metric([copy], each.restarts)
        stages.add_metric([copy], each.caught_up)
        if each.report is not None:
            scans.add_metric([copy], each.report.stage is Stage.SCANNING)
            holds.add_metric([copy], each.report.on_hold is not None)
        for name, family in gauges.items():
            value = getattr(each.report, name, None)
            # The sequences of a clustered feed are opaque texts, so there is no number to show.
            if isinstance(value, int):
                family.add_metric([copy], value)
    for reason, count in status.stops.items():
        ends.add_metric([reason.value], count)
    yield from (states, stages, scans, holds, restarts, ends, *gauges.values())
    yield GaugeMetricFamily(
        "peruserd_unreadable_ranges", "Ranges that no connected node hosts.", value=len(status.unreadable)
    )
