"""What makes /healthz and systemd's watchdog fail, and what makes /readyz fail: only the first asks for a restart."""

import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from peruserd.simcluster import SimClusterThread
from tests.sabotage import VARIABLE, orders
from tests.system.daemon import Daemon
from tests.system.notified import Systemd
from tests.system.server import Server
from tests.waiting import eventually

# All limits after which a thread counts as hanging, or as failing for good, are far below the time of the test. For
# users they are minutes, and the test stands for an hour.
HURRIED = (
    ("peruserd.core.processes.liveness", "_FAILING_SECONDS", 0.2),
    ("peruserd.core.processes.liveness", "_FAILING_TURNS", 2),
    ("peruserd.threads", "_GRACE_SECONDS", 5.0),
)
PROBES = 60
BETWEEN_SECONDS = 0.1


@pytest.fixture
def silent() -> Iterator[str]:
    """Give the address of a server that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def away() -> Iterator[str]:
    """Give the address of a server that is away: nobody listens on a port that is bound only."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture
def refusing(cluster: SimClusterThread) -> str:
    """Give the address of a server with another password."""
    return re.sub("//.*@", "//", cluster.urls[0])


def test_a_server_that_serves_nobody_is_no_reason_for_a_restart(
    away: str,
    silent: str,
    refusing: str,
    make_daemon: Callable[..., Daemon],
    make_systemd: Callable[[], Systemd],
    tmp_path: Path,
) -> None:
    """Under a liveness probe and a watchdog each instance waits, however long. /readyz says for what."""

    def launched(url: str) -> tuple[Daemon, Systemd]:
        systemd = make_systemd()
        daemon = make_daemon(
            url=url,
            username="adm",
            password="wrong",
            config={"couchdb": {"connect_timeout": 0.5, "read_timeout": 0.5, "long_poll_timeout": 1}},
            environment={
                VARIABLE: orders(tmp_path / f"sabotage-{len(waiting)}", HURRIED),
                "NOTIFY_SOCKET": systemd.address,
                "WATCHDOG_USEC": "1500000",
            },
        )
        daemon.launch()
        return daemon, systemd

    waiting: dict[str, tuple[Daemon, Systemd]] = {}
    for url in (away, silent, refusing):
        waiting[url] = launched(url)
    for daemon, _ in waiting.values():
        daemon.wait_until_started()
    begun = time.monotonic()
    for _ in range(PROBES):
        for daemon, systemd in waiting.values():
            assert daemon.get("/healthz").text == "ok\n"
            systemd.listen()
        time.sleep(BETWEEN_SECONDS)
    lasted = time.monotonic() - begun
    for url, (daemon, systemd) in waiting.items():
        wait_until_it_says(daemon, "refuses" if url == refusing else "waiting for CouchDB: ")
        # Systemd ends a daemon that it has not heard of for that time.
        assert systemd.listen().count("WATCHDOG=1") >= lasted / 1.5
        assert daemon.lines("cannot go on") == []
    assert [daemon.stop() for daemon, _ in waiting.values()] == [0, 0, 0]


def wait_until_it_says(daemon: Daemon, why: str) -> None:
    """Wait until /readyz says why the instance is not ready."""
    eventually(lambda: why in daemon.get("/readyz").text, f"/readyz says {why!r}")


def test_a_listener_that_falls_behind_makes_the_instance_unready(
    make_daemon: Callable[..., Daemon], cluster: SimClusterThread, server: Server
) -> None:
    """It stood still for a while, and had caught up long before. Nothing is restarted, and it is ready again.

    The limit is taken over by a reload.
    """
    daemon = make_daemon(url=cluster.urls[0], config={"couchdb": {"long_poll_timeout": 1}})
    daemon.start()
    daemon.wait_until_ready()
    daemon.write_configuration(http={"ready_lag": 0.5})
    daemon.hang_up()
    eventually(lambda: daemon.line("configuration read again"), "the limit is in force")
    listeners = daemon.listeners()
    for pid in listeners:
        daemon.signal_listener(pid, signal.SIGSTOP)
    eventually(lambda: "behind by more than" in daemon.get("/readyz").text, "the instance is not ready")
    assert daemon.get("/healthz").text == "ok\n"
    server.sign_up(["ann"])
    for pid in listeners:
        daemon.signal_listener(pid, signal.SIGCONT)
    eventually(lambda: server.is_served("ann"), "the user is served")
    daemon.wait_until_ready()
    assert daemon.listeners() == listeners
