"""The steps of `docs/troubleshooting.md`: each command is run as it stands there, and prints what stands there."""

import re
import shlex
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.cli.running import peruserd
from tests.system.daemon import Daemon
from tests.system.server import Server
from tests.waiting import eventually

PAGE = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text()

# A command of an example, and the lines of its output.
_EXAMPLE = re.compile(r"^    \$ peruserd (.*)\n((?:    (?!\$).*\n)*)", re.MULTILINE)


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """Run the cluster of the page."""
    with SimClusterThread(ClusterOptions(nodes=3, q=2, n=3)) as running:
        yield running


def free_port() -> int:
    """Return a port that is free, because commands ask the instance of their configuration at its port."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def ask(command: str, config: Path) -> str:
    """Run a command of the page with the first instance's configuration; return all that it prints."""
    words = [str(config) if word == "peruserd.toml" else word for word in shlex.split(command)]
    ran = peruserd(*words)
    # Progress goes to standard error, and is no part of the examples.
    return ran.stdout or ran.stderr.removeprefix("peruserd: ")


def pattern(output: str) -> re.Pattern[str]:
    """Return a pattern for an output of the page; numbers and times may be others, and so may what `…` stands for."""
    words = "".join(f"{line[4:]}\n" for line in output.splitlines())
    return re.compile("".join(_piece(each) for each in re.split(r"(…|(?<![\w.])\d[\d:Z.-]*(?=[ ,\n]))", words)))


def _piece(text: str) -> str:
    if text == "…":
        return r"(?s:.*?)"
    return r"[\d:Z.-]+" if text[:1].isdigit() else re.escape(text)


def test_the_steps_lead_to_the_cause_and_to_a_database(
    cluster: SimClusterThread, server: Server, make_daemon: Callable[..., Daemon]
) -> None:
    """The page is followed from its first command to its last, with two nodes down for the example that has this."""
    daemons = [
        make_daemon(
            url=url,
            username="adm",
            password="pass",
            config={"databases": {"when_deleted": "report"}, "http": {"listen": f"127.0.0.1:{port}"}},
        ).start()
        for url, port in zip(cluster.urls, (free_port(), 0, 0), strict=True)
    ]
    for each in daemons:
        each.wait_until_ready()
    config = daemons[0].directory / "peruserd.toml"
    server.sign_up(["alice", "bob"])
    for name in ("alice", "bob"):
        assert ask(f"wait {name} --timeout 60 --config peruserd.toml", config).endswith(f"{name}: served\n")
    server.ask("DELETE", "userdb-626f62")
    eventually(lambda: "bob" in ask("quarantine list --config peruserd.toml", config), "bob is in quarantine")

    examples = _EXAMPLE.findall(PAGE)
    assert len(examples) >= 9
    for command, output in examples:
        down = "1 of 3 nodes is connected" in output
        if down:
            cluster.stop_node(2)
            cluster.stop_node(3)
        said = ask(command, config)
        assert pattern(output).fullmatch(said), f"{command}\n{said}"
        if down:
            cluster.start_node(2)
            cluster.start_node(3)
            eventually(lambda: daemons[0].is_ready, "the cluster is back")
