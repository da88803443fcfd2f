"""A part shared by `owner` and `plan`: watching the leases until each has grown or its time is up."""

import time
from typing import Final

import msgspec

from peruserd.cli.connecting import Connected
from peruserd.cli.output import say
from peruserd.core.cluster.agreement import configuration_digest, differing
from peruserd.core.cluster.leases import Lease, LeaseStatus
from peruserd.core.cluster.views import Feed, View
from peruserd.core.common.escaping import counted
from peruserd.couch.cluster_database import ClusterDatabase
from peruserd.supervisor.attaching import Attachment
from peruserd.supervisor.cluster_reader import ClusterReader
from peruserd.supervisor.membership import LeaseObserver, Peer

_LOOK_SECONDS: Final = 0.5

# A lease may be later than its interval by this much, and its instance still counts as healthy.
_LATE_SECONDS: Final = 1.0

START: Final = (
    "start one beside each node, by `peruserd run --config FILE` or as a service (`systemctl start peruserd`)"
)


class Observed(msgspec.Struct, frozen=True):
    """The observed cluster, and every instance with a lease.

    - `apart` are the leases of live instances with another configuration than this command's.
    - `why_never_started` says that no instance has run here yet; it is empty where one has.
    """

    attachment: Attachment
    view: View
    peers: tuple[Peer, ...]
    apart: tuple[Lease, ...] = ()
    why_never_started: str = ""

    def why_not_alive(self) -> dict[str, str]:
        """Return the reason for every known node without a live instance."""
        reasons: dict[str, str] = {}
        for each in self.peers:
            if each.status is not LeaseStatus.ALIVE:
                reasons[each.lease.node] = f"its instance: {each.status.value}"
        shard_map = self.view.shard_map
        hosts = {node for nodes in shard_map.hosts.values() for node in nodes} if shard_map else set()
        for node in hosts.difference(self.view.nodes):
            reasons[node] = "its CouchDB node is not connected"
        return {node: why for node, why in reasons.items() if node not in self.view.instances}


def observe(connected: Connected, *, wait: bool) -> Observed:
    """Read the cluster; with `wait`, until each lease has grown or its time is up. Raises CouchError.

    Without `wait` every existing lease counts as alive, although its instance may be dead.
    """
    cluster = connected.config.cluster
    observer = LeaseObserver(cluster.lease_ttl)
    database = ClusterDatabase(connected.client, cluster.database, mend=False)
    cluster_reader = ClusterReader(connected.client, connected.config.couchdb, observer, database)
    attachment = cluster_reader.attach()
    if attachment.feed is Feed.DATABASE:
        # Nothing else would ask the server here, so this finds out whether it answers and accepts the account.
        connected.client.database_exists(connected.config.couchdb.auth_db)
    view = cluster_reader.read()
    if wait and observer.unproven(time.monotonic()) and attachment.feed is Feed.SHARD:
        view = _watch(cluster_reader, observer, view, cluster.lease_interval)
    why_never_started = ""
    if database.state.to_be_made:
        why_never_started = f"no instance has run here yet (there is no database {cluster.database})"
    elif not view.leases_readable:
        say(f"leases cannot be read, so no instance but this node's own can be seen: {database.state.why}")
    now = time.monotonic()
    apart = differing(configuration_digest(connected.config, connected.templates), observer.living(now))
    return Observed(attachment, view, tuple(observer.peers(now)), apart, why_never_started)


def _watch(cluster_reader: ClusterReader, observer: LeaseObserver, view: View, interval_seconds: float) -> View:
    silent_after = time.monotonic() + interval_seconds + _LATE_SECONDS
    unproven = counted(len(observer.unproven(time.monotonic())), "lease")
    say(f"watching {unproven} for a sign of life, up to {interval_seconds:g} s")
    is_announced = False
    while silent := observer.unproven(time.monotonic()):
        if time.monotonic() > silent_after and not is_announced:
            names = ", ".join(sorted({lease.node for lease in silent}))
            say(f"no sign of life from {names} yet; waiting until the time to live is over")
            is_announced = True
        time.sleep(_LOOK_SECONDS)
        view = cluster_reader.read()
    return view
