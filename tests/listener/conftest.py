"""A simulated cluster for each test, and quiet logs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from peruserd.listener import change_tracker as tracker_module
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.listener.clocks import Clock
from tests.listener.stepped_tracker import SteppedTracker


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """Three nodes, the authentication database with two ranges."""
    with SimClusterThread(ClusterOptions()) as running:
        yield running


@pytest.fixture
def stepped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SteppedTracker]:
    """A tracker that has scanned an empty copy, and has nothing to do."""
    clock = Clock()
    monkeypatch.setattr(tracker_module, "time", clock)
    made = SteppedTracker(tmp_path / "copy.sqlite", clock)
    yield made
    made.store.close()


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    """Keep log lines off the terminal: some threads write them after a test's capture has ended."""
    before = structlog.get_config()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory(), processors=[])
    yield
    structlog.configure(**before)
