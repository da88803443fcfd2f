"""The cluster as a process of its own: its output, its controls, its end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import requests

from peruserd.cli.parser import build_parser
from peruserd.cli.simcluster import cluster_options
from peruserd.simcluster import ClusterOptions, SimClusterProcess, SimClusterThread
from peruserd.simcluster.process import command_line

pytestmark = pytest.mark.processes

COMMAND = [sys.executable, "-m", "peruserd.simcluster"]


def _environment() -> dict[str, str]:
    """The process must find the package where these tests found it."""
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": root}


def test_a_process_is_controlled_over_its_port() -> None:
    """The same calls as in a thread, with the same errors."""
    with SimClusterProcess(ClusterOptions(nodes=2, q=1, n=2)) as cluster:
        assert cluster.node_names == ["node1@127.0.0.1", "node2@127.0.0.1"]
        assert requests.put(cluster.urls[0] + "/db", timeout=60).status_code == 201
        cluster.stop_node(2)
        with pytest.raises(requests.ConnectionError):
            requests.get(cluster.urls[1], timeout=60)
        cluster.start_node(2)
        assert requests.get(cluster.urls[1] + "/db", timeout=60).status_code == 200
        assert cluster.requests()["node1@127.0.0.1", "PUT", "database"] == 1
        assert cluster.creations() == {"db": 1}
        assert len(cluster.split("db")) == 2
        with pytest.raises(LookupError):
            cluster.stop_node(3)
        with pytest.raises(ValueError, match="HTTP error status"):
            cluster.fail(1, "nonsense")
        pid = cluster.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_start_that_is_interrupted_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interrupt comes when the cluster is ready, and before its user has it."""
    pids = []

    def interrupted(cluster: SimClusterProcess) -> None:
        pids.append(cluster.pid)
        raise KeyboardInterrupt

    monkeypatch.setattr(SimClusterProcess, "describe", interrupted)
    with pytest.raises(KeyboardInterrupt), SimClusterProcess(ClusterOptions(nodes=1)):
        pass
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_its_urls_and_ends_with_0_when_told(number: signal.Signals) -> None:
    """A line a node as soon as it listens, then `ready`."""
    with subprocess.Popen(
        [*COMMAND, "--port=0", "--nodes=2", "--user=me:secret"],
        stdout=subprocess.PIPE,
        text=True,
        env=_environment(),
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(3)]
        assert lines[2] == "ready"
        for url in lines[:2]:
            assert url.startswith("http://me:secret@127.0.0.1:")
            assert requests.get(url + "/_membership", timeout=60).status_code == 200
        process.send_signal(number)
        assert process.wait(60) == 0


def test_a_taken_port_is_exit_code_75() -> None:
    """Somebody else listens there now; it may be free later."""
    with SimClusterThread(ClusterOptions(nodes=1)) as cluster:
        port = cluster.urls[0].rpartition(":")[2]
        ended = subprocess.run(
            [*COMMAND, f"--port={port}", "--nodes=1"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=_environment(),
        )
    assert ended.returncode == 75
    assert "cannot listen" in ended.stderr


def test_impossible_options_are_a_usage_error() -> None:
    """Exit code 2, as argparse has it."""
    ended = subprocess.run([*COMMAND, "--nodes=0"], capture_output=True, timeout=60, check=False, env=_environment())
    assert ended.returncode == 2


def test_a_process_gets_all_options_that_a_cluster_can_have() -> None:
    """The options that are written on the command line are read back as they were."""
    wanted = ClusterOptions(
        nodes=4,
        spare=1,
        q=5,
        n=2,
        port=7000,
        control_port=7001,
        user="boss:secret",
        seed=9,
        replication_delay_seconds=1.5,
        split_delay_seconds=2.5,
        request_seconds=3.5,
    )
    assert cluster_options(build_parser().parse_args(["simcluster", *command_line(wanted)])) == wanted


def test_the_command_has_the_defaults_of_a_cluster() -> None:
    """Only the port is another one: people want the same addresses each time."""
    parsed = cluster_options(build_parser().parse_args(["simcluster"]))
    assert parsed == msgspec.structs.replace(ClusterOptions(), port=15984)
