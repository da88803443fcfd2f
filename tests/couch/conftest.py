"""A simulated cluster for each test, and a client of its first node."""

from collections.abc import Iterator

import pytest

from peruserd.couch.client import Client
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.couch.connecting import connect


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """Run three nodes with two ranges of the authentication database."""
    with SimClusterThread(ClusterOptions()) as running:
        yield running


@pytest.fixture
def client(cluster: SimClusterThread) -> Client:
    """Make a client of node 1."""
    return connect(cluster.urls[0])
