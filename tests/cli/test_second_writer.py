"""The words of `peruserd check` about couch_peruser, on clusters whose nodes are configured one by one."""

import subprocess
from collections.abc import Iterator

import pytest
import requests

from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.cli.running import peruserd

pytestmark = pytest.mark.processes


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """Run a cluster without users."""
    with SimClusterThread(ClusterOptions(nodes=3, q=2, n=2)) as running:
        yield running


def _switch_peruser(cluster: SimClusterThread, node: int, value: str) -> None:
    url = f"{cluster.urls[0]}/_node/{cluster.node_names[node - 1]}/_config/couch_peruser/enable"
    requests.put(url, json=value, timeout=10).raise_for_status()


def _about_second_writer(checked: subprocess.CompletedProcess[str]) -> str:
    (words,) = (
        line.removeprefix("second writer:").strip()
        for line in checked.stdout.splitlines()
        if line.startswith("second writer:")
    )
    return words


def test_check_says_at_which_nodes_couch_peruser_is_on_and_is_1_then(config: str, cluster: SimClusterThread) -> None:
    """Every connected node is asked, because each has its own configuration; the line also gives the remedy."""
    off = peruserd("check", "--config", config)
    assert (off.returncode, _about_second_writer(off)) == (0, "couch_peruser is off")
    for node in (2, 3):
        _switch_peruser(cluster, node, "true")
    on = peruserd("check", "--config", config)
    assert on.returncode == 1
    words = _about_second_writer(on)
    assert "couch_peruser is on at node2@127.0.0.1, node3@127.0.0.1;" in words
    assert "[couch_peruser] enable = false on every node" in words
    for node in (2, 3):
        _switch_peruser(cluster, node, "false")
    assert peruserd("check", "--config", config).returncode == 0


def test_check_does_not_take_a_node_that_does_not_say_for_one_without_couch_peruser(
    config: str, cluster: SimClusterThread
) -> None:
    """A proxy that blocks the configuration is no obstacle; the line says that nothing is known."""
    cluster.fail(1, 403, path_regex="node2.*_config")
    some = peruserd("check", "--config", config)
    cluster.clear_faults()
    words = "couch_peruser is off; whether couch_peruser is on at node2@127.0.0.1 cannot be read"
    assert (some.returncode, _about_second_writer(some)) == (0, words)
    cluster.fail(1, 403, path_regex="_config")
    none = peruserd("check", "--config", config)
    cluster.clear_faults()
    assert none.returncode == 0
    assert _about_second_writer(none).startswith("whether couch_peruser is on at node1@127.0.0.1, node2")
