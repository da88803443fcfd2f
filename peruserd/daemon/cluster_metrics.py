"""The metrics of the cluster as this instance sees it: nodes, instances, leases, owners, and whether it is let in."""

import time
from collections.abc import Callable

from peruserd.core.processes.lifecycle import State
from peruserd.couch.authenticator import Authenticator
from peruserd.couch.cluster_database import ClusterDatabase
from peruserd.daemon.samples import Part, Samples
from peruserd.supervisor.cluster_watch import ClusterWatch
from peruserd.supervisor.fleet_status import StatusSource
from peruserd.supervisor.lease_renewer import LeaseRenewer
from peruserd.supervisor.loop import Supervisor
from peruserd.supervisor.membership import Member
from peruserd.supervisor.peruser_watch import PeruserWatch


class ClusterMetrics:
    """These metrics, from the parts of an instance that know them. `clock` is monotonic."""

    def __init__(
        self,
        fleet: StatusSource,
        supervisor: Supervisor,
        cluster_watch: ClusterWatch,
        member: Member,
        lease_renewer: LeaseRenewer,
        database: ClusterDatabase,
        peruser_watch: PeruserWatch,
        authenticator: Authenticator,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fleet = fleet
        self._supervisor = supervisor
        self._cluster_watch = cluster_watch
        self._member = member
        self._lease_renewer = lease_renewer
        self._database = database
        self._peruser_watch = peruser_watch
        self._authenticator = authenticator
        self._clock = clock

    def parts(self) -> dict[str, Part]:
        """Return the parts of these metrics by name. Each may fail without the others."""
        return {
            "cluster": self._put_cluster,
            "owners": self._put_owners,
            "leases": self._put_leases,
            "peruser_watch": lambda out: out.put("peruserd_couch_peruser_enabled", self._peruser_watch.is_on),
            "authentication": self._put_authentication,
        }

    def _put_cluster(self, out: Samples) -> None:
        view = self._supervisor.view
        if view is not None:
            out.put("peruserd_nodes_connected", len(view.nodes))
            out.put("peruserd_nodes_away", len(view.away))
            out.put("peruserd_instances_alive", len({*view.instances, *view.drained}))
            out.put("peruserd_standby", view.standby)
            out.put("peruserd_drained", view.gives_up)
        read_at = self._cluster_watch.succeeded_at
        out.put("peruserd_reading_age_seconds", None if read_at is None else max(0.0, self._clock() - read_at))
        out.put("peruserd_reading_failures", self._cluster_watch.failures_in_all)
        out.put("peruserd_plans", self._supervisor.plans)

    def _put_owners(self, out: Samples) -> None:
        """Add who owns the documents of each range that this instance follows."""
        me = self._member.lease.node
        for each in self._fleet.status().listeners:
            if each.ownership is None or each.state is State.STOPPING:
                continue
            covered = str(each.copy.range)
            shares = each.ownership.shares
            # Without a lease no node has a name here, and no instance beside it is known to others.
            out.put("peruserd_range_owned_ratio", shares.get(me, 0.0) if me else sum(shares.values()), covered)
            for owner, share in shares.items():
                out.put("peruserd_range_owner_ratio", share, covered, owner)

    def _put_leases(self, out: Samples) -> None:
        """Add the metrics of the leases; none of their database before it was checked once."""
        out.put("peruserd_lease_age_seconds", self._lease_renewer.seconds_since_renewal())
        out.put("peruserd_lease_failures", self._lease_renewer.failures)
        out.put("peruserd_node_maintenance", self._lease_renewer.maintenance)
        out.put("peruserd_instances_differing", self._member.differing)
        state = self._database.state
        if state.expected:
            out.put("peruserd_lease_copies_live", len(state.live))
            out.put("peruserd_lease_copies_expected", state.expected)
            out.put("peruserd_leases_readable", self._supervisor.leases_readable)

    def _put_authentication(self, out: Samples) -> None:
        out.put("peruserd_authenticated", self._authenticator.tokens.current is not None)
        out.put("peruserd_logins", self._authenticator.logins)
        out.put("peruserd_password_refusals", self._authenticator.refusals)
