"""The requests of instances while nothing happens: computed from the intervals, and counted.

A simulated cluster counts the requests of real instances (`peruserd run`) when all users are served. The cost of a
request for a real node is in `docs/scale.md`.
"""

import time
from collections import Counter
from typing import Final

import msgspec

from bench.harness.cluster import ClusterError, open_cluster
from bench.harness.daemons import daemons
from bench.results import Table
from bench.scale.layouts import Layout
from peruserd.core.cluster.cluster_database import copies_wanted
from peruserd.core.configuration.config import ClusterConfig
from peruserd.couch.cluster_database import MAX_SECONDS
from peruserd.couch.sources import LONG_POLL_SECONDS
from peruserd.simcluster import ClusterOptions

_COMPUTED: Final = (Layout(3, 2), Layout(10, 64), Layout(50, 2), Layout(50, 256), Layout(100, 1024))

_USERS: Final = 20

# The names of requests in the tables, by the method and the kind of path that the simulated cluster counts.
_NAMES: Final = {
    ("GET", "database"): "encoded slashes",
    ("GET", "membership"): "membership",
    ("GET", "dbs"): "shard map",
    ("GET", "dbs_changes"): "directory watch",
    ("GET", "local_docs"): "leases read",
    ("PUT", "local"): "lease written",
    ("GET", "up"): "maintenance",
    ("GET", "shard_changes"): "long poll",
    ("GET", "shard"): "which copy",
    ("POST", "shard_changes"): "which history",
    ("GET", "shard_security"): "lease copies",
}
_OTHER: Final = "other"
_KINDS: Final = (*dict.fromkeys(_NAMES.values()), _OTHER)

PerMinute = dict[str, float]
"""Requests a minute of one instance, by what they ask."""


class Count(msgspec.Struct, frozen=True):
    """The requests of all instances in so many seconds, by node, method and kind of path."""

    layout: Layout
    seconds: float
    requests: list[tuple[str, str, str, int]]

    @property
    def per_minute(self) -> PerMinute:
        """Return the mean over the instances; requests that are not expected are `other`."""
        counted: Counter[str] = Counter()
        for _, method, kind, number in self.requests:
            counted[_NAMES.get((method, kind), _OTHER)] += number
        scale = 60 / self.seconds / self.layout.nodes
        return {name: counted[name] * scale for name in _KINDS}


def computed(layout: Layout, cluster: ClusterConfig) -> PerMinute:
    """Return the requests of one instance, by the intervals. The cluster has an instance beside each node.

    - A reading of the cluster asks whether encoded slashes reach the server, and for membership, shard map and leases.
    - The directory watch is a long poll.
    - A renewal of the lease reads the leases, asks whether the own node is in maintenance, and writes.
    - After a long poll that brought nothing, a listener asks two things: is the copy still the same, and does it still
      have the last row?
    - Now and then each copy of the database of the leases is checked: the shard map of its node, its marker and its
      security object.
    """
    readings, renewals = 60 / cluster.poll_interval, 60 / cluster.lease_interval
    polls = 60 / LONG_POLL_SECONDS * _listeners(layout)
    copies = 60 / MAX_SECONDS * copies_wanted(layout.nodes)
    return {
        "encoded slashes": readings,
        "membership": readings,
        "shard map": readings + copies,
        "directory watch": 60 / LONG_POLL_SECONDS,
        "leases read": readings + renewals,
        "lease written": renewals,
        "maintenance": renewals,
        "long poll": polls,
        "which copy": polls + copies,
        "which history": polls,
        "lease copies": copies,
        _OTHER: 0.0,
    }


def count(layout: Layout, seconds: float, start_work_seconds: float) -> Count:
    """Run a simulated cluster with an instance beside each node, and count while nothing happens.

    The counting begins when the instances have had some seconds for the work of their start.
    """
    options = ClusterOptions(nodes=layout.nodes, q=layout.ranges, n=layout.copies_made)
    with open_cluster((), options) as cluster, daemons(cluster) as instances:
        if cluster.sim is None:
            raise ClusterError("only a simulated cluster counts requests")
        cluster.sim.seed_users(_USERS)
        with instances.running():
            time.sleep(start_work_seconds)
            cluster.sim.clear_requests()
            begin = time.monotonic()
            time.sleep(seconds)
            requests = cluster.sim.requests()
            return Count(layout, time.monotonic() - begin, [(*key, number) for key, number in requests.items()])


def counted_table(counts: list[Count]) -> Table:
    """Return the counted requests beside the computed ones."""
    rows = []
    for each in counts:
        counted, expected = each.per_minute, computed(each.layout, ClusterConfig())
        pairs = {name: (counted[name], expected[name]) for name in _KINDS}
        pairs["all"] = (sum(counted.values()), sum(expected.values()))
        rows += [(*_shape(each.layout), name, f"{a:.1f}", f"{b:.1f}") for name, (a, b) in pairs.items()]
    return Table(
        "Requests a minute of one idle instance",
        ("instances", "ranges", "listeners of each", "requests", "counted", "computed"),
        tuple(rows),
    )


def computed_table() -> Table:
    """Return the computed requests of clusters that are too large to run here."""
    rows = []
    for layout in _COMPUTED:
        requests = sum(computed(layout, ClusterConfig()).values())
        rows.append((*_shape(layout), f"{requests:.0f}", f"{requests * layout.nodes:,.0f}"))
    return Table(
        "Computed requests a minute, with an instance beside each node",
        ("instances", "ranges", "listeners of each", "requests of each", "requests of all"),
        tuple(rows),
    )


def _listeners(layout: Layout) -> float:
    return layout.ranges * layout.copies_made / layout.nodes


def _shape(layout: Layout) -> tuple[str, str, str]:
    return str(layout.nodes), f"{layout.ranges:,}", f"{_listeners(layout):.1f}"
