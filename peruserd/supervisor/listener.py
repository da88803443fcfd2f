"""One listener as its supervisor sees it: its assignment, its state, and its process while it has one.

A report shows the listener at the moment at which it was written. It can cross an `Inform` message with a new
assignment, about which the report says nothing. So every `Inform` has a number. A listener counts as caught up only if
its report has the newest number.

Nothing is decided here: `core.processes.lifecycle` decides about the process, and `fleet` about the assignment.
"""

import signal
from typing import Final

import msgspec
import structlog

from peruserd.core.cluster.views import Assignment, Copy, Plan
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.processes import lifecycle
from peruserd.core.processes.counters import Counters
from peruserd.core.processes.lifecycle import Action, Child, Reason, State, Timing
from peruserd.core.processes.messages import Inform, Report, Stage, Stop
from peruserd.supervisor.process import ListenerProcess

# The child gets this part of the supervisor's time, so that it has saved its checkpoint before the supervisor aborts
# it.
_ASKED_SHARE: Final = 0.8

_SIGNALS: Final = {Action.ABORT: signal.SIGABRT, Action.KILL: signal.SIGKILL}

log = structlog.get_logger(__name__)


class Conditions(msgspec.Struct, frozen=True):
    """Conditions that hold for all listeners of an instance alike.

    - `share` is how many users each listener may work on at once.
    - `new_per_minute` is how many databases each may make in a minute; 0 is no limit.
    - `nodes` are the nodes connected in the view seen last; `cut_off` says that they are no majority.
    """

    share: int
    new_per_minute: int = 0
    nodes: tuple[str, ...] = ()
    cut_off: bool = False

    @classmethod
    def divided(cls, plan: Plan, max_in_flight: int, new_per_minute: int) -> "Conditions":
        """Divide the limits of the instance among the listeners of a plan; each gets at least 1."""
        listeners = max(1, len(plan.assignments))
        return cls(
            share=max(1, max_in_flight // listeners),
            new_per_minute=max(1, new_per_minute // listeners) if new_per_minute else 0,
            nodes=plan.nodes,
            cut_off=plan.cut_off,
        )


class ListenerStatus(msgspec.Struct, frozen=True):
    """The status of one listener. `pid` is None while it has no process, `report` before its first report.

    - `caught_up` and `is_reading` are those of `SupervisedListener`. `starts` counts its processes.
    - `failures` are the unplanned ends since it had last recovered.
    - `ownership` is that of its newest assignment.
    - `retired_cpu_seconds` is the processor time of its processes that have ended.
    """

    copy: Copy
    state: State
    reason: Reason | None
    restarts: int
    pid: int | None
    report: Report | None
    caught_up: bool
    ownership: Ownership | None = None
    failures: int = 0
    is_reading: bool = False
    starts: int = 0
    retired_cpu_seconds: float = 0.0


class SupervisedListener:
    """One listener. Not thread-safe: its fleet has a lock. `now` is of the fleet's clock, in seconds."""

    def __init__(self, assignment: Assignment, conditions: Conditions) -> None:
        self.assignment = assignment
        self.conditions = conditions
        self.child = Child()
        self.process: ListenerProcess | None = None
        self.report: Report | None = None
        # Whether the process was started with an older configuration.
        self.outdated = False
        self._reported = False
        self._retired_cpu_seconds = 0.0
        self._starts = 0
        self._rounds = 0
        self._informs = 0

    @property
    def copy(self) -> Copy:
        """Return the copy that the listener follows."""
        return self.assignment.copy

    @property
    def caught_up(self) -> bool:
        """Say whether the listener runs and, by a report with its newest assignment, has caught up.

        By then it has finished the rows of its first backlog and every scan that users wait for, and is not on hold.
        Users in quarantine do not count, because their rows are finished.
        """
        report = self.report
        return (
            self.child.state is State.RUNNING
            and report is not None
            and report.informed == self._informs
            and report.caught_up
        )

    @property
    def is_reading(self) -> bool:
        """Say whether its process reads its copy, as that process has reported."""
        is_up = self.child.state is State.RUNNING and self._reported
        return is_up and self.report is not None and self.report.is_reading

    @property
    def is_to_be_renewed(self) -> bool:
        """Say whether only a new process would bring the configuration that is in force."""
        return self.outdated and self.child.state in (State.STARTING, State.RUNNING)

    def step(self, event: lifecycle.Event, now: float, timing: Timing) -> tuple[Action, ...]:
        """Handle an event of its life cycle; return the actions on its process, in order."""
        self.child, actions = lifecycle.step(self.child, event, now, timing)
        return actions

    def carry_out(self, action: Action, timing: Timing) -> None:
        """Do one of these actions to its process, if it has one. Only the fleet carries out SPAWN."""
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
        """Begin with a new process."""
        self.process = process
        self.outdated = self._reported = False
        self._starts += 1
        self._rounds = 0
        log.info("listener started", copy=str(self.copy), pid=process.pid)

    def change(self, assignment: Assignment, conditions: Conditions) -> None:
        """Give the listener its assignment and conditions, if they have changed."""
        if (assignment, conditions) != (self.assignment, self.conditions):
            self.assignment, self.conditions = assignment, conditions
            self.inform()

    def inform(self) -> None:
        """Send its assignment to the listener; one that has not started yet gets it after its hello."""
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
        """Say whether the copy could be read before, and by this report cannot be read any more."""
        return report.stage is Stage.CONNECTING and self.report is not None and self.report.is_reading

    def take_report(self, report: Report) -> bool:
        """Keep a report; say whether it is a sign of life."""
        self.report = report
        self._reported = True
        progressed, self._rounds = report.rounds != self._rounds, report.rounds
        return progressed

    def reap(self) -> tuple[int, Counters]:
        """Forget its process, which has ended; return the exit code and the process's counters."""
        if self.process is None:
            raise RuntimeError(f"{self.copy} has no process")
        code = self.process.reap()
        self.process = None
        if self.report is None:
            return code, Counters()
        counted = self.report.counters
        if self.report.usage is not None:
            self._retired_cpu_seconds += self.report.usage.cpu_seconds
        # The fleet keeps the counters. The rest of the report stays, because it is the newest there is.
        self.report = msgspec.structs.replace(self.report, counters=Counters(), in_flight=0, usage=None)
        return code, counted

    def log_end(self, code: int, now: float) -> None:
        """Log how its process ended, and when the next one starts."""
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
        """Return the status; `restarts` is how often this copy's listener was restarted."""
        return ListenerStatus(
            copy=self.copy,
            state=self.child.state,
            reason=self.child.reason,
            restarts=restarts,
            pid=None if self.process is None else self.process.pid,
            report=self.report,
            caught_up=self.caught_up,
            ownership=self.assignment.ownership,
            retired_cpu_seconds=self._retired_cpu_seconds,
            failures=self.child.failures,
            is_reading=self.is_reading,
            starts=self._starts,
        )
