"""The counters of a listener. They only grow; a dead listener's last values are added to a retired sum.

The layer that exports the counters makes metric names of these names. No label can name a user.
"""

from bisect import bisect_left
from typing import Final

import msgspec

LATENCY_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds, in seconds, of the latency histogram: from one request on an idle cluster to a worrying minute."""


STATUSES: Final = (200, 201, 202, 400, 401, 403, 404, 408, 409, 412, 413, 429, 500, 502, 503, 504)
"""The statuses of answers that are counted each by itself. All others are counted by their first digit."""


def outcome_of(status: int) -> str:
    """Return the name under which an answer with this status is counted, such as 404 or 4xx."""
    return str(status) if status in STATUSES else f"{min(max(status // 100, 1), 5)}xx"


class Histogram(msgspec.Struct):
    """The number of observations in each bucket, and their sum in seconds. The last bucket has no upper bound."""

    buckets: list[int] = msgspec.field(default_factory=lambda: [0] * (len(LATENCY_BUCKETS) + 1))
    sum_seconds: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation."""
        self.buckets[bisect_left(LATENCY_BUCKETS, seconds)] += 1
        self.sum_seconds += seconds

    def add(self, other: "Histogram") -> None:
        """Add the observations of another histogram."""
        self.buckets = [mine + theirs for mine, theirs in zip(self.buckets, other.buckets, strict=True)]
        self.sum_seconds += other.sum_seconds


class Counters(msgspec.Struct):
    """The events that a listener has counted since its start."""

    changes_seen: int = 0
    changes_owned: int = 0
    users_provisioned: int = 0  # the database exists and its security object is right
    users_revoked: int = 0
    databases_created: int = 0  # answers 201 and 202 only
    databases_dropped: int = 0
    security_writes: int = 0  # answers 200 only
    retries: int = 0  # tries of users in quarantine
    reviews: int = 0  # looks at earlier acts on documents that others may own now
    feed_requests: int = 0
    scans: int = 0  # scans that reached their end
    holds: int = 0  # how often the whole listener was on hold because the cluster failed
    looks: dict[str, int] = msgspec.field(default_factory=dict)  # acts on a document, by the reason for them
    failures: dict[str, int] = msgspec.field(default_factory=dict)  # by kind of error
    access_changes: dict[str, int] = msgspec.field(default_factory=dict)  # by what was done, as in the audit lines
    latency: Histogram = msgspec.field(default_factory=Histogram)  # from a change read to its user served
    requests: dict[str, int] = msgspec.field(default_factory=dict)  # to CouchDB, by status or kind of error
    request_latency: Histogram = msgspec.field(default_factory=Histogram)  # of requests but long polls

    def failed(self, kind: str, times: int = 1) -> None:
        """Count failures of the given kind."""
        if times:
            self.failures[kind] = self.failures.get(kind, 0) + times

    def looked(self, reason: str) -> None:
        """Count an act on a document, whatever its outcome."""
        self.looks[reason] = self.looks.get(reason, 0) + 1

    def changed(self, action: str) -> None:
        """Count a change of access or existence."""
        self.access_changes[action] = self.access_changes.get(action, 0) + 1

    def add(self, other: "Counters") -> None:
        """Add the counters of another listener."""
        for name in _PLAIN:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in _BY_LABEL:
            mine = getattr(self, name)
            for kind, count in getattr(other, name).items():
                mine[kind] = mine.get(kind, 0) + count
        self.latency.add(other.latency)
        self.request_latency.add(other.request_latency)


_BY_LABEL: Final = ("looks", "failures", "access_changes", "requests")

_PLAIN: Final = tuple(field.name for field in msgspec.structs.fields(Counters) if field.type is int)
