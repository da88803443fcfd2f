"""A simulated cluster for each test, and quiet logs."""

from collections.abc import Iterator

import pytest
import structlog

from peruserd.simcluster import ClusterOptions, SimClusterThread


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """Three nodes, the authentication database with two ranges."""
    with SimClusterThread(ClusterOptions()) as running:
        yield running


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    """Keep the log lines of threads that outlive a test's capturing off the terminal."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory(), processors=[])
    yield
    structlog.reset_defaults()
