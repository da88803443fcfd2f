"""The requests of this process, counted by outcome, with the time that answers took.

There is one tally for each process, because sessions are made in many places, and each sends through `Session`.
"""

import threading
from typing import Final

import msgspec

from peruserd.core.processes.counters import Histogram, outcome_of


class Tally:
    """Counts requests. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outcomes: dict[str, int] = {}
        self._latency = Histogram()

    def answered(self, status: int, seconds: float | None) -> None:
        """Count an answer. `seconds` is the time it took; None for a long poll, which lasts as long as it may."""
        outcome = outcome_of(status)
        with self._lock:
            self._outcomes[outcome] = self._outcomes.get(outcome, 0) + 1
            if seconds is not None:
                self._latency.observe(seconds)

    def unanswered(self, kind: str) -> None:
        """Count a request without a usable answer, by the kind of the error."""
        with self._lock:
            self._outcomes[kind] = self._outcomes.get(kind, 0) + 1

    def outcomes(self) -> dict[str, int]:
        """Return the number of requests by outcome."""
        with self._lock:
            return dict(self._outcomes)

    def latency(self) -> Histogram:
        """Return the times of answers that were not waited for."""
        with self._lock:
            return msgspec.structs.replace(self._latency, buckets=list(self._latency.buckets))


TALLY: Final = Tally()
"""The tally of this process."""
