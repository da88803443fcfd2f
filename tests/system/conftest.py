"""Daemons for system tests."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.system.daemon import Daemon
from tests.system.notified import Systemd
from tests.system.server import Server
from tests.system.target import Target, open_target
from tests.system.team import Team


@pytest.fixture
def make_daemon(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Make an instance without starting it: `make_daemon(url=…)`, see `Daemon`; all are ended after the test.

    In a test with the mark `anew`, new interpreters run them.
    """
    anew = request.node.get_closest_marker("anew") is not None
    with ExitStack() as stack:
        made: list[Daemon] = []

        def make(**options: Any) -> Daemon:
            made.append(stack.enter_context(Daemon(tmp_path / f"daemon-{len(made) + 1}", anew=anew, **options)))
            return made[-1]

        yield make


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """Run a simulated cluster of one node, so that no other node has the data that its files lose."""
    with SimClusterThread(ClusterOptions(nodes=1, n=1, q=2)) as running:
        yield running


@pytest.fixture
def server(cluster: SimClusterThread) -> Iterator[Server]:
    """The first node of the simulated cluster as users and operators see it."""
    made = Server(cluster.urls[0], None)
    yield made
    made.close()


@pytest.fixture
def one_node() -> Iterator[Target]:
    """Give a cluster for a single instance; a simulated one has one node. A real one is the one that is given."""
    with open_target(ClusterOptions(nodes=1, n=1, q=2)) as opened:
        yield opened


@pytest.fixture
def team(target: Target, make_daemon: Callable[..., Daemon]) -> Team:
    """Start an instance beside each node of the cluster that the module's `target` gives."""
    return Team(target, make_daemon)


@pytest.fixture
def make_systemd() -> Iterator[Callable[[], Systemd]]:
    """Listen in systemd's place, at an abstract address; each call makes another one."""
    with ExitStack() as stack:

        def make() -> Systemd:
            return stack.enter_context(closing(Systemd(f"@peruserd-test-{secrets.token_hex(8)}")))

        yield make


@pytest.fixture
def systemd(make_systemd: Callable[[], Systemd]) -> Systemd:
    """Listen in systemd's place."""
    return make_systemd()
