"""The life of one child process as a pure function: (child, event, now) → (child, actions).

    State               Event                                      Next state, action
    ------------------  -----------------------------------------  ----------------------------
    STOPPED             Wanted                                     STARTING, spawn
    STARTING            Greeted                                    RUNNING
    STARTING            Due: the start takes too long              STOPPING, abort
    RUNNING             Due: the feed loop made no round           STOPPING, abort
    STARTING, RUNNING   Unwanted                                   STOPPING, ask
    STOPPING            Due: it was asked                          STOPPING, abort
    STOPPING            Due: it was aborted                        STOPPING, kill
    BACKOFF             Due                                        STARTING, spawn
    BACKOFF, FAILED     Unwanted                                   STOPPED

    Any with a process  Exited, and it is not wanted               STOPPED
    Any with a process  Exited with 78, and it is wanted           FAILED
    STOPPING            Exited, unwanted before and wanted again   STARTING, spawn
    Any with a process  Exited otherwise, and it is wanted         BACKOFF

The first row that fits counts. All other events leave the state as it is.

Invariant: SPAWN only follows a `Wanted` in STOPPED, an `Exited`, or a `Due` in BACKOFF. So a successor never starts
before its predecessor is known to be gone.
"""

from enum import Enum, StrEnum
from typing import Final

import msgspec

from peruserd.core.common.backoff import Backoff

EXIT_CONFIGURATION: Final = 78
"""The exit code of a child for which another try is useless (sysexits' EX_CONFIG)."""


class State(StrEnum):
    """The states of a child, in supervisord's words."""

    STARTING = "starting"
    RUNNING = "running"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class Reason(StrEnum):
    """The reason why a child was stopped, or ended. It is logged, and exported as a label."""

    UNPLANNED = "unplanned"  # the plan no longer has its copy
    SHUTDOWN = "shutdown"
    CRASHED = "crashed"
    SLOW_START = "slow_start"
    SILENT = "silent"  # its feed loop made no round for too long
    BAD_CONFIGURATION = "refused"  # it exited with 78; the label has its own word


class Action(Enum):
    """The actions of the supervisor on the child's process."""

    SPAWN = "spawn"
    ASK = "ask"  # a Stop message over the pipe
    ABORT = "abort"  # SIGABRT: faulthandler writes the traceback of every thread
    KILL = "kill"  # SIGKILL


class Timing(msgspec.Struct, frozen=True):
    """The time limits of a child, in seconds."""

    # A start takes 0.02 s alone, but 64 children on two busy cores wait for each other.
    start_seconds: float = 60.0
    # A long poll lasts at most 25 s, and one request 30 s. Longer silence is not explained by a slow server.
    silence_seconds: float = 90.0
    stop_seconds: float = 10.0
    abort_seconds: float = 2.0
    # A child that has been caught up for this long has recovered. Its next failure counts as the first one.
    recovery_seconds: float = 30.0
    backoff: Backoff = Backoff(initial_seconds=0.5, max_seconds=30.0)


class Child(msgspec.Struct, frozen=True):
    """The state of one child. Times are of the caller's monotonic clock. `deadline` is the time of the next `Due`."""

    state: State = State.STOPPED
    wanted: bool = False
    failures: int = 0
    deadline: float | None = None
    caught_up_since: float | None = None
    reason: Reason | None = None
    aborted: bool = False


class Wanted(msgspec.Struct, frozen=True):
    """The plan has this child's copy."""


class Unwanted(msgspec.Struct, frozen=True):
    """The plan no longer has this child's copy, or the instance stops."""

    reason: Reason


class Greeted(msgspec.Struct, frozen=True):
    """The child's first message arrived, so the child is up."""


class Progressed(msgspec.Struct, frozen=True):
    """The child's feed loop made a round. `caught_up` says that nothing of its own is waiting."""

    caught_up: bool


class Exited(msgspec.Struct, frozen=True):
    """The process has ended, as its pidfd shows. `chance` is a random number of [0, 1) for the back-off."""

    code: int
    chance: float


class Due(msgspec.Struct, frozen=True):
    """The child's deadline has passed."""


Event = Wanted | Unwanted | Greeted | Progressed | Exited | Due
Step = tuple[Child, tuple[Action, ...]]

_ALIVE: Final = (State.STARTING, State.RUNNING)


def step(child: Child, event: Event, now: float, timing: Timing) -> Step:
    """Return the child after `event`, and the actions on its process, in order."""
    match event:
        case Wanted():
            return _wanted(child, now, timing)
        case Unwanted(reason):
            return _unwanted(child, reason, now, timing)
        case Greeted() if child.state is State.STARTING:
            return _replace(child, state=State.RUNNING, deadline=now + timing.silence_seconds), ()
        case Progressed(caught_up) if child.state is State.RUNNING:
            return _progressed(child, caught_up=caught_up, now=now, timing=timing), ()
        case Exited(code, chance):
            return _exited(child, code, now + timing.backoff.delay(child.failures + 1, chance), now, timing)
        case Due() if child.deadline is not None and now >= child.deadline:
            return _due(child, now, timing)
        case _:
            # The message was under way when the child's state changed, and has no meaning any more.
            return child, ()


def _wanted(child: Child, now: float, timing: Timing) -> Step:
    if child.state is State.STOPPED:
        return _spawn(child, now, timing)
    return _replace(child, wanted=True), ()


def _unwanted(child: Child, reason: Reason, now: float, timing: Timing) -> Step:
    if child.state in _ALIVE:
        stopping = _replace(
            child, state=State.STOPPING, wanted=False, deadline=now + timing.stop_seconds, reason=reason, aborted=False
        )
        return stopping, (Action.ASK,)
    if child.state is State.STOPPING:
        return _replace(child, wanted=False, reason=reason), ()
    return _replace(child, state=State.STOPPED, wanted=False, deadline=None, reason=reason), ()


def _progressed(child: Child, *, caught_up: bool, now: float, timing: Timing) -> Child:
    since = (now if child.caught_up_since is None else child.caught_up_since) if caught_up else None
    recovered = since is not None and now - since >= timing.recovery_seconds
    return _replace(
        child,
        deadline=now + timing.silence_seconds,
        caught_up_since=since,
        failures=0 if recovered else child.failures,
    )


def _exited(child: Child, code: int, next_try: float, now: float, timing: Timing) -> Step:
    gone = _replace(child, deadline=None, caught_up_since=None, aborted=False)
    if not child.wanted:
        return _replace(gone, state=State.STOPPED), ()
    if code == EXIT_CONFIGURATION:
        return _replace(gone, state=State.FAILED, reason=Reason.BAD_CONFIGURATION), ()
    if child.state is State.STOPPING and child.reason in (Reason.UNPLANNED, Reason.SHUTDOWN):
        return _spawn(gone, now, timing)
    reason = child.reason if child.state is State.STOPPING else Reason.CRASHED
    return (
        _replace(gone, state=State.BACKOFF, failures=child.failures + 1, deadline=next_try, reason=reason),
        (),
    )


def _due(child: Child, now: float, timing: Timing) -> Step:
    if child.state is State.BACKOFF:
        return _spawn(child, now, timing)
    if child.state is State.STOPPING and child.aborted:
        return _replace(child, deadline=now + timing.abort_seconds), (Action.KILL,)
    reasons = {State.STARTING: Reason.SLOW_START, State.RUNNING: Reason.SILENT}
    aborted = _replace(
        child,
        state=State.STOPPING,
        deadline=now + timing.abort_seconds,
        reason=reasons.get(child.state, child.reason),
        aborted=True,
    )
    return aborted, (Action.ABORT,)


def _spawn(child: Child, now: float, timing: Timing) -> Step:
    started = _replace(
        child,
        state=State.STARTING,
        wanted=True,
        deadline=now + timing.start_seconds,
        caught_up_since=None,
        aborted=False,
    )
    return started, (Action.SPAWN,)


_replace = msgspec.structs.replace


class RestartBudget(msgspec.Struct, frozen=True):
    """Erlang's restart intensity: at most `burst` restarts within `period_seconds` for the whole instance.

    With more restarts the fault is not in one child, and the outer supervisor (systemd) takes over.
    """

    burst: int
    period_seconds: float
    restarts: tuple[float, ...] = ()

    def restarted(self, now: float) -> "RestartBudget":
        """Return the budget after one more restart at `now`."""
        recent = tuple(each for each in self.restarts if now - each < self.period_seconds)
        return _replace(self, restarts=(*recent, now))

    @property
    def exceeded(self) -> bool:
        """Say whether there were more restarts within the last period than allowed."""
        return len(self.restarts) > self.burst
