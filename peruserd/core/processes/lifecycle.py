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
    BACKOFF             Unwanted                                   STOPPED
    STARTING, RUNNING   Ordered                                    STOPPING, ask
    BACKOFF             Ordered                                    STARTING, spawn

    Any with a process  Exited, and it is not wanted               STOPPED
    STOPPING            Exited as planned, and it is wanted        STARTING, spawn
    Any with a process  Exited otherwise, and it is wanted         BACKOFF

The first row that fits counts. All other events leave the state as it is. An end is planned if the plan has dropped the
child and taken it up again, or if somebody has ordered a new start. Only other ends make the next pause longer.

Invariant: SPAWN only follows a `Wanted` in STOPPED, an `Exited`, or a `Due` or `Ordered` in BACKOFF. So a successor
never starts before its predecessor is known to be gone.
"""

from enum import Enum, StrEnum
from typing import Final

import msgspec

from peruserd.core.common.backoff import Backoff

EXIT_AGAIN: Final = 75
"""The exit code of a child whose end has a cause outside of it, such as a full disk (sysexits' EX_TEMPFAIL)."""


class State(StrEnum):
    """The states of a child, in supervisord's words."""

    STARTING = "starting"
    RUNNING = "running"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Reason(StrEnum):
    """The reason why a child was stopped, or ended. It is logged, and exported as a label."""

    UNPLANNED = "unplanned"  # the plan no longer has its copy
    SHUTDOWN = "shutdown"
    CRASHED = "crashed"
    SLOW_START = "slow_start"
    SILENT = "silent"  # its feed loop made no round for too long
    AGAIN = "again"  # it asked for another start with its exit code: the disk is full, or its copy was replaced
    ORDERED = "ordered"  # an operator ordered a new start, or a reload needs one


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
    # A child that fails in a row is left alone for minutes, because each start costs the others some time.
    backoff: Backoff = Backoff(initial_seconds=0.5, max_seconds=120.0)
    # A cause outside of the child can end at any time, and a start that meets it costs little.
    again: Backoff = Backoff(initial_seconds=0.5, max_seconds=15.0)


class Child(msgspec.Struct, frozen=True):
    """The state of one child. Times are of the caller's monotonic clock. `deadline` is the time of the next `Due`.

    - `failures` counts the unplanned ends since the child had last recovered.
    - `faults` counts those of them whose cause may be in this instance; see `EXIT_AGAIN`.
    """

    state: State = State.STOPPED
    wanted: bool = False
    failures: int = 0
    faults: int = 0
    deadline: float | None = None
    caught_up_since: float | None = None
    reason: Reason | None = None
    aborted: bool = False


class Wanted(msgspec.Struct, frozen=True):
    """The plan has this child's copy."""


class Unwanted(msgspec.Struct, frozen=True):
    """The plan no longer has this child's copy, or the instance stops."""

    reason: Reason


class Ordered(msgspec.Struct, frozen=True):
    """A new process is to take the place of this one. It says nothing about the child's health."""


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


class Awoke(msgspec.Struct, frozen=True):
    """The supervisor itself stood still, perhaps with all its children, so silence meanwhile says nothing."""


Event = Wanted | Unwanted | Ordered | Greeted | Progressed | Exited | Due | Awoke
Step = tuple[Child, tuple[Action, ...]]

_ALIVE: Final = (State.STARTING, State.RUNNING)

# A child that ends for one of these reasons, and is wanted, is started again at once.
_PLANNED: Final = (Reason.UNPLANNED, Reason.SHUTDOWN, Reason.ORDERED)


def step(child: Child, event: Event, now: float, timing: Timing) -> Step:
    """Return the child after `event`, and the actions on its process, in order."""
    match event:
        case Wanted():
            return _wanted(child, now, timing)
        case Unwanted(reason):
            return _unwanted(child, reason, now, timing)
        case Ordered():
            return _ordered(child, now, timing)
        case Greeted() | Awoke() if child.state in _ALIVE:
            return _up(child, event, now, timing), ()
        case Progressed(caught_up) if child.state is State.RUNNING:
            return _progressed(child, caught_up=caught_up, now=now, timing=timing), ()
        case Exited(code, chance):
            return _exited(child, code, chance, now, timing)
        case Due() if child.deadline is not None and now >= child.deadline:
            return _due(child, now, timing)
        case _:
            # The message was under way when the child's state changed, and has no meaning any more.
            return child, ()


def _wanted(child: Child, now: float, timing: Timing) -> Step:
    if child.state is State.STOPPED:
        return _spawn(child, now, timing)
    return _replace(child, wanted=True), ()


def _up(child: Child, event: Greeted | Awoke, now: float, timing: Timing) -> Child:
    """Give a child its whole time: to make its next round, or to greet if it stood still before that."""
    if isinstance(event, Greeted):
        is_new = child.state is State.STARTING
        return _replace(child, state=State.RUNNING, deadline=now + timing.silence_seconds) if is_new else child
    patience = timing.start_seconds if child.state is State.STARTING else timing.silence_seconds
    return _replace(child, deadline=now + patience)


def _unwanted(child: Child, reason: Reason, now: float, timing: Timing) -> Step:
    if child.state in _ALIVE:
        return _ask(_replace(child, wanted=False), reason, now, timing)
    if child.state is State.STOPPING:
        return _replace(child, wanted=False, reason=reason), ()
    return _replace(child, state=State.STOPPED, wanted=False, deadline=None, reason=reason), ()


def _ordered(child: Child, now: float, timing: Timing) -> Step:
    # Whoever orders it may have cured the cause, so the next failure counts as the first one.
    renewed = _replace(child, failures=0, faults=0)
    if child.state in _ALIVE:
        return _ask(renewed, Reason.ORDERED, now, timing)
    if child.state is State.BACKOFF:
        return _spawn(renewed, now, timing)
    return child, ()


def _ask(child: Child, reason: Reason, now: float, timing: Timing) -> Step:
    stopping = _replace(child, state=State.STOPPING, deadline=now + timing.stop_seconds, reason=reason, aborted=False)
    return stopping, (Action.ASK,)


def _progressed(child: Child, *, caught_up: bool, now: float, timing: Timing) -> Child:
    since = (now if child.caught_up_since is None else child.caught_up_since) if caught_up else None
    recovered = since is not None and now - since >= timing.recovery_seconds
    return _replace(
        child,
        deadline=now + timing.silence_seconds,
        caught_up_since=since,
        failures=0 if recovered else child.failures,
        faults=0 if recovered else child.faults,
    )


def _exited(child: Child, code: int, chance: float, now: float, timing: Timing) -> Step:
    gone = _replace(child, deadline=None, caught_up_since=None, aborted=False)
    if not child.wanted:
        return _replace(gone, state=State.STOPPED), ()
    if child.state is State.STOPPING and child.reason in _PLANNED:
        return _spawn(gone, now, timing)
    reason = child.reason if child.state is State.STOPPING else _reason_of(code)
    is_fault = reason is not Reason.AGAIN
    pauses = timing.backoff if is_fault else timing.again
    failures = child.failures + 1
    waiting = _replace(
        gone,
        state=State.BACKOFF,
        failures=failures,
        faults=child.faults + is_fault,
        deadline=now + pauses.delay(failures, chance),
        reason=reason,
    )
    return waiting, ()


def _reason_of(code: int) -> Reason:
    """Return why a process ended that nobody had stopped."""
    return Reason.AGAIN if code == EXIT_AGAIN else Reason.CRASHED


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
