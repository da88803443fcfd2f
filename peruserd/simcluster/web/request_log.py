"""The log of requests to the cluster: it tells tests and benchmarks the cost of a thing, and its author."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

import msgspec


class Write(msgspec.Struct, frozen=True):
    """A request to make, delete or secure a database. `seconds` are of `time.monotonic`, one clock for all processes.

    `node` is the one that was asked, `method` is PUT or DELETE, `kind` is `database` or `security`.
    """

    seconds: float
    node: str
    method: str
    database: str
    kind: str


_WRITES: Final = frozenset({("PUT", "database"), ("DELETE", "database"), ("PUT", "security")})


class RequestLog:
    """Counts of requests by node, method and kind of path, counts of created and deleted databases, and all writes."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, str]] = Counter()
        self.created: Counter[str] = Counter()
        self.deleted: Counter[str] = Counter()
        self.writes: list[Write] = []

    def count(self, node: str, method: str, kind: str, segments: Sequence[str]) -> None:
        """Count a request when it arrives, whatever its outcome is. `segments` are those of its path, as sent."""
        self.requests[node, method, kind] += 1
        if (method, kind) in _WRITES:
            self.writes.append(Write(time.monotonic(), node, method, unquote(segments[0]), kind))

    def clear(self) -> None:
        """Forget all counts and writes."""
        self.requests.clear()
        self.created.clear()
        self.deleted.clear()
        self.writes.clear()
