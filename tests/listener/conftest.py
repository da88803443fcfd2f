"""A simulated cluster for each test, and quiet logs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from peruserd.listener import change_tracker as tracker_module
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.listener.clocks import Clock
from tests.listener.set_books import Books


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """Three nodes, the authentication database with two ranges."""
    with SimClusterThread(ClusterOptions()) as running:
        yield running


@pytest.fixture
def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Books]:
    """Books of a copy that is followed, with nothing to do."""
    clock = Clock()
    monkeypatch.setattr(tracker_module, "time", clock)
    made = Books(tmp_path / "copy.sqlite", clock)
    yield made
    made.store.close()


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    """Keep the log lines of threads that outlive a test's capturing off the terminal."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory(), processors=[])
    yield
    structlog.reset_defaults()
