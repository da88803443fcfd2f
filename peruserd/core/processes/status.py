"""The status of an instance, for people and programs: what it believes, what it does, and what troubles it.

The page `/`, `/status.json` and `peruserd status` all show it. Each struct is encoded to JSON as it is here.

- Moments are of the wall clock, in seconds since 1970, and durations are in seconds.
- No user is named. Other names, and the words of servers, are as they came, only cut. Whoever shows them must escape
  them.
- Lists are cut to `MAX_ROWS` rows, the names in a row to `MAX_NAMES`, and texts to `MAX_TEXT` characters. `omitted`
  says by the list's name how many rows or names are missing.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, TypeVar

import msgspec

from peruserd.core.cluster.leases import LeaseStatus
from peruserd.core.processes.lifecycle import Reason, State
from peruserd.core.processes.messages import Stage, Usage

T = TypeVar("T")

FORMAT: Final = 1
"""The number of this form. It grows when a field changes its meaning or goes away. New fields do not change it."""

MAX_ROWS: Final = 1_024
"""The limit of rows in each list: the same as for the shards of a database."""

MAX_NAMES: Final = 64
"""The limit of names in one row, such as the hosts of a range."""

MAX_TEXT: Final = 300
"""The limit of characters in a name, or in the words of a server."""


class InstanceRole(StrEnum):
    """What an instance does now."""

    WAITING = "waiting"  # it does not know the cluster yet
    ACTIVE = "active"
    STANDBY = "standby"  # another instance is active beside the same node
    DRAINED = "drained"  # it is told to leave its users to others
    STOPPING = "stopping"  # it is told to stop, and finishes what is under way


class Opinion(msgspec.Struct, frozen=True):
    """The answer of `/healthz` or `/readyz`, with the reason in one line."""

    ok: bool
    why: str


class SeenInstance(msgspec.Struct, frozen=True):
    """An instance of the cluster by its lease, as this one sees it.

    - `lease_age`: seconds since the last sign of life was seen; None if there was none. For this instance itself they
      are the seconds since the lease was written.
    - `same_configuration`: whether its shared part of the configuration is like ours; None if its lease does not say.
    - `maintenance`: whether its node is in maintenance mode.
    - `drained`: whether it was told to leave its users to others, and does so.
    """

    node: str
    incarnation: str
    version: str
    status: LeaseStatus
    is_me: bool
    is_active: bool
    lease_age: float | None
    maintenance: bool
    same_configuration: bool | None
    address: str
    drained: bool = False


class RangeStatus(msgspec.Struct, frozen=True):
    """One range of the authentication database, by the view in force.

    - `hosts`: the nodes with a copy. `owners`: the instances that share its users.
    - `followed_at`: the nodes whose copies this instance follows; empty if it leaves the range to others.
    - `readable`: whether a connected node hosts the range. Nobody can serve its users otherwise.
    - `adopted`: whether none of its hosts has a live instance, so that all live instances share it.
    """

    range: str
    begin: int
    end: int
    hosts: tuple[str, ...]
    owners: tuple[str, ...]
    followed_at: tuple[str, ...]
    readable: bool
    adopted: bool


class ListenerView(msgspec.Struct, frozen=True):
    """One listener of this instance. The fields from `stage` on are of its last report; None before the first one.

    - `why`: the reason of its last end or stop. `restarts`: how often it was started again after an unplanned end.
    - `failures`: unplanned ends since the listener was last caught up for half a minute.
    - `lag_seconds`: for how long the oldest live change waits that is neither finished nor in quarantine; 0 if there is
      none.
    - `feed_age`: seconds since the live feed was last read.
    - `lag_rows`: rows between the checkpoint and the newest row seen; None where sequences are opaque texts.
    - `waiting`, `in_flight`: users who wait for work, and users under work.
    - `quarantined`: users in quarantine. `permanent`: those of them whom only somebody's act can help.
    - `on_hold`: why no work is given out; None while work is given out. `hold_kind`: "state" if this instance's own
      state cannot be written, or else the kind of the cluster's failure.
    - `checkpoint`, `shard_sequence`: the sequence up to which all is done, and the newest one seen.
    """

    range: str
    node: str
    copy: str
    state: State
    why: Reason | None
    restarts: int
    failures: int
    pid: int | None
    caught_up: bool
    stage: Stage | None = None
    lag_seconds: float | None = None
    feed_age: float | None = None
    lag_rows: int | None = None
    waiting: int | None = None
    in_flight: int | None = None
    quarantined: int | None = None
    permanent: int | None = None
    on_hold: str | None = None
    hold_kind: str | None = None
    checkpoint: int | str | None = None
    shard_sequence: int | str | None = None
    usage: Usage | None = None


class LatencyPoint(msgspec.Struct, frozen=True):
    """How fast users were served within some time: from the row of a live change to the end of the work, in seconds.

    `at` is the end of that time, and `seconds` its length. The percentiles are None if nobody was served. They are
    interpolated within the buckets of the histogram, and never above its last bound.
    """

    at: float
    seconds: float
    served: int
    median: float | None
    p95: float | None
    p99: float | None


class LatencyStatus(msgspec.Struct, frozen=True):
    """The latency of live changes: the last minutes in one figure, and its course with a point for each half minute.

    `bounds` are the upper bounds of the buckets, in seconds. `buckets` counts the users since the start of this
    instance; the last bucket has no upper bound.
    """

    bounds: tuple[float, ...]
    buckets: tuple[int, ...]
    recent: LatencyPoint
    course: tuple[LatencyPoint, ...]


class DeletionsView(msgspec.Struct, frozen=True):
    """The deletions that wait, over all listeners.

    - `waiting`: databases of deleted users that are to be dropped. `held`: databases whose user came back.
    - `beyond_bound`: deletions that are left to the journal, because too many wait.
    - `overdue`: for how many seconds the oldest deletion is due.
    - `dropped`: databases dropped since the start of this instance.
    - `paused`: whether all drops wait; None if nothing is ever dropped. `paused_why` says why, and `paused_since` when.
    """

    waiting: int
    held: int
    beyond_bound: int
    overdue: float
    dropped: int
    paused: bool | None = None
    paused_why: str | None = None
    paused_since: float | None = None


class AuditRound(msgspec.Struct, frozen=True):
    """The rounds of all listeners together: the first begin, the last end, the users and the findings by kind."""

    begun: float
    ended: float | None
    users: int
    findings: dict[str, int]


class AuditView(msgspec.Struct, frozen=True):
    """The audit. `last` is None until each listener has ended a round, because a part of the users would be missing."""

    last: AuditRound | None
    running: AuditRound | None


class AuthenticationView(msgspec.Struct, frozen=True):
    """Whether the server lets this instance in. `trouble` says why not; None while nothing is known against it."""

    let_in: bool
    trouble: str | None
    logins: int
    refusals: int


class PlanChange(msgspec.Struct, frozen=True):
    """A plan that was carried out: when, for which reasons, and what was done."""

    at: float
    reasons: tuple[str, ...]
    says: str
    done: str


class Status(msgspec.Struct, frozen=True):
    """All that an instance says of itself.

    - `started`: when this instance started. `uptime`: the seconds since then, also if the clock was set.
    - `nodes`: the connected nodes; None while the cluster is not known.
    - `failing`: the threads of this instance whose last turn has failed, and which are tried again.
    - `refused`: why the last reload was refused, so that the configuration before is in force; None if it was not.
    - `away`: the nodes that belong to the cluster and are not connected.
    - `leases_readable`: whether leases can be read, so that the dead are known.
    - `database`: the authentication database. `unreadable`: ranges that no connected node hosts.
    - `couch_peruser`: whether CouchDB's own couch_peruser is on at the node; None if that is not known.
    - `quarantine`: users in quarantine by the kind of their failure.
    - `counters`: events since the start of this instance, named as the metrics are.
    """

    format: int
    time: float
    version: str
    node: str | None
    incarnation: str
    started: float
    uptime: float
    role: InstanceRole
    healthy: Opinion
    ready: Opinion
    nodes: tuple[str, ...] | None
    leases_readable: bool
    database: str
    instances: tuple[SeenInstance, ...]
    ranges: tuple[RangeStatus, ...]
    unreadable: tuple[str, ...]
    listeners: tuple[ListenerView, ...]
    latency: LatencyStatus
    quarantine: dict[str, int]
    deletions: DeletionsView
    audit: AuditView
    authentication: AuthenticationView
    couch_peruser: bool | None
    maintenance: bool
    plans: tuple[PlanChange, ...]
    counters: dict[str, int]
    failures: dict[str, int]
    omitted: dict[str, int]
    away: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()
    refused: str | None = None


class Cutter:
    """Cuts the lists of one status to `rows` rows, and counts what is missing in `omitted`."""

    def __init__(self, rows: int = MAX_ROWS) -> None:
        self._rows = rows
        self.omitted: dict[str, int] = {}

    def rows(self, name: str, whole: Sequence[T]) -> Sequence[T]:
        """Return the first rows of a list."""
        return self._first(name, whole, self._rows)

    def names(self, name: str, whole: Sequence[str]) -> tuple[str, ...]:
        """Return the first names of a row, each cut."""
        return tuple(map(cut, self._first(name, whole, min(self._rows, MAX_NAMES))))

    def _first(self, name: str, whole: Sequence[T], limit: int) -> Sequence[T]:
        if len(whole) <= limit:
            return whole
        self.omitted[name] = max(self.omitted.get(name, 0), len(whole) - limit)
        return whole[:limit]


def cut(text: str) -> str:
    """Return a text that JSON can hold and that is no longer than `MAX_TEXT` characters."""
    if len(text) > MAX_TEXT:
        text = text[: MAX_TEXT - 1] + "…"
    return text.encode("utf-8", "backslashreplace").decode()


decode_status = msgspec.json.Decoder(Status).decode
encode_status = msgspec.json.Encoder().encode
