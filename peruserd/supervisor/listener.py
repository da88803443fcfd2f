"""One listener as its supervisor holds it: what it was told last, its life, and its process where it has one.

A report says how the listener stood when it was written, and it can be under way while the listener is told something
new. Such a report says nothing about the new assignment. So every `Inform` has a number, and a listener counts as
caught up only by a report that answers the newest one.

Nothing is decided here: the life is `core.processes.lifecycle`'s, and `fleet` says what each listener is told.
"""

import signal
from typing import Final

import msgspec
import structlog

from peruserd.core.cluster.views import Assignment, Copy
from peruserd.core.processes import lifecycle
from peruserd.core.processes.counters import Counters
from peruserd.core.processes.lifecycle import Action, Child, Reason, State, Timing
from peruserd.core.processes.messages import Inform, Report, Stage, Stop
from peruserd.supervisor.process import ListenerProcess

# The child must be done before the supervisor's own patience ends, to save its checkpoint and say goodbye.
_ASKED_SHARE: Final = 0.8

_SIGNALS: Final = {Action.ABORT: signal.SIGABRT, Action.KILL: signal.SIGKILL}

log = structlog.get_logger(__name__)


class Conditions(msgspec.Struct, frozen=True):
    """Conditions that hold for all listeners of an instance alike.

    `share` is how many users each may work on at once, `new_per_minute` how many databases each may make in a minute (0
    is no limit). `nodes` are the nodes connected in the view seen last, `cut_off` says that they are no majority.
    """

    share: int
    new_per_minute: int = 0
    nodes: tuple[str, ...] = ()
    cut_off: bool = False


class ListenerStatus(msgspec.Struct, frozen=True):
    """One listener as others may see it. `pid` is None while it has no process, `report` until its first one.

    `caught_up` says that it runs and has finished all that it was told to do, by a report that is not out of date.
    """

    copy: Copy
    state: State
    reason: Reason | None
    restarts: int
    pid: int | None
    report: Report | None
    caught_up: bool


class SupervisedListener:
    """One listener. Not thread-safe: its fleet has a lock. `now` is of the fleet's clock, in seconds."""

    def __init__(self, assignment: Assignment, conditions: Conditions) -> None:
        self.assignment = assignment
        self.conditions = conditions
        self.child = Child()
        self.process: ListenerProcess | None = None
        self.report: Report | None = None
        self._rounds = 0
        self._informs = 0

    @property
    def copy(self) -> Copy:
        """Return the copy that it follows."""
        return self.assignment.copy

    @property
    def caught_up(self) -> bool:
        """Say whether it has finished all that it was told to do."""
        report = self.report
        return (
            self.child.state is State.RUNNING
            and report is not None
            and report.informed == self._informs
            and report.caught_up
        )

    def step(self, event: lifecycle.Event, now: float, timing: Timing) -> tuple[Action, ...]:
        """Let something happen in its life; return what is to be done to its process, in order."""
        self.child, actions = lifecycle.step(self.child, event, now, timing)
        return actions

    def carry_out(self, action: Action, timing: Timing) -> None:
        """Do one of these things to its process, where it has one; but to make one is the fleet's."""
        if self.process is None:
            return
        if action is Action.ASK:
            leaving = self.child.reason is Reason.UNPLANNED
            self.process.send(Stop(timing.stop_seconds * _ASKED_SHARE, leaving))
            return
        log.warning(
            "listener does not end by itself",
            copy=str(self.copy),
            pid=self.process.pid,
            reason=self.child.reason,
            signal=_SIGNALS[action].name,
        )
        self.process.signal(_SIGNALS[action])

    def begin(self, process: ListenerProcess) -> None:
        """Take note of its new process."""
        self.process = process
        self._rounds = 0
        log.info("listener started", copy=str(self.copy), pid=process.pid)

    def change(self, assignment: Assignment, conditions: Conditions) -> None:
        """Tell it what it does from now on, if that is anything new."""
        if (assignment, conditions) != (self.assignment, self.conditions):
            self.assignment, self.conditions = assignment, conditions
            self.inform()

    def inform(self) -> None:
        """Tell it what it does; one that is not up yet is told when it says hello."""
        if self.process is None or self.child.state is not State.RUNNING:
            return
        self._informs += 1
        assignment, conditions = self.assignment, self.conditions
        self.process.send(
            Inform(
                number=self._informs,
                ownership=assignment.ownership,
                upcoming=assignment.upcoming,
                share=conditions.share,
                new_per_minute=conditions.new_per_minute,
                nodes=conditions.nodes,
                cut_off=conditions.cut_off,
            )
        )

    def has_lost_its_copy(self, report: Report) -> bool:
        """Say whether the copy could be read and by this report cannot be any more."""
        return report.stage is Stage.CONNECTING and self.report is not None and self.report.is_reading

    def take(self, report: Report) -> bool:
        """Take in how it stands; say whether that is a sign of life."""
        self.report = report
        progressed, self._rounds = report.rounds != self._rounds, report.rounds
        return progressed

    def reap(self) -> tuple[int, Counters]:
        """Forget its process, which is gone; return the exit code, and what it counted."""
        if self.process is None:
            raise RuntimeError(f"{self.copy} has no process")
        code = self.process.reap()
        self.process = None
        if self.report is None:
            return code, Counters()
        counted = self.report.counters
        # The fleet goes on with its counters; the rest of the report is still the last that is known.
        self.report = msgspec.structs.replace(self.report, counters=Counters(), in_flight=0)
        return code, counted

    def log_end(self, code: int, now: float) -> None:
        """Say in the log how its process ended and what follows."""
        child = self.child
        report = log.info if child.state in (State.STOPPED, State.STARTING) else log.warning
        report(
            "listener ended",
            copy=str(self.copy),
            code=code,
            reason=(child.reason or Reason.CRASHED).value,
            state=child.state.value,
            restart_in_seconds=None if child.deadline is None else round(child.deadline - now, 3),
        )

    def status(self, restarts: int) -> ListenerStatus:
        """Return how it stands, after so many restarts of this copy's listener."""
        return ListenerStatus(
            copy=self.copy,
            state=self.child.state,
            reason=self.child.reason,
            restarts=restarts,
            pid=None if self.process is None else self.process.pid,
            report=self.report,
            caught_up=self.caught_up,
        )
