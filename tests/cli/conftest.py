"""Configurations for commands, a daemon with given answers, and `peruserd audit` in the process of a test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from peruserd.core.processes.control import Answer, Order
from peruserd.daemon.control import ControlSocket
from peruserd.simcluster import SimClusterThread
from tests.cli.audit_command import Command

Serve = Callable[..., list[Order]]
"""Begins to answer each order with the given answers; returns the orders that come."""


@pytest.fixture
def config(cluster: SimClusterThread, tmp_path: Path) -> str:
    """Write a configuration for the cluster's first node."""
    path = tmp_path / "peruserd.toml"
    path.write_text(f'[couchdb]\nurl = "{cluster.urls[0]}"\n[state]\ndirectory = "{tmp_path}/state"\n')
    return str(path)


@pytest.fixture
def command(cluster: SimClusterThread, capsys: pytest.CaptureFixture[str]) -> Command:
    """`peruserd audit` against the cluster."""
    return Command(cluster, capsys)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """A control socket in the state directory of `environment`, which answers every order in the same way."""
    opened: list[ControlSocket] = []

    def begin(*answers: Answer) -> list[Order]:
        orders: list[Order] = []

        def carry_out(order: Order, _uid: int) -> Iterator[Answer]:
            orders.append(order)
            yield from answers

        opened.append(ControlSocket(tmp_path, carry_out))
        opened[-1].start()
        return orders

    yield begin
    for each in opened:
        each.stop()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment that names the state directory."""
    return {"PERUSERD_STATE_DIRECTORY": str(tmp_path)}
