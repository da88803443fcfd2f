"""Faults on purpose: slow answers, errors, cut connections, missing answers. Pure."""

import re
from random import Random
from typing import Final

import msgspec

# The faults besides a status. The connection is cut before the node acts on the request (`cut`), between the act and
# the answer (`cut-after`), or in the middle of the answer (`cut-mid`). A request that hangs is never answered.
FAULT_KINDS: Final[tuple[str, ...]] = ("cut", "cut-after", "cut-mid", "hang")

_BODIES: Final = {
    500: ("internal_server_error", "No DB shards could be opened."),
    503: ("service_unavailable", "The node is not able to serve the request now."),
    429: ("too_many_requests", "Too many requests."),
}


class Fault(msgspec.Struct):
    """One fault of a node: its outcome, how many times it is left (None is always), and its probability."""

    node: str
    outcome: int | str
    remaining: int | None
    probability: float
    path: re.Pattern[str] | None
    method: str | None

    def concerns(self, node: str, method: str, path: str) -> bool:
        """Say whether this fault concerns a request."""
        if self.node != node or (self.method and self.method != method) or self.remaining == 0:
            return False
        return self.path is None or self.path.search(path) is not None


class Delay(msgspec.Struct, frozen=True):
    """The delay of a node's answers: of all, or of those to paths that match."""

    seconds: float
    path: re.Pattern[str] | None


class Faults:
    """The faults and delays in force."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._faults: list[Fault] = []
        self._delays: dict[str, list[Delay]] = {}

    @property
    def any(self) -> bool:
        """Say whether there are any faults or delays."""
        return bool(self._faults or self._delays)

    def add(self, fault: Fault) -> None:
        """Put a fault in force. ValueError for an unknown outcome."""
        if fault.outcome not in FAULT_KINDS and not (isinstance(fault.outcome, int) and 400 <= fault.outcome <= 599):
            raise ValueError(f"a fault is an HTTP error status or one of {', '.join(FAULT_KINDS)}")
        self._faults.append(fault)

    def delay(self, node: str, delay: Delay) -> None:
        """Make a node's answers late. A delay of 0 seconds ends the delay for the same paths."""
        pattern = delay.path.pattern if delay.path else None
        kept = [each for each in self._delays.get(node, ()) if (each.path.pattern if each.path else None) != pattern]
        self._delays[node] = [*kept, delay] if delay.seconds > 0 else kept
        if not self._delays[node]:
            del self._delays[node]

    def clear(self) -> None:
        """End all faults and delays."""
        self._faults.clear()
        self._delays.clear()

    def lateness(self, node: str, path: str) -> float:
        """Return how many seconds an answer is to be late."""
        return sum(
            delay.seconds for delay in self._delays.get(node, ()) if delay.path is None or delay.path.search(path)
        )

    def draw(self, node: str, method: str, path: str) -> int | str | None:
        """Return the outcome of a fault for a request, and count the fault as used. None where there is no fault."""
        for fault in self._faults:
            if fault.concerns(node, method, path) and self._random.random() < fault.probability:
                if fault.remaining is not None:
                    fault.remaining -= 1
                return fault.outcome
        return None


def error_body(status: int) -> dict[str, object]:
    """Return a body like the ones CouchDB sends with a status."""
    error, reason = _BODIES.get(status, ("unknown_error", "undefined"))
    body: dict[str, object] = {"error": error, "reason": reason}
    if status == 500:
        body["ref"] = 1234567890
    return body
