"""Restarts of nodes without an instance, on a simulated cluster."""

from collections.abc import Iterator

import pytest

from peruserd.core.cluster.leases import Breaks
from peruserd.core.cluster.views import View
from peruserd.simcluster import ClusterOptions, SimClusterThread
from peruserd.supervisor.start_watch import StartWatch
from tests.couch.connecting import connect

NODES = tuple(f"node{number}@127.0.0.1" for number in (1, 2, 3))
VIEW = View(nodes=NODES, instances=NODES[:1], shard_map=None)


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """Run a cluster of three nodes."""
    with SimClusterThread(ClusterOptions(nodes=3, q=1, n=3)) as running:
        yield running


@pytest.fixture
def watch(cluster: SimClusterThread) -> StartWatch:
    """Return a watch beside the first node."""
    return StartWatch(connect(cluster.urls[0]))


def starts(watch: StartWatch, view: View = VIEW) -> dict[str, int]:
    """Return the result of a round, with one node for each view."""
    for _ in NODES:
        found: tuple[Breaks, ...] = watch.ask_next(view, NODES)
    return {each.node: each.count for each in found}


def test_a_start_between_two_views_is_told(cluster: SimClusterThread, watch: StartWatch) -> None:
    """Each restart of each node is counted, however short it was."""
    assert starts(watch) == {NODES[1]: 0, NODES[2]: 0}
    cluster.stop_node(3)
    cluster.start_node(3)
    assert starts(watch) == {NODES[1]: 0, NODES[2]: 1}
    assert starts(watch) == {NODES[1]: 0, NODES[2]: 1}


def test_one_node_is_asked_with_each_view(cluster: SimClusterThread, watch: StartWatch) -> None:
    """Nodes with an instance are not asked, because that instance reports its node's restarts."""
    cluster.clear_requests()
    starts(watch)
    assert sum(cluster.requests().values()) == len(NODES)
    assert starts(watch, View(nodes=NODES, instances=NODES, shard_map=None)) == {}


def test_a_node_that_does_not_answer_is_passed_over_for_a_while(cluster: SimClusterThread, watch: StartWatch) -> None:
    """Each request may take as long as its limit, and the next view waits meanwhile."""
    cluster.stop_node(2)
    cluster.clear_requests()
    for _ in range(8):
        watch.ask_next(VIEW, NODES[1:2])
    assert sum(cluster.requests().values()) == 1
    cluster.start_node(2)
    for _ in range(8):
        watch.ask_next(VIEW, NODES[1:2])
    assert starts(watch)[NODES[1]] == 0
