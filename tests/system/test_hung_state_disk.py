"""A state disk that hangs, as one over a network can: a restart would wait for it as well, so nothing is restarted."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.sabotage import VARIABLE, Saboteur, orders
from tests.system.daemon import Daemon
from tests.waiting import eventually

# Threads that the disk holds up would be taken for hanging after this time. The test stands for an hour.
GRACE_SECONDS = 2.0
HURRIED = (
    ("peruserd.threads", "_GRACE_SECONDS", GRACE_SECONDS),
    ("peruserd.supervisor.state_writes", "_ASK_SECONDS", 0.1),
    ("peruserd.supervisor.state_writes", "_FRESH_SECONDS", 0.5),
    ("peruserd.supervisor.directory_watch", "_SAVE_SECONDS", 0.1),
)

# All that a supervisor asks of the disk while it runs.
OF_THE_DISK = (
    "peruserd.daemon.state_lock:StateLock.remember",
    "peruserd.supervisor.directory_watch:write_whole",
    "peruserd.supervisor.return_watch:write_whole",
    "peruserd.supervisor.state_writes:_room_of",
)


@pytest.fixture
def pair() -> Iterator[SimClusterThread]:
    """Run a cluster of two nodes."""
    with SimClusterThread(ClusterOptions(nodes=2, q=1, n=2)) as running:
        yield running


def test_a_state_disk_that_hangs_restarts_nothing(
    make_daemon: Callable[..., Daemon], pair: SimClusterThread, tmp_path: Path
) -> None:
    """/healthz says ok, each scrape gets an answer, users are served, and a stop keeps its time."""
    path = tmp_path / "sabotage"
    daemon = make_daemon(
        url=pair.urls[0],
        config={"couchdb": {"long_poll_timeout": 1}},
        environment={VARIABLE: orders(path, HURRIED)},
    )
    daemon.start()
    daemon.wait_until_ready()
    eventually(lambda: daemon.gauge("peruserd_state_free_bytes"), "the room is known")
    saboteur = Saboteur(path)
    for each in OF_THE_DISK:
        saboteur.hold(each)
    pair.stop_node(2)
    pair.add_user("ann", "x")
    eventually(lambda: "userdb-616e6e" in pair.creations(), "the user is served")
    eventually(lambda: daemon.gauge("peruserd_state_free_bytes") is None, "the room is not known any more")
    until = time.monotonic() + 2 * GRACE_SECONDS
    while time.monotonic() < until:
        assert daemon.get("/healthz").text == "ok\n"
        daemon.metrics()
        time.sleep(0.1)
    assert daemon.lines("cannot go on") == []
    assert daemon.stop() == 0
    assert re.search("left behind.*state-writer", daemon.log_file.read_text())
