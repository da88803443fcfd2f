"""`peruserd check` on a cluster with nodes away."""

import json
from collections.abc import Iterator

import pytest

from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.cli.running import peruserd

pytestmark = pytest.mark.processes


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """Run a cluster with a few users."""
    with SimClusterThread(ClusterOptions(nodes=3, q=2, n=3)) as running:
        running.seed_users(3, "waiting")
        yield running


@pytest.mark.parametrize("feed", ["auto", "database"])
def test_a_cluster_without_a_majority_is_1_and_says_what_to_do(
    cluster: SimClusterThread, config: str, feed: str
) -> None:
    """One node answers every read, and nobody can be served; with two of them everybody can."""
    environment = {"PERUSERD_COUCHDB_FEED": feed}
    cluster.partition([[1, 2], [3]])
    checked = peruserd("check", "--config", config, environment=environment)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    cluster.partition([[1], [2, 3]])
    checked = peruserd("check", "--config", config, environment=environment)
    assert checked.returncode == 1, checked.stdout + checked.stderr
    (said,) = [line for line in checked.stdout.splitlines() if line.startswith("majority:")]
    assert all(node in said for node in cluster.node_names[1:])
    assert cluster.node_names[0] not in said
    assert "start these nodes" in said
    found = json.loads(peruserd("check", "--json", "--config", config, environment=environment).stdout)
    assert [each["about"] for each in found["lines"] if not each["clear"]] == ["majority"]


def test_a_range_that_has_lost_its_copies_is_named(cluster: SimClusterThread, config: str) -> None:
    """The other range has its majority, and is not named."""
    for node in (2, 3):
        cluster.fail(1, 500, path_regex=f"{cluster.node_names[node - 1].replace('@', '%40')}/shards%2F00000000")
    checked = peruserd("check", "--config", config)
    assert checked.returncode == 1, checked.stdout + checked.stderr
    (said,) = [line for line in checked.stdout.splitlines() if line.startswith("majority:")]
    assert "in the ranges 00000000-7fffffff:" in said


def test_a_node_with_another_password_is_named(cluster: SimClusterThread, config: str) -> None:
    """Each node has its own password of the account. What it has copies of could not be looked at."""
    checked = peruserd("check", "--config", config)
    assert "refuses" not in checked.stdout
    cluster.set_admin_password("another one", node=3)
    checked = peruserd("check", "--config", config)
    assert checked.returncode == 1, checked.stdout + checked.stderr
    (said,) = [line for line in checked.stdout.splitlines() if line.startswith("account:") and "refuse" in line]
    assert said.split() == [
        *f"account: {cluster.node_names[2]} refuses adm; give the account the same password on each node:".split(),
        *["see", '"The', 'account"', "in", "docs/install.md"],
    ]
