"""The listeners of one instance: brought to the plan, kept alive, heard and counted.

Decisions are `core.views.difference` and `core.lifecycle.step`; this carries them out. Only the supervisor's loop
changes a fleet; other threads read it through `status`.
"""

import os
import random
import signal
import threading
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from typing import Final, Protocol

import msgspec
import structlog

from peruserd.core import lifecycle
from peruserd.core.counters import Counters
from peruserd.core.lifecycle import Action, Child, Reason, RestartBudget, State, Timing
from peruserd.core.messages import (
    Doubt,
    FromListener,
    Goodbye,
    Hello,
    Inform,
    Inherit,
    JournalNews,
    ListenerStart,
    Reauthenticate,
    Report,
    Sequence,
    Stage,
    Stop,
)
from peruserd.core.views import Assignment, Copy, Plan, difference
from peruserd.supervisor.process import ListenerProcess

log = structlog.get_logger(__name__)


class StartRequest(msgspec.Struct, frozen=True):
    """What a listener is started for.

    `share` is its part of the work in flight, `new_per_minute` of the databases that may be made in a minute (0 is no
    limit), `begin_near` where a listener of a range around its own had come to. `nodes` are connected.
    """

    assignment: Assignment
    share: int
    begin_near: Sequence | None
    new_per_minute: int = 0
    nodes: tuple[str, ...] = ()


StartMessage = Callable[[StartRequest], ListenerStart]
"""Makes the start message of a listener."""

RetiredFiles = Callable[[Collection[Copy]], tuple[str, ...]]
"""Finds the state files that belong to none of the given copies."""


class Gatekeeper(Protocol):
    """Whoever lets the instance in. Its methods return at once."""

    def doubt(self, who: Hashable, number: int, node: str | None) -> None:
        """Look into a listener's doubt; `Fleet.answer` is to get it back."""

    def state(self) -> Reauthenticate:
        """Return what requests carry now."""


class ListenerStatus(msgspec.Struct, frozen=True):
    """One listener as others may see it. `pid` is None while it has no process, `report` until its first one."""

    copy: Copy
    state: State
    reason: Reason | None
    restarts: int
    pid: int | None
    report: Report | None


class FleetStatus(msgspec.Struct, frozen=True):
    """All listeners, the counters of all that ever ran, and the parts of the plan nobody can read."""

    listeners: tuple[ListenerStatus, ...]
    counters: Counters
    stops: dict[Reason, int]
    unreadable: tuple[str, ...]

    @property
    def ready(self) -> bool:
        """Say whether every listener of the plan has caught up."""
        return bool(self.listeners) and all(
            each.state is State.RUNNING and each.report is not None and each.report.caught_up for each in self.listeners
        )

    @property
    def healthy(self) -> bool:
        """Say whether no listener has given up."""
        return all(each.state is not State.FAILED for each in self.listeners)


class _Listener:
    """One listener: the assignment it was told last, its life, and its process where it has one."""

    def __init__(self, assignment: Assignment, share: int) -> None:
        self.assignment = assignment
        self.share = share
        self.child = Child()
        self.process: ListenerProcess | None = None
        self.report: Report | None = None
        self.beats = 0


class Fleet:
    """The listeners of one instance. `now` is always of one monotonic clock, in seconds."""

    def __init__(
        self,
        start_message: StartMessage,
        *,
        most_in_flight: int,
        new_per_minute: int = 0,
        timing: Timing,
        budget: RestartBudget,
        retired_files: RetiredFiles,
        on_copy_lost: Callable[[], None],
        gatekeeper: Gatekeeper,
    ) -> None:
        self._start_message = start_message
        self._retired_files = retired_files
        self._on_copy_lost = on_copy_lost
        self._gatekeeper = gatekeeper
        self._most_in_flight = most_in_flight
        self._new_per_minute = new_per_minute
        self._timing = timing
        self._budget = budget
        self._listeners: dict[Copy, _Listener] = {}
        self._plan = Plan()
        self._retired = Counters()
        self._stops: dict[Reason, int] = {}
        self._restarts: dict[Copy, int] = {}
        # How far listeners had come whose copy is gone; the halves of a range that was split go on near there.
        self._left_at: dict[Copy, Sequence] = {}
        # What a listener that starts has to know of the journal: whatever was said it reads.
        self._journal: JournalNews | None = None
        self._lock = threading.Lock()

    # What the loop waits for

    def processes(self) -> Iterable[tuple[Copy, ListenerProcess]]:
        """Return the processes to listen to."""
        return [(copy, each.process) for copy, each in self._listeners.items() if each.process is not None]

    def next_deadline(self) -> float | None:
        """Return when `mind_deadlines` is due next; None while nothing is."""
        return min(
            (each.child.deadline for each in self._listeners.values() if each.child.deadline is not None), default=None
        )

    @property
    def exhausted(self) -> bool:
        """Say whether there were more restarts than allowed: then the fault is not one listener's."""
        return self._budget.exceeded

    @property
    def idle(self) -> bool:
        """Say whether no process is left."""
        return not any(True for _ in self.processes())

    # What the loop does

    def adjust(self, plan: Plan, now: float) -> str:
        """Bring the listeners to the plan; return a sentence that says what was done."""
        with self._lock:
            # What every listener is told: who is connected, and among how many the limits are divided.
            before, self._plan = self._plan, plan
            all_change = (before.nodes, len(before.assignments)) != (plan.nodes, len(plan.assignments))
            running = {copy: each.assignment for copy, each in self._listeners.items() if each.child.wanted}
            change = difference(plan, running)
            for copy in change.stop:
                self._leave(self._listeners[copy])
                self._step(self._listeners[copy], lifecycle.Unwanted(Reason.UNPLANNED), now)
            share = self._share(len(plan.assignments))
            for assignment in change.inform:
                self._listeners[assignment.copy].assignment = assignment
            for assignment in change.start:
                listener = self._listeners.setdefault(assignment.copy, _Listener(assignment, share))
                listener.assignment = assignment
                self._step(listener, lifecycle.Wanted(), now)
            self._inform({each.copy for each in (plan.assignments if all_change else change.inform)}, share)
            self._forget_the_stopped()
        return f"{len(change.start)} started, {len(change.inform)} informed, {len(change.stop)} stopped"

    def hear(self, copy: Copy, now: float) -> None:
        """Take in what a listener says."""
        with self._lock:
            self._hear(self._listeners[copy], now)

    def bury(self, copy: Copy, now: float) -> None:
        """Take note that a listener's process is gone, as its pidfd says, and do what follows."""
        with self._lock:
            listener = self._listeners[copy]
            if listener.process is None:
                return
            self._hear(listener, now)
            code = listener.process.reap()
            listener.process = None
            if listener.report is not None:
                self._retired.add(listener.report.counters)
                # Its counters live on in the retired sum; the rest of the report is still the last that is known.
                listener.report = msgspec.structs.replace(
                    listener.report, counters=Counters(), caught_up=False, in_flight=0
                )
            self._step(listener, lifecycle.Exited(code, random.random()), now)  # noqa: S311 - spreads restarts
            self._note_end(listener, code, now)
            self._forget_the_stopped()
            self._bequeath()

    def mind_deadlines(self, now: float) -> None:
        """Do what is due: restart after a back-off, abort what hangs, kill what survives that."""
        with self._lock:
            for listener in list(self._listeners.values()):
                if listener.child.deadline is not None and now >= listener.child.deadline:
                    self._step(listener, lifecycle.Due(), now)

    def pass_on(self, news: JournalNews) -> None:
        """Tell every listener what became known of the journal of deletions; one that starts later is told as well."""
        with self._lock:
            self._journal = JournalNews(news.usable)
            for listener in self._listeners.values():
                if listener.process is not None:
                    listener.process.send(news)

    def stop(self, now: float) -> None:
        """Ask every listener to stop."""
        with self._lock:
            for listener in self._listeners.values():
                self._step(listener, lifecycle.Unwanted(Reason.SHUTDOWN), now)
            self._forget_the_stopped()

    def answer(self, doubts: Mapping[Hashable, int] | None) -> None:
        """Tell listeners what requests carry now: those whose doubts were looked into, or all where it is None."""
        with self._lock:
            for listener in self._listeners.values():
                if listener.process is not None and (doubts is None or listener.process.pid in doubts):
                    self._reauthenticate(listener.process, 0 if doubts is None else doubts[listener.process.pid])

    # What other threads see

    def status(self) -> FleetStatus:
        """Return how the listeners stand; for any thread."""
        with self._lock:
            counters = Counters()
            counters.add(self._retired)
            for listener in self._listeners.values():
                if listener.report is not None:
                    counters.add(listener.report.counters)
            return FleetStatus(
                listeners=tuple(self._status_of(self._listeners[copy]) for copy in sorted(self._listeners)),
                counters=counters,
                stops=dict(self._stops),
                unreadable=tuple(str(each) for each in self._plan.unreadable),
            )

    # Inside, with the lock held

    def _step(self, listener: _Listener, event: lifecycle.Event, now: float) -> None:
        before = listener.child
        listener.child, actions = lifecycle.step(before, event, now, self._timing)
        for action in actions:
            self._carry_out(action, listener, now, restart=before.state is State.BACKOFF)

    def _carry_out(self, action: Action, listener: _Listener, now: float, *, restart: bool) -> None:
        if action is Action.SPAWN:
            self._spawn(listener, now)
            if restart:
                self._budget = self._budget.restarted(now)
                copy = listener.assignment.copy
                self._restarts[copy] = self._restarts.get(copy, 0) + 1
        elif listener.process is None:
            return
        elif action is Action.ASK:
            leaving = listener.child.reason is Reason.UNPLANNED
            listener.process.send(Stop(self._timing.stop_seconds * _ASKED_SHARE, leaving))
        else:
            log.warning(
                "listener does not end by itself",
                copy=str(listener.assignment.copy),
                pid=listener.process.pid,
                reason=listener.child.reason,
                signal=_SIGNALS[action].name,
            )
            listener.process.signal(_SIGNALS[action])

    def _spawn(self, listener: _Listener, now: float) -> None:
        listener.beats = 0
        try:
            listener.process = ListenerProcess(self._start_message(self._start_request(listener)))
        except OSError as error:
            # No memory, no process, no descriptor left: to be tried again like a child that ended at once.
            log.error("listener cannot be started", copy=str(listener.assignment.copy), error=str(error))  # noqa: TRY400
            self._step(listener, lifecycle.Exited(os.EX_OSERR, random.random()), now)  # noqa: S311
            return
        log.info("listener started", copy=str(listener.assignment.copy), pid=listener.process.pid)

    def _start_request(self, listener: _Listener) -> StartRequest:
        copy = listener.assignment.copy
        around = [each for each in self._left_at if each.is_around(copy)]
        # The narrowest is the newest: ranges are only ever split.
        nearest = min(around, key=lambda each: each.range.width, default=None)
        return StartRequest(
            assignment=listener.assignment,
            share=listener.share,
            begin_near=None if nearest is None else self._left_at[nearest],
            new_per_minute=self._creations(),
            nodes=self._plan.nodes,
        )

    def _leave(self, listener: _Listener) -> None:
        if listener.report is not None and listener.report.checkpoint is not None:
            self._left_at[listener.assignment.copy] = listener.report.checkpoint

    def _hear(self, listener: _Listener, now: float) -> None:
        if listener.process is None:
            return
        for message in listener.process.receive():
            self._take_in(listener, message, now)

    def _take_in(self, listener: _Listener, message: FromListener, now: float) -> None:
        if listener.process is None:
            return
        match message:
            case Hello():
                self._step(listener, lifecycle.Greeted(), now)
                # The plan can have changed while the process started from what it was given then.
                self._tell(listener)
                self._reauthenticate(listener.process)
                if self._journal is not None:
                    listener.process.send(self._journal)
                self._bequeath()
            case Report():
                if message.stage is Stage.CONNECTING and listener.report is not None and listener.report.is_reading:
                    # It was read and cannot be any more: perhaps it was split, and a look shows what is there instead.
                    self._on_copy_lost()
                listener.report = message
                if message.beats != listener.beats:
                    listener.beats = message.beats
                    self._step(listener, lifecycle.Beaten(message.caught_up), now)
            case Doubt(number, node):
                # By its process: another one of the same copy would take the answer for one of its own.
                self._gatekeeper.doubt(listener.process.pid, number, node)
            case Goodbye(reason):
                log.debug("listener says goodbye", copy=str(listener.assignment.copy), reason=reason)

    def _note_end(self, listener: _Listener, code: int, now: float) -> None:
        child = listener.child
        reason = child.reason or Reason.CRASHED
        self._stops[reason] = self._stops.get(reason, 0) + 1
        restart = None if child.deadline is None else round(child.deadline - now, 3)
        report = log.info if child.state in (State.STOPPED, State.STARTING) else log.warning
        report(
            "listener ended",
            copy=str(listener.assignment.copy),
            code=code,
            reason=reason.value,
            state=child.state.value,
            restart_in_seconds=restart,
        )

    def _inform(self, changed: set[Copy], share: int) -> None:
        for copy, listener in self._listeners.items():
            if listener.share != share or copy in changed:
                listener.share = share
                self._tell(listener)

    def _tell(self, listener: _Listener) -> None:
        if listener.process is not None and listener.child.state is State.RUNNING:
            assignment = listener.assignment
            listener.process.send(
                Inform(assignment.ownership, assignment.coming, listener.share, self._creations(), self._plan.nodes)
            )

    def _reauthenticate(self, process: ListenerProcess, answers: int = 0) -> None:
        process.send(msgspec.structs.replace(self._gatekeeper.state(), answers=answers))

    def _bequeath(self) -> None:
        """Hand what is left in doubt of copies that nobody listens to any more to somebody who can see to it."""
        heirs = (each for each in self._listeners.values() if each.child.state is State.RUNNING)
        heir = next(heirs, None)
        if heir is None or heir.process is None:
            return
        if files := self._retired_files(self._listeners.keys()):
            heir.process.send(Inherit(files))

    def _share(self, listeners: int) -> int:
        return max(1, self._most_in_flight // max(1, listeners))

    def _creations(self) -> int:
        """Return how many databases one listener may make in a minute, at least one; 0 is no limit."""
        if not self._new_per_minute:
            return 0
        return max(1, self._new_per_minute // max(1, len(self._plan.assignments)))

    def _forget_the_stopped(self) -> None:
        for copy in [copy for copy, each in self._listeners.items() if each.child.state is State.STOPPED]:
            del self._listeners[copy]

    def _status_of(self, listener: _Listener) -> ListenerStatus:
        return ListenerStatus(
            copy=listener.assignment.copy,
            state=listener.child.state,
            reason=listener.child.reason,
            restarts=self._restarts.get(listener.assignment.copy, 0),
            pid=None if listener.process is None else listener.process.pid,
            report=listener.report,
        )


# The child must be done before the supervisor's own patience ends, to save its checkpoint and say goodbye.
_ASKED_SHARE: Final = 0.8

_SIGNALS: Final = {Action.ABORT: signal.SIGABRT, Action.KILL: signal.SIGKILL}
