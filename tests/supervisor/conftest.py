"""Fixtures that the supervisor's tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.supervisor.fleet_harness import FleetHarness


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """Run a cluster of one node."""
    with SimClusterThread(ClusterOptions(nodes=1, q=2, n=1)) as running:
        yield running


@pytest.fixture
def harness(cluster: SimClusterThread, tmp_path: Path) -> Iterator[FleetHarness]:
    """Make a fleet, and stop it at the end."""
    made = FleetHarness(cluster, tmp_path)
    yield made
    made.stop()
