"""Parts shared by tests on the simulated cluster: its controls, and events that take a while."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Self

from peruserd.simcluster import ControlClient
from tests.system.team import Team

LOW: Final = "00000000-7fffffff"
HIGH: Final = "80000000-ffffffff"
"""The two ranges of the authentication database."""


def sim(team: Team) -> ControlClient:
    """Return the cluster's controls."""
    assert team.target.sim is not None
    return team.target.sim


def writes(team: Team) -> dict[str, int]:
    """Return the number of writing requests since the counts were cleared, by kind of path."""
    counts: dict[str, int] = {}
    for (_, method, kind), count in sim(team).requests().items():
        if method in ("PUT", "DELETE"):
            counts[kind] = counts.get(kind, 0) + count
    return counts


@contextmanager
def partitioned(team: Team, groups: list[list[int]]) -> Iterator[None]:
    """Cut the cluster in two while the context lasts."""
    sim(team).partition(groups)
    try:
        yield
    finally:
        sim(team).heal()


class Flapping:
    """Kills and starts a node again and again, from another thread; after the context the node is up."""

    def __init__(self, team: Team, node: int, *, down_seconds: float, up_seconds: float) -> None:
        self.turns = 0
        self._sim = sim(team)
        self._node = node
        self._pauses = down_seconds, up_seconds
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._thread.join()
        self._sim.start_node(self._node)

    def _run(self) -> None:
        down, up = self._pauses
        while not self._leaving.is_set():
            self._sim.stop_node(self._node)
            time.sleep(down)
            self._sim.start_node(self._node)
            time.sleep(up)
            self.turns += 1
