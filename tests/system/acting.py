"""A check by a journal of writes: no two instances act on one database at the same time.

The simulated cluster keeps such a journal. An instance talks only to its own node, and the tests never make or secure a
user's database. So the node of a request shows which instance acted. A real cluster keeps no journal. There the audit
lines in the logs of the instances stand for it.

Two instances have acted at the same time if their writes alternate. That may only happen in
a documented window:

- after an instance has started or its node has come back, until all instances agree again
- after a second instance beside a node has taken over, likewise
- while the cluster is cut in two.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from peruserd.core.common.names import database_name
from peruserd.simcluster import Write
from tests.system.target import PREFIX, Target
from tests.waiting import eventually

Window = tuple[float, float]
"""Begin and end, by `time.monotonic`. All processes of a machine share that clock."""

# Work that began before all instances agreed may end a moment later.
IN_FLIGHT_SECONDS = 2.0


class Acting:
    """The acts of the instances beside a target's nodes, and the windows in which two may act on one user.

    `audit_lines` returns those of all instances since their first start.
    """

    def __init__(self, target: Target, audit_lines: Callable[[], Iterable[dict[str, Any]]]) -> None:
        self._target = target
        self._audit_lines = audit_lines
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

    def actors(self, names: Iterable[str]) -> dict[str, list[str]]:
        """Return for each user the nodes whose instances acted on it, sorted; for users who are served."""
        databases = {database_name(PREFIX, name): name for name in names}

        def found() -> dict[str, set[str]] | None:
            actors: dict[str, set[str]] = {name: set() for name in databases.values()}
            for write in self._writes():
                if write.database in databases:
                    actors[databases[write.database]].add(write.node)
            # A line of the log comes a moment after the write.
            return actors if all(actors.values()) else None

        return {name: sorted(nodes) for name, nodes in eventually(found, "each served user was acted on").items()}

    def assert_acted_on_by_one(self, names: Iterable[str]) -> None:
        """Fail where two instances acted on one of the users at the same time, outside the windows."""
        databases = {database_name(PREFIX, name) for name in names}
        faults = alternating([each for each in self._writes() if each.database in databases], self._windows)
        assert not faults, f"acted on by two at the same time: {faults}"

    def _writes(self) -> list[Write]:
        return written(self._audit_lines()) if self._target.sim is None else self._target.sim.writes()


def written(audit_lines: Iterable[dict[str, Any]]) -> list[Write]:
    """Return what audit lines say of writes to users' databases, in the order of time."""
    # The lines have the time of day.
    offset = time.monotonic() - time.time()
    writes = [
        Write(
            datetime.fromisoformat(line["timestamp"]).timestamp() + offset,
            line["instance"],
            "PUT",
            line["database"],
            line["action"],
        )
        for line in audit_lines
        # An operator's word is no write yet.
        if "listener" in line
    ]
    return sorted(writes, key=lambda each: each.seconds)


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
