"""All metrics of an instance, put together from its parts."""

import time

from peruserd.couch.cluster_database import ClusterDatabase
from peruserd.daemon.audit_metrics import AuditMetrics
from peruserd.daemon.cluster_metrics import ClusterMetrics
from peruserd.daemon.deletion_metrics import DeletionMetrics
from peruserd.daemon.metrics import InstanceMetrics, ListenerMetrics
from peruserd.daemon.reload import Reloader
from peruserd.daemon.samples import Part
from peruserd.daemon.taking_over import Parts
from peruserd.supervisor.fleet import Fleet
from peruserd.supervisor.peruser_watch import PeruserWatch
from peruserd.supervisor.state_writes import StateWrites


def metrics_of(
    parts: Parts,
    fleet: Fleet,
    database: ClusterDatabase,
    peruser_watch: PeruserWatch,
    reloader: Reloader,
    writes: StateWrites,
) -> dict[str, Part]:
    """Return the parts of the metrics by name. The instance counts as started now."""
    cluster = ClusterMetrics(
        fleet,
        parts.supervisor,
        parts.cluster_watch,
        parts.member,
        parts.lease_renewer,
        database,
        peruser_watch,
        parts.authenticator,
    )
    instance = InstanceMetrics(
        parts.health,
        lambda: reloader.in_force.config,
        lambda: writes.room,
        started_at=time.time(),
        reloaded=lambda: reloader.record,
    )
    return {
        **instance.parts(),
        **ListenerMetrics(fleet).parts(),
        **cluster.parts(),
        "deletions": DeletionMetrics(fleet, parts.deletions.pause).put,
        "audit": AuditMetrics(fleet).put,
    }
