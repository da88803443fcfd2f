"""The requests of instances while nothing happens: reckoned from the intervals, and counted.

Counted are the requests that a simulated cluster gets from real instances (`peruserd run`), all users served. The cost
of a request for a real node is in `docs/scale.md`.
"""

import time
from collections import Counter
from typing import Final

import msgspec

from bench.results import Table
from bench.rig.cluster import ClusterError, open_cluster
from bench.rig.daemons import SETTLING_SECONDS, daemons
from bench.scale.layouts import Layout
from peruserd.core.cluster.cluster_database import copies_wanted
from peruserd.core.configuration.config import ClusterConfig
from peruserd.couch.cluster_database import MAX_SECONDS
from peruserd.couch.sources import LONG_POLL_SECONDS
from peruserd.simcluster import ClusterOptions

# Few enough processes for two cores: a supervisor for each node and a process for each copy.
_COUNTED: Final = (Layout(1, 2), Layout(3, 2), Layout(3, 8), Layout(6, 2), Layout(6, 8))
_RECKONED: Final = (Layout(3, 2), Layout(10, 64), Layout(50, 2), Layout(50, 256), Layout(100, 1024))

# Four long polls: the count of a listener's requests is then the same whenever the counting begins.
_COUNTING_SECONDS: Final = 4 * LONG_POLL_SECONDS
_USERS: Final = 20

# The names of requests in the tables, by the method and the kind of path that the simulated cluster counts.
_NAMES: Final = {
    ("GET", "membership"): "membership",
    ("GET", "dbs"): "shard map",
    ("GET", "dbs_changes"): "map watch",
    ("GET", "local_docs"): "leases read",
    ("PUT", "local"): "lease written",
    ("GET", "up"): "maintenance",
    ("GET", "shard_changes"): "long poll",
    ("GET", "shard"): "which copy",
    ("POST", "shard_changes"): "which history",
    ("GET", "shard_security"): "lease copies",
}
_OTHER: Final = "other"
_COLUMNS: Final = (*dict.fromkeys(_NAMES.values()), _OTHER)

PerMinute = dict[str, float]
"""Requests a minute of one instance, by what they ask."""


class Count(msgspec.Struct, frozen=True):
    """The requests of all instances in so many seconds, by node, method and kind of path."""

    layout: Layout
    seconds: float
    requests: list[tuple[str, str, str, int]]

    @property
    def per_minute(self) -> PerMinute:
        """Return the mean over the instances; what nobody expects is `other`."""
        counted: Counter[str] = Counter()
        for _, method, kind, number in self.requests:
            counted[_NAMES.get((method, kind), _OTHER)] += number
        scale = 60 / self.seconds / self.layout.nodes
        return {name: counted[name] * scale for name in _COLUMNS}


def reckon(layout: Layout, cluster: ClusterConfig) -> PerMinute:
    """Return what the intervals say of an instance of a cluster that has one beside each node.

    A look asks for membership, shard map and all leases; the map watch is a long poll. A beat reads the leases, asks
    whether the own node is in maintenance, and writes. A listener's long poll that ends with nothing is followed by two
    questions: which copy it was of, and whether that has the last row still. And now and then each copy of the database
    of the leases is looked at, with its node's shard map, its marker and its security object.
    """
    looks, beats = 60 / cluster.poll_interval, 60 / cluster.lease_interval
    polls = 60 / LONG_POLL_SECONDS * _listeners(layout)
    copies = 60 / MAX_SECONDS * copies_wanted(layout.nodes)
    return {
        "membership": looks,
        "shard map": looks + copies,
        "map watch": 60 / LONG_POLL_SECONDS,
        "leases read": looks + beats,
        "lease written": beats,
        "maintenance": beats,
        "long poll": polls,
        "which copy": polls + copies,
        "which history": polls,
        "lease copies": copies,
        _OTHER: 0.0,
    }


def count(layout: Layout, seconds: float) -> Count:
    """Run a simulated cluster with an instance beside each node, and count while nothing happens."""
    options = ClusterOptions(nodes=layout.nodes, q=layout.ranges, n=layout.copies_made)
    with open_cluster((), options) as cluster, daemons(cluster) as instances:
        if cluster.sim is None:
            raise ClusterError("only a simulated cluster counts requests")
        cluster.sim.seed_users(_USERS)
        with instances.running():
            time.sleep(SETTLING_SECONDS)
            cluster.sim.clear_requests()
            begin = time.monotonic()
            time.sleep(seconds)
            requests = cluster.sim.requests()
            return Count(layout, time.monotonic() - begin, [(*key, number) for key, number in requests.items()])


def measure(*, quick: bool) -> list[Count]:
    """Return the counts of some clusters."""
    return [count(each, 10.0 if quick else _COUNTING_SECONDS) for each in (_COUNTED[:1] if quick else _COUNTED)]


def counted_table(counts: list[Count]) -> Table:
    """Return the counts beside what was reckoned."""
    rows = []
    for each in counts:
        counted, reckoned = each.per_minute, reckon(each.layout, ClusterConfig())
        cells = [f"{counted[name]:.1f} / {reckoned[name]:.1f}" for name in counted]
        total = f"{sum(counted.values()):.1f} / {sum(reckoned.values()):.1f}"
        rows.append((*_shape(each.layout), *cells, total))
    return Table(
        "Requests a minute of one idle instance: counted / reckoned",
        ("instances", "ranges", "listeners of each", *_COLUMNS, "all"),
        tuple(rows),
    )


def reckoned_table() -> Table:
    """Return what the intervals say of clusters too large to run here."""
    rows = []
    for layout in _RECKONED:
        requests = sum(reckon(layout, ClusterConfig()).values())
        rows.append((*_shape(layout), f"{requests:.0f}", f"{requests * layout.nodes:,.0f}"))
    return Table(
        "Reckoned, a minute, an instance beside each node",
        ("instances", "ranges", "listeners of each", "requests of each", "requests of all"),
        tuple(rows),
    )


def _listeners(layout: Layout) -> float:
    return layout.ranges * layout.copies_made / layout.nodes


def _shape(layout: Layout) -> tuple[str, str, str]:
    return str(layout.nodes), f"{layout.ranges:,}", f"{_listeners(layout):.1f}"
