"""Whether an instance is healthy and whether it is ready, each with one line that says why or why not."""

import time
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from peruserd.core.cluster.views import View
from peruserd.core.common.escaping import counted
from peruserd.core.configuration.config import CouchDBConfig, HTTPConfig
from peruserd.core.processes.lag import Standing, why_behind
from peruserd.core.processes.lifecycle import Reason, State
from peruserd.core.scheduling import state_hold
from peruserd.couch.cluster_database import DatabaseState
from peruserd.supervisor.fleet_status import FleetStatus, StatusSource
from peruserd.supervisor.loop import MAX_WAIT_SECONDS
from peruserd.threads import REGISTER, Register

# A loop that has missed this many rounds counts as hanging.
_MISSED_ROUNDS: Final = 3


class Supervising(Protocol):
    """The part of a supervisor that health depends on."""

    @property
    def view(self) -> View | None:
        """The view in force; None before there is one."""
        ...

    @property
    def has_seen_cluster(self) -> bool:
        """Whether it has ever seen the cluster."""
        ...

    @property
    def leases_readable(self) -> bool:
        """Whether its last reading has shown the leases."""
        ...

    @property
    def last_round(self) -> float:
        """The monotonic time of its loop's last round."""
        ...


class LeaseDatabase(Protocol):
    """The part of the database of leases that health depends on."""

    @property
    def state(self) -> DatabaseState:
        """The state at the last check."""
        ...


class Limits(NamedTuple):
    """How far behind a listener may be for the instance to be ready: see `[http] ready_lag`. Both are in seconds."""

    ready_lag: float = HTTPConfig().ready_lag
    long_poll_seconds: float = CouchDBConfig().long_poll_timeout


_LIMITS: Final = Limits()


class Health:
    """The health and readiness of an instance.

    - Healthy: the supervisor's loop goes round, each of this process's lasting threads lives, and most listeners do not
      fail in a row. Everything else is no reason for a restart: a server that is away or refuses the password, a full
      disk, quarantine, and lag.
    - Ready: every listener has finished the rows of its first backlog and every scan that users wait for. None is on
      hold, and none is behind by more than the limits. Users in quarantine do not count. The instance must also see the
      cluster, the leases, and each range that it should read.

    `trouble` returns why the server does not let the instance in, or why requests do not reach it; None while neither
    is known. A restart would not help there, so the instance stays healthy.
    """

    def __init__(
        self,
        fleet: StatusSource,
        supervisor: Supervising,
        database: LeaseDatabase,
        trouble: Callable[[], str | None],
        register: Register = REGISTER,
        limits: Limits = _LIMITS,
    ) -> None:
        self._fleet = fleet
        self._supervisor = supervisor
        self._database = database
        self._trouble = trouble
        self._register = register
        self._limits = limits

    def allow_lag(self, seconds: float) -> None:
        """Take another limit of the lag, from the next question on; for any thread."""
        self._limits = self._limits._replace(ready_lag=seconds)

    def goes_round(self) -> bool:
        """Say whether the supervisor's loop goes round. The lease is written only while it does."""
        return self._silence() <= _MISSED_ROUNDS * MAX_WAIT_SECONDS

    def broken(self) -> str | None:
        """Return which thread of this process does not work any more, and how; None while all do."""
        return self._register.trouble()

    def failing(self) -> tuple[str, ...]:
        """Return the threads of this process whose last turn has failed; a restart is not the cure yet."""
        return self._register.failing()

    def healthy(self) -> tuple[bool, str]:
        """Say whether the instance is healthy; False means that a restart of the whole daemon may help."""
        if not self.goes_round():
            return False, f"the supervisor's loop has not gone round for {self._silence():.0f} s"
        if (broken := self.broken()) is not None:
            return False, broken
        if self._fleet.status().most_fail:
            return False, "most listeners fail in a row; the log says why"
        return True, "ok"

    def ready(self) -> tuple[bool, str]:
        """Say whether all listeners have caught up, as the class says, and why or why not."""
        well, why = self._ready()
        reports = [each.report for each in self._fleet.status().listeners if each.report is not None]
        kept = sum(each.quarantined for each in reports)
        return well, f"{why}; {counted(kept, 'user')} in quarantine" if kept else why

    def started(self) -> bool:
        """Say whether the start is over: the view is known, and all listeners by it have caught up once.

        An instance that stands by, or beside whose node there is nothing to follow, has nothing to catch up with.
        """
        view = self._supervisor.view
        if view is None:
            return False
        status = self._fleet.status()
        has_nothing = not status.listeners and view.shard_map is not None
        return view.standby or has_nothing or status.ready

    def _ready(self) -> tuple[bool, str]:
        if (reason := self._obstacle()) is not None:
            return False, reason
        view = self._supervisor.view
        status = self._fleet.status()
        if status.unreadable:
            return False, f"nobody can read {', '.join(status.unreadable)}: no node that hosts it is connected"
        if (held := _held(status)) is not None:
            return False, held
        if not status.listeners and view is not None and view.shard_map is not None:
            return True, "ok: this node has no part of the authentication database, and no other's is adopted"
        if not status.listeners:
            return False, "no listener: waiting for the authentication database"
        if status.failing:
            return False, _failing(status)
        if not status.ready:
            behind = [str(each.copy) for each in status.listeners if not each.caught_up]
            return False, f"not caught up: {', '.join(behind)}"
        late = self._why_behind(status)
        return late is None, late or "ok"

    def _why_behind(self, status: FleetStatus) -> str | None:
        standings = (
            Standing(str(each.copy), each.report.oldest_waiting_since, each.report.read_at)
            for each in status.listeners
            if each.report is not None
        )
        limits = self._limits
        return why_behind(
            standings, time.monotonic(), ready_lag=limits.ready_lag, poll_seconds=limits.long_poll_seconds
        )

    def _obstacle(self) -> str | None:
        """Return why the instance can serve no user at all; None if its listeners decide."""
        view = self._supervisor.view
        if (trouble := self._trouble()) is not None:
            return trouble
        if not self._supervisor.has_seen_cluster:
            return "waiting for CouchDB"
        if not self._supervisor.leases_readable:
            return f"leases cannot be read, so it is not known which instances live: {self._why()}"
        if view is None:
            return "waiting for the quiet period, to see which other instances are there"
        if view.gives_up:
            return "drained: other instances serve the users of this one, until `peruserd drain --undo` or a restart"
        return "standing by: another instance is active beside this node" if view.standby else None

    def _why(self) -> str:
        state = self._database.state
        return "the last look at them failed, and the log says how" if state.usable else state.why

    def _silence(self) -> float:
        return time.monotonic() - self._supervisor.last_round


def _held(status: FleetStatus) -> str | None:
    """Return why listeners are on hold; None if none is. A state that cannot be written comes before the cluster."""
    running = [each for each in status.listeners if each.state is State.RUNNING]
    held = [(each.copy, each.report) for each in running if each.report is not None and each.report.on_hold is not None]
    if not held:
        return None
    _, first = min(held, key=lambda each: each[1].hold_kind != state_hold.KIND)
    cause = "" if first.hold_kind == state_hold.KIND else ", because the cluster serves nobody"
    return f"on hold{cause}: {first.on_hold} (seen by {', '.join(str(copy) for copy, _ in held)})"


def _failing(status: FleetStatus) -> str:
    """Return which listeners do not stay up, and why they ended last."""
    words = (f"{each.copy} ({each.reason or Reason.CRASHED}, {each.failures} times)" for each in status.failing)
    return f"listeners that fail in a row are tried again after pauses: {', '.join(words)}"
