"""A cluster whose users are served already, with instances that are stopped and started."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from bench.harness.bare import Bare
from bench.harness.cluster import PREFIX, Cluster, ClusterError
from bench.harness.daemons import Daemons
from bench.harness.watch import Watch
from bench.restart.samples import CREATED, LIVE, LOOKED_UP, LOST, READ, SCANNED, WRITTEN, Reading, Restart
from peruserd.core.common.names import database_name

# On a real cluster, so many users are made at once.
_AT_ONCE: Final = 32

# A new user who is not served by then is not served any more.
_STUCK_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.1


class ServedCluster:
    """A cluster with users who are served, and the instances that serve it. Between two calls they are stopped."""

    def __init__(self, cluster: Cluster, instances: Daemons, users: int) -> None:
        self._cluster = cluster
        self._instances = instances
        self._users = users
        self._names: list[str] = []

    def prepare(self) -> None:
        """Make the users, and let instances find that they are served."""
        if self._cluster.sim is not None:
            self._names = self._cluster.sim.seed_users(self._users, "bench-seeded-", provisioned_prefix=PREFIX)
        else:
            self._names = self._cluster.new_names(self._users)
            self._cluster.sign_up(self._names)
            Bare(self._cluster).serve_all([self._names], _AT_ONCE)
        with self._instances.running():
            pass

    def read(self, in_flight: int, number: int) -> Reading:
        """Read every user's security object."""
        return Reading(in_flight, self._users, number, Bare(self._cluster).read_all(self._names, in_flight))

    def restart(self, contender: str, number: int) -> Restart:
        """Start the instances, with or without their state, while a user signs up; stop them once they are settled."""
        cluster, instances = self._cluster, self._instances
        if contender == LOST:
            instances.forget()
        (name,) = cluster.new_names(1)
        with _watch(cluster) as watch, ThreadPoolExecutor(1) as pool:
            if cluster.sim is not None:
                cluster.sim.clear_requests()
            begin = time.monotonic()
            signed_up = pool.submit(cluster.sign_up, [name])
            try:
                instances.start()
                instances.wait_until_ready()
                ready = time.monotonic() - begin
                signed_up.result()
                served = _served_at(cluster, watch, name)
                instances.wait_until_settled()
                settled = time.monotonic() - begin
                requests = _requests(cluster, instances)
            finally:
                instances.stop()
        return Restart(contender, self._users, number, ready, served - begin, settled, requests)


def _watch(cluster: Cluster) -> AbstractContextManager[Watch | None]:
    # A simulated cluster counts every read, those of a watch too, and knows by itself when a user was served.
    return nullcontext() if cluster.sim is not None else Watch(cluster)


def _served_at(cluster: Cluster, watch: Watch | None, name: str) -> float:
    """Return when a user was served, by `time.monotonic`; on a simulated cluster, when the last request for it came."""
    deadline = time.monotonic() + _STUCK_SECONDS
    while time.monotonic() < deadline:
        if watch is not None:
            if not watch.wait_for({name}, _STUCK_SECONDS):
                return watch.served[name]
        elif cluster.sim is not None:
            database = database_name(PREFIX, name)
            for write in cluster.sim.writes():
                if write.database == database and write.kind == "security":
                    return write.seconds
            time.sleep(_LOOK_SECONDS)
    raise ClusterError(f"{name} was not served within {_STUCK_SECONDS:.0f} s after all instances were ready")


def _requests(cluster: Cluster, instances: Daemons) -> dict[str, int]:
    if cluster.sim is None:
        live = int(instances.total("peruserd_provisioning_latency_seconds_count"))
        return {LIVE: live, SCANNED: int(instances.total("peruserd_changes_owned_total")) - live}
    counted: Counter[str] = Counter()
    for (_, method, kind), number in cluster.sim.requests().items():
        counted[f"{method} {kind}"] += number
    return {kind: counted[kind] for kind in (CREATED, READ, WRITTEN, LOOKED_UP)}
