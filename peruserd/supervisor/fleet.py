"""The listeners of one instance: brought to the plan, kept alive, heard and counted.

Decisions are `core.cluster.views.difference` and `core.processes.lifecycle.step`; this carries them out. Only the
supervisor's loop changes a fleet; other threads read it through `status`.
"""

import os
import random
import secrets
import threading
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import msgspec
import structlog

from peruserd.core.cluster.views import Copy, Plan, difference
from peruserd.core.feed.rows import Sequence
from peruserd.core.ownership.hashing import document_hash
from peruserd.core.processes import lifecycle
from peruserd.core.processes.counters import Counters
from peruserd.core.processes.lifecycle import Action, Reason, RestartBudget, State, Timing
from peruserd.core.processes.messages import (
    CheckToken,
    FromListener,
    Goodbye,
    Hello,
    JournalNews,
    Reauthenticate,
    Report,
    TakeOverDoubts,
)
from peruserd.core.processes.outbox import Outbox
from peruserd.core.users.inquiries import Inquiry, InquiryPage, KeptUser
from peruserd.supervisor.fleet_status import FleetStatus
from peruserd.supervisor.listener import Conditions, SupervisedListener
from peruserd.supervisor.process import ListenerProcess
from peruserd.supervisor.questions import Questions
from peruserd.supervisor.start_request import StartMessage, StartRequest

log = structlog.get_logger(__name__)


RetiredFiles = Callable[[Collection[Copy]], tuple[str, ...]]
"""Finds the state files that belong to none of the given copies."""


class Gatekeeper(Protocol):
    """The part that lets the instance in. Its methods return at once."""

    def check_token(self, who: Hashable, number: int, node: str | None) -> None:
        """Look into a listener's doubt; `Fleet.answer` is to get it back."""

    def state(self) -> Reauthenticate:
        """Return what requests carry now."""


class Fleet:
    """The listeners of one instance. `now` is always of one monotonic clock, in seconds."""

    def __init__(
        self,
        start_message: StartMessage,
        *,
        max_in_flight: int,
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
        self._max_in_flight = max_in_flight
        self._new_per_minute = new_per_minute
        self._timing = timing
        self._budget = budget
        self._listeners: dict[Copy, SupervisedListener] = {}
        self._plan = Plan()
        self._retired = Counters()
        self._stops: dict[Reason, int] = {}
        self._restarts: dict[Copy, int] = {}
        # How far listeners had come whose copy is gone; the halves of a range that was split go on near there.
        self._left_at: dict[Copy, Sequence] = {}
        # For listeners that start later: whether the journal can be used. They read by themselves what was said.
        self._journal: JournalNews | None = None
        self._outbox = Outbox(secrets.token_hex(8))
        self._lock = threading.Lock()
        # For other threads, too: a question changes nothing here, and one without a process does not answer it.
        self.questions = Questions(self._question)

    # For the loop to wait for

    def processes(self) -> Iterable[tuple[Copy, ListenerProcess]]:
        """Return the processes to listen to."""
        return [(copy, each.process) for copy, each in self._listeners.items() if each.process is not None]

    def next_deadline(self) -> float | None:
        """Return when `run_deadlines` is due next; None while nothing is."""
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

    # Steps of the loop

    def adjust(self, plan: Plan, now: float) -> str:
        """Bring the listeners to the plan; return a sentence that says what was done."""
        with self._lock:
            self._plan = plan
            running = {copy: each.assignment for copy, each in self._listeners.items() if each.child.wanted}
            change = difference(plan, running)
            for copy in change.stop:
                self._leave(self._listeners[copy])
                self._step(self._listeners[copy], lifecycle.Unwanted(Reason.UNPLANNED), now)
            conditions = self._conditions()
            for assignment in plan.assignments:
                new = SupervisedListener(assignment, conditions)
                self._listeners.setdefault(assignment.copy, new).change(assignment, conditions)
            for assignment in change.start:
                self._step(self._listeners[assignment.copy], lifecycle.Wanted(), now)
            self._forget_the_stopped()
            before = self._outbox.number
            self._outbox.follow([each.copy for each in plan.assignments], plan.unreadable)
            self._ask_all(before)
        return f"{len(change.start)} started, {len(change.inform)} informed, {len(change.stop)} stopped"

    def receive(self, copy: Copy, now: float) -> None:
        """Take in what a listener says."""
        with self._lock:
            self._receive(self._listeners[copy], now)

    def on_exit(self, copy: Copy, now: float) -> None:
        """Take note that a listener's process is gone, as its pidfd says, and do what follows."""
        with self._lock:
            listener = self._listeners[copy]
            if listener.process is None:
                return
            self._receive(listener, now)
            code, counted = listener.reap()
            self.questions.ended(copy)
            self._retired.add(counted)
            self._step(listener, lifecycle.Exited(code, random.random()), now)  # noqa: S311 - spreads restarts
            reason = listener.child.reason or Reason.CRASHED
            self._stops[reason] = self._stops.get(reason, 0) + 1
            listener.log_end(code, now)
            self._forget_the_stopped()
            self._reassign_in_doubt()

    def run_deadlines(self, now: float) -> None:
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

    @contextmanager
    def asking(self) -> Iterator[Outbox]:
        """Give what listeners are asked for, and pass on what is added: now, or when they are up again."""
        with self._lock:
            before = self._outbox.number
            yield self._outbox
            self._ask_all(before)

    def stop(self, now: float) -> None:
        """Ask every listener to stop."""
        with self._lock:
            for listener in self._listeners.values():
                self._step(listener, lifecycle.Unwanted(Reason.SHUTDOWN), now)
            self._forget_the_stopped()

    def answer(self, checks: Mapping[Hashable, int] | None) -> None:
        """Tell listeners what requests carry now: those whose checks were looked into, or all where it is None."""
        with self._lock:
            for listener in self._listeners.values():
                if listener.process is not None and (checks is None or listener.process.pid in checks):
                    self._reauthenticate(listener.process, 0 if checks is None else checks[listener.process.pid])

    # For other threads

    def status(self) -> FleetStatus:
        """Return how the listeners stand; for any thread."""
        with self._lock:
            counters = Counters()
            counters.add(self._retired)
            for listener in self._listeners.values():
                if listener.report is not None:
                    counters.add(listener.report.counters)
            return FleetStatus(
                listeners=tuple(
                    self._listeners[copy].status(self._restarts.get(copy, 0)) for copy in sorted(self._listeners)
                ),
                counters=counters,
                stops=dict(self._stops),
                unreadable=tuple(str(each) for each in self._plan.unreadable),
            )

    @property
    def connected(self) -> tuple[str, ...]:
        """Return the nodes that listeners take for connected, none where there is no listener; for any thread."""
        with self._lock:
            return self._plan.nodes

    def kept(self, document_id: str) -> KeptUser | None:
        """Return what a listener keeps in quarantine of a user; for any thread but the loop's."""
        position = document_hash(document_id)
        with self._lock:
            copies = [copy for copy, _ in self.processes() if position in copy.range]
        return self.questions.kept(copies, document_id)

    def _question(self, copy: Copy, inquiry: Inquiry) -> None:
        with self._lock:
            listener = self._listeners.get(copy)
            if listener is not None and listener.process is not None:
                listener.process.send(inquiry)

    # Inside, with the lock held

    def _step(self, listener: SupervisedListener, event: lifecycle.Event, now: float) -> None:
        before = listener.child.state
        for action in listener.step(event, now, self._timing):
            if action is Action.SPAWN:
                self._spawn(listener, now)
                if before is State.BACKOFF:
                    self._budget = self._budget.restarted(now)
                    self._restarts[listener.copy] = self._restarts.get(listener.copy, 0) + 1
            else:
                listener.carry_out(action, self._timing)

    def _spawn(self, listener: SupervisedListener, now: float) -> None:
        try:
            process = ListenerProcess(self._start_message(self._start_request(listener)))
        except OSError as error:
            # No memory, no process, no descriptor left: to be tried again like a child that ended at once.
            log.error("listener cannot be started", copy=str(listener.copy), error=str(error))  # noqa: TRY400
            self._step(listener, lifecycle.Exited(os.EX_OSERR, random.random()), now)  # noqa: S311
            return
        listener.begin(process)

    def _start_request(self, listener: SupervisedListener) -> StartRequest:
        around = [each for each in self._left_at if each.is_around(listener.copy)]
        # The narrowest is the newest: ranges are only ever split.
        nearest = min(around, key=lambda each: each.range.width, default=None)
        return StartRequest(
            assignment=listener.assignment,
            conditions=listener.conditions,
            resume_near=None if nearest is None else self._left_at[nearest],
        )

    def _leave(self, listener: SupervisedListener) -> None:
        if listener.report is not None and listener.report.checkpoint is not None:
            self._left_at[listener.copy] = listener.report.checkpoint

    def _receive(self, listener: SupervisedListener, now: float) -> None:
        if listener.process is None:
            return
        for message in listener.process.receive():
            if isinstance(message, InquiryPage):
                self.questions.answered(listener.copy, message)
            else:
                self._take_in(listener, message, now)

    def _take_in(self, listener: SupervisedListener, message: FromListener, now: float) -> None:
        if listener.process is None:
            return
        match message:
            case Hello():
                self._step(listener, lifecycle.Greeted(), now)
                # The plan can have changed while the process started from what it was given then.
                listener.inform()
                self._reauthenticate(listener.process)
                if self._journal is not None:
                    listener.process.send(self._journal)
                self._reassign_in_doubt()
                self._ask(listener, 0)
            case Report():
                self._outbox.acknowledge(listener.copy, message.looked, message.looked_at_all)
                if listener.has_lost_its_copy(message):
                    # Perhaps it was split, and a look shows what is there instead.
                    self._on_copy_lost()
                if listener.take(message):
                    self._step(listener, lifecycle.Progressed(listener.caught_up), now)
            case CheckToken(number, node):
                # By its process: another one of the same copy would take the answer for one of its own.
                self._gatekeeper.check_token(listener.process.pid, number, node)
            case Goodbye(reason):
                log.debug("listener says goodbye", copy=str(listener.copy), reason=reason)

    def _ask_all(self, after: int) -> None:
        for listener in self._listeners.values():
            if listener.child.state is State.RUNNING:
                self._ask(listener, after)

    def _ask(self, listener: SupervisedListener, after: int) -> None:
        if listener.process is not None:
            for message in self._outbox.messages(listener.copy, after):
                listener.process.send(message)

    def _reauthenticate(self, process: ListenerProcess, answers: int = 0) -> None:
        process.send(msgspec.structs.replace(self._gatekeeper.state(), answers=answers))

    def _reassign_in_doubt(self) -> None:
        """Hand what is left in doubt of copies that nobody listens to any more to somebody who can see to it."""
        successors = (each for each in self._listeners.values() if each.child.state is State.RUNNING)
        successor = next(successors, None)
        if successor is None or successor.process is None:
            return
        if files := self._retired_files(self._listeners.keys()):
            successor.process.send(TakeOverDoubts(files))

    def _conditions(self) -> Conditions:
        """Divide the limits of the instance among the listeners of the plan; each may do something."""
        listeners = max(1, len(self._plan.assignments))
        return Conditions(
            share=max(1, self._max_in_flight // listeners),
            new_per_minute=max(1, self._new_per_minute // listeners) if self._new_per_minute else 0,
            nodes=self._plan.nodes,
            cut_off=self._plan.cut_off,
        )

    def _forget_the_stopped(self) -> None:
        for copy in [copy for copy, each in self._listeners.items() if each.child.state is State.STOPPED]:
            del self._listeners[copy]
