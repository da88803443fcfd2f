"""CouchDB's own couch_peruser: it is switched on for a while, and measured beside peruserd."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bench.harness.cluster import Cluster, ClusterError
from peruserd.core.configuration.config import DatabasesConfig

# couch_peruser reads its configuration anew, starts its watchers and waits until the cluster is quiet. By default this
# takes some seconds.
_START_SECONDS: Final = 8.0
_STOP_SECONDS: Final = 2.0

_SECTION: Final = "couch_peruser"


def is_available(cluster: Cluster) -> bool:
    """Say whether the nodes have it. A simulated one does not count, because its speed says nothing."""
    return cluster.sim is None and all(
        cluster.request("GET", f"/_node/_local/_config/{_SECTION}", node=number).status_code == 200
        for number in range(len(cluster.urls))
    )


@contextmanager
def switched_on(cluster: Cluster) -> Iterator[None]:
    """Switch it on everywhere, with as many ranges for a database as peruserd makes. Afterwards it is as before."""
    before = {
        (number, key): cluster.request("GET", _path(key), node=number)
        for number in range(len(cluster.urls))
        for key in ("enable", "q")
    }
    try:
        _set_everywhere(cluster, "q", str(DatabasesConfig().q))
        _set_everywhere(cluster, "enable", "true")
        time.sleep(_START_SECONDS)
        yield
    finally:
        for (number, key), answer in before.items():
            if answer.status_code == 200:
                cluster.request("PUT", _path(key), node=number, json=answer.json())
            else:
                cluster.request("DELETE", _path(key), node=number)
        time.sleep(_STOP_SECONDS)


def _set_everywhere(cluster: Cluster, key: str, value: str) -> None:
    for number in range(len(cluster.urls)):
        answer = cluster.request("PUT", _path(key), node=number, json=value)
        if answer.status_code != 200:
            raise ClusterError(f"couch_peruser cannot be switched on: {answer.status_code} {answer.text[:200]}")


def _path(key: str) -> str:
    return f"/_node/_local/_config/{_SECTION}/{key}"
