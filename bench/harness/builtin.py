"""CouchDB's own couch_peruser: it is switched on for a while, and measured beside peruserd."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

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
    """Switch it on everywhere, with as many ranges for a database as peruserd makes. Afterwards it is as before.

    A setting that cannot be restored is an error, after all others were restored.
    """
    with ExitStack() as at_end:
        # The last callback is called first.
        at_end.callback(time.sleep, _STOP_SECONDS)
        for number in range(len(cluster.urls)):
            for key in ("q", "enable"):
                at_end.callback(_restore, cluster, number, key, _value(cluster, number, key))
        _set_everywhere(cluster, "q", str(DatabasesConfig().q))
        _set_everywhere(cluster, "enable", "true")
        time.sleep(_START_SECONDS)
        yield


def _value(cluster: Cluster, number: int, key: str) -> Any:
    """Return a setting of a node, None where it has none; raises ClusterError where that is not known."""
    answer = cluster.request("GET", _path(key), node=number)
    if answer.status_code not in (200, 404):
        raise ClusterError(f"GET {_path(key)}: {answer.status_code} {answer.text[:200]}")
    return answer.json() if answer.status_code == 200 else None


def _restore(cluster: Cluster, number: int, key: str, value: Any) -> None:
    if value is None:
        answer = cluster.request("DELETE", _path(key), node=number)
    else:
        answer = cluster.request("PUT", _path(key), node=number, json=value)
    # A setting that was never made cannot be deleted.
    if answer.status_code not in (200, 404):
        raise ClusterError(f"couch_peruser cannot be set back: {answer.status_code} {answer.text[:200]}")


def _set_everywhere(cluster: Cluster, key: str, value: str) -> None:
    for number in range(len(cluster.urls)):
        answer = cluster.request("PUT", _path(key), node=number, json=value)
        if answer.status_code != 200:
            raise ClusterError(f"couch_peruser cannot be switched on: {answer.status_code} {answer.text[:200]}")


def _path(key: str) -> str:
    return f"/_node/_local/_config/{_SECTION}/{key}"
