"""The processes of an instance, and which of them are listeners."""

import os
import signal
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil
import pytest

from peruserd.demo.instances import Instance
from peruserd.simcluster import ClusterOptions, SimClusterProcess
from tests.system.daemon import Daemon
from tests.system.target import open_simulated
from tests.waiting import eventually

pytestmark = pytest.mark.anew


def fork_servers(daemon: Daemon) -> list[psutil.Process]:
    """Return the instance's fork servers; there should be one."""
    children = [each for each in daemon.processes() if each.ppid() == daemon.pid]
    return [each for each in children if "multiprocess.forkserver" in " ".join(each.cmdline())]


def test_the_fork_server_is_there_before_there_is_anything_to_listen_to(make_daemon: Callable[..., Daemon]) -> None:
    """The fork server has imported everything when the first listener starts; it ends with the instance."""
    # Nobody listens on a port that is bound only, so CouchDB is away.
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        daemon = make_daemon(url=f"http://127.0.0.1:{nobody.getsockname()[1]}").start()
        assert len(fork_servers(daemon)) == 1
        assert daemon.listeners() == {}
        daemon.kill()
        eventually(lambda: not daemon.processes(), "no process is left")


def test_an_instance_gets_over_the_loss_of_its_fork_server(make_daemon: Callable[..., Daemon]) -> None:
    """The listeners go on; a listener that ends is replaced from another fork server, and a stop is clean."""
    with open_simulated(ClusterOptions(nodes=1, q=2, n=1)) as target:
        daemon = make_daemon(url=target.urls[0], username=target.username, password=target.password).start()
        daemon.wait_until_ready()
        before = daemon.listeners()
        assert len(before) == 2
        (lost,) = fork_servers(daemon)
        lost.kill()
        eventually(lambda: lost not in daemon.processes(), "the fork server is gone")
        names = target.new_names(10)
        target.sign_up(names)
        eventually(lambda: not target.unserved(names), "all are served")
        assert daemon.listeners() == before
        victim = min(before)
        daemon.signal_listener(victim, signal.SIGKILL)
        daemon.wait_for_total("peruserd_listener_restarts_total", 1)
        daemon.wait_until_ready()
        assert len(daemon.listeners()) == 2
        assert daemon.metrics().total("peruserd_listener_ends_total", reason="crashed") == 1
        assert len(fork_servers(daemon)) == 1
        assert daemon.stop() == 0
        eventually(lambda: not daemon.processes(), "no process is left")


def test_an_instance_that_is_killed_leaves_nothing_outside_of_its_state_directory(
    make_daemon: Callable[..., Daemon],
) -> None:
    """The next start removes such leftovers each time, and a clean end leaves none."""
    with socket.socket() as nobody, tempfile.TemporaryDirectory() as directory:
        nobody.bind(("127.0.0.1", 0))
        state, temporary = Path(directory, "state"), Path(directory, "tmp")
        temporary.mkdir()
        daemon = make_daemon(
            url=f"http://127.0.0.1:{nobody.getsockname()[1]}",
            config={"state": {"directory": str(state)}},
            environment={"TMPDIR": str(temporary)},
        )
        for _ in range(3):
            daemon.start()
            assert len(list((state / "forkserver").iterdir())) == 1
            daemon.kill()
            eventually(lambda: not daemon.processes(), "no process is left")
            assert list(temporary.iterdir()) == []
        daemon.start()
        assert daemon.stop() == 0
        assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("name", ["instance.json", "control.sock"])
def test_a_state_directory_that_cannot_be_used_now_is_tried_again(
    make_daemon: Callable[..., Daemon], name: str
) -> None:
    """One line gives the reason. A disk can be full for a while, so the exit code lets systemd try again."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        daemon = make_daemon(url=f"http://127.0.0.1:{nobody.getsockname()[1]}")
        # In the place of a file that it needs.
        (daemon.state / name).mkdir(parents=True)
        daemon.launch()
        assert daemon.wait() == os.EX_TEMPFAIL
        line = daemon.line("cannot start")
        assert line is not None
        assert str(daemon.state) in line["error"]
        assert not any("text" in each for each in daemon.lines()), "a traceback"


class StartedLine(msgspec.Struct):
    """The fields that a log line can have."""

    event: str = ""
    pid: int = 0


def test_the_demo_knows_listeners_from_helpers(tmp_path: Path) -> None:
    """The demo kills a listener, and must not kill the fork server instead."""
    with SimClusterProcess(ClusterOptions(nodes=1, q=2, n=1)) as cluster:
        instance = Instance(cluster.urls[0], "node1", tmp_path)
        try:
            instance.wait_until_up()
            eventually(instance.is_ready, "the instance is ready")
            lines = [msgspec.json.decode(each, type=StartedLine) for each in (tmp_path / "node1.log").open("rb")]
            started = sorted(each.pid for each in lines if each.event == "listener started")
            assert len(started) == 2
            assert instance.listener_pids() == started
        finally:
            instance.terminate()
            assert instance.wait() == os.EX_OK
