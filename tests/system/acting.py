"""A check by the simulated cluster's journal of writes: no two instances act on one database at the same time.

An instance talks only to its own node, and the tests never make or secure a user's database. So the node of a request
shows which instance acted. Two instances have acted at the same time if their writes alternate. That may only happen in
a documented window:

- after an instance has started or its node has come back, until all instances agree again
- while the cluster is cut in two.

A real cluster keeps no journal, so nothing is checked there.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from peruserd.core.common.names import database_name
from peruserd.simcluster import Write
from tests.system.target import PREFIX, Target

Window = tuple[float, float]
"""Begin and end, by `time.monotonic`. All processes of a machine share that clock."""

# Work that began before all instances agreed may end a moment later.
IN_FLIGHT_SECONDS = 2.0


class Acting:
    """The acts of the instances beside a target's nodes, and the windows in which two may act on one user."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._windows: list[Window] = []

    @contextmanager
    def unsettled(self) -> Iterator[None]:
        """Let the context be a window: something happens in it, and at its end all instances agree again."""
        begin = time.monotonic()
        yield
        self._windows.append((begin, time.monotonic() + IN_FLIGHT_SECONDS))

    def owners_change(self) -> None:
        """Note that other instances own some documents from here on: an earlier owner may act again later."""
        now = time.monotonic()
        self._windows.append((now, now))

    def actors(self, name: str) -> list[str]:
        """Return the nodes whose instances acted on a user, sorted."""
        database = database_name(PREFIX, name)
        return sorted({write.node for write in self._writes() if write.database == database})

    def assert_acted_on_by_one(self, names: Iterable[str]) -> None:
        """Fail where two instances acted on one of the users at the same time, outside the windows."""
        databases = {database_name(PREFIX, name) for name in names}
        faults = alternating([each for each in self._writes() if each.database in databases], self._windows)
        assert not faults, f"acted on by two at the same time: {faults}"

    def _writes(self) -> list[Write]:
        return [] if self._target.sim is None else self._target.sim.writes()


def alternating(writes: Sequence[Write], windows: Sequence[Window]) -> dict[str, list[Write]]:
    """Return the databases on which two nodes acted at the same time, with what was written to each.

    The windows cut the time into stretches. Within a stretch a node may take a database over from another one, but the
    acts of the two must not alternate.
    """
    runs: dict[tuple[str, int], list[str]] = {}
    for write in writes:
        if any(begin <= write.seconds <= end for begin, end in windows):
            continue
        stretch = sum(end < write.seconds for _, end in windows)
        nodes = runs.setdefault((write.database, stretch), [])
        if nodes[-1:] != [write.node]:
            nodes.append(write.node)
    found = {database for (database, _), nodes in runs.items() if len(nodes) > len(set(nodes))}
    return {database: [each for each in writes if each.database == database] for database in sorted(found)}
