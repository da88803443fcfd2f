"""A disk that takes no writes for a while: no process is restarted, and no database is left without its user."""

import resource
from collections.abc import Callable

import psutil

from peruserd.core.common.names import database_name
from peruserd.simcluster import SimClusterThread
from tests.system.daemon import Daemon
from tests.system.server import Server
from tests.waiting import eventually

USERS = [f"user{number}" for number in range(20)]


def _limit_files(daemon: Daemon, size: int) -> None:
    """Let no process of the daemon write beyond this size of a file; the kernel answers as a full disk does."""
    for process in daemon.processes():
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_a_full_disk_is_waited_for(
    make_daemon: Callable[..., Daemon], cluster: SimClusterThread, server: Server
) -> None:
    """/readyz says why nobody is served, /healthz asks for no restart, and everybody is served once there is room."""
    daemon = make_daemon(url=cluster.urls[0])
    daemon.start()
    daemon.wait_until_ready()
    listeners = daemon.listeners()
    _limit_files(daemon, 1)
    for user in USERS:
        cluster.add_user(user, "x")
    eventually(lambda: "state cannot be written" in daemon.get("/readyz").text, "all listeners are on hold")
    assert daemon.get("/healthz").text == "ok\n"
    assert server.databases() == set()
    assert daemon.metrics().total("peruserd_listeners_on_hold", reason="state") >= 1
    _limit_files(daemon, resource.RLIM_INFINITY)
    eventually(lambda: all(server.is_served(user) for user in USERS), "everybody is served")
    daemon.wait_until_ready()
    assert daemon.listeners() == listeners
    assert {process.pid for process in daemon.processes()} >= set(listeners)
    assert daemon.metrics().total("peruserd_listener_restarts_total") == 0
    assert set(cluster.creations()) >= {database_name("userdb-", user) for user in USERS}
    assert set(cluster.creations().values()) == {1}
    assert daemon.stop() == 0
    assert not psutil.pid_exists(daemon.pid)
