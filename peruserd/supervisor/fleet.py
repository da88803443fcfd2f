"""The listeners of one instance: the fleet starts and stops them by the plan, restarts them and sums their counters.

`core.cluster.views.difference` and `core.processes.lifecycle.step` decide. Only the supervisor's loop changes a fleet.
"""

import os
import random
import secrets
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
import structlog

from peruserd.core.cluster.views import Copy, Plan, difference
from peruserd.core.ownership.hashing import document_hash
from peruserd.core.processes import lifecycle
from peruserd.core.processes.counters import Counters
from peruserd.core.processes.lifecycle import Action, Reason, State, Timing
from peruserd.core.processes.messages import (
    CheckToken,
    FromListener,
    Goodbye,
    Hello,
    JournalNews,
    Report,
)
from peruserd.core.processes.outbox import Outbox
from peruserd.core.processes.renewal import Renewal
from peruserd.core.processes.restarts import RestartBudget
from peruserd.core.processes.shortages import is_of_others
from peruserd.core.users.inquiries import Inquiry, InquiryPage, KeptUser
from peruserd.supervisor.descriptors import DescriptorWatch
from peruserd.supervisor.fleet_status import FleetStatus, Published, status_of
from peruserd.supervisor.gatekeeper import Gatekeeper
from peruserd.supervisor.listener import Conditions, SupervisedListener
from peruserd.supervisor.process import ListenerProcess
from peruserd.supervisor.questions import Questions
from peruserd.supervisor.start_request import Departures, FleetSettings, StartMessage
from peruserd.supervisor.succession import Succession

log = structlog.get_logger(__name__)


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
        state_file: Callable[[Copy], Path],
        on_copy_lost: Callable[[], None],
        gatekeeper: Gatekeeper,
    ) -> None:
        self._start_message = start_message
        self._succession = Succession(state_file)
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
        self._departures = Departures()
        self._descriptors = DescriptorWatch()
        # The last news of the journal, without the words. Each new listener gets this news, and reads the words itself.
        self._journal: JournalNews | None = None
        self._outbox = Outbox(secrets.token_hex(8))
        self._renewal = Renewal()
        self._lock = threading.Lock()
        self._published = Published(self._lock, self._status)
        # Other threads use this too: a question changes nothing here, and a listener without a process does not answer.
        self.questions = Questions(self._question)

    # For the loop to wait for

    def processes(self) -> Iterable[tuple[Copy, ListenerProcess]]:
        """Return each process with its copy. The loop waits for messages and ends of these processes."""
        return [(copy, each.process) for copy, each in self._listeners.items() if each.process is not None]

    def next_deadline(self) -> float | None:
        """Return when `run_deadlines` is due next; None while nothing is."""
        has_outdated = any(each.is_to_be_renewed for each in self._listeners.values())
        dates = [self._renewal.deadline(has_outdated=has_outdated)]
        dates += [each.child.deadline for each in self._listeners.values()]
        return min((each for each in dates if each is not None), default=None)

    @property
    def exhausted(self) -> bool:
        """Say whether most listeners fail in a row, so that a restart of the whole instance may help."""
        with self._lock:
            return self._budget.exceeded(each.child for each in self._listeners.values())

    @property
    def idle(self) -> bool:
        """Say whether no process is left."""
        return not any(True for _ in self.processes())

    # Steps of the loop

    def adjust(self, plan: Plan, now: float) -> str:
        """Start, inform and stop listeners until they match the plan; return a sentence for the log."""
        with self._lock:
            self._plan = plan
            running = {copy: each.assignment for copy, each in self._listeners.items() if each.child.wanted}
            change = difference(plan, running)
            for copy in change.stop:
                self._departures.note(self._listeners[copy])
                self._step(self._listeners[copy], lifecycle.Unwanted(Reason.UNPLANNED), now)
            conditions = self._divided()
            for assignment in plan.assignments:
                new = SupervisedListener(assignment, conditions)
                self._listeners.setdefault(assignment.copy, new).change(assignment, conditions)
            # Whoever takes over state files hears of the new ones before these are opened.
            self._succession.send(self._listeners)
            for assignment in change.start:
                self._step(self._listeners[assignment.copy], lifecycle.Wanted(), now)
            self._forget_the_stopped()
            before = self._outbox.number
            self._outbox.follow([each.copy for each in plan.assignments], plan.unreadable)
            self._ask_all(before)
        return f"{len(change.start)} started, {len(change.inform)} informed, {len(change.stop)} stopped"

    def receive(self, copy: Copy, now: float) -> None:
        """Read and handle the messages of a listener."""
        with self._lock:
            self._receive(self._listeners[copy], now)

    def on_exit(self, copy: Copy, now: float) -> None:
        """Handle the end of a listener's process, once its pidfd has become readable."""
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
            self._succession.send(self._listeners)

    def awake(self, now: float) -> None:
        """Give every listener its whole time again, because the supervisor's loop stood still."""
        with self._lock:
            for each in self._listeners.values():
                self._step(each, lifecycle.Awoke(), now)

    def run_deadlines(self, now: float) -> None:
        """Do what is due: restart after a back-off, abort, kill, or renew a listener with an older configuration."""
        with self._lock:
            for listener in list(self._listeners.values()):
                if listener.child.deadline is not None and now >= listener.child.deadline:
                    self._step(listener, lifecycle.Due(), now)
            outdated = [copy for copy, each in self._listeners.items() if each.is_to_be_renewed]
            reading = {copy: each.is_reading for copy, each in self._listeners.items() if copy not in outdated}
            self._renewal, due = self._renewal.next(outdated, reading, now)
            if due is not None:
                self._step(self._listeners[due], lifecycle.Ordered(), now)

    def reconfigure(self, settings: FleetSettings) -> None:
        """Take over new settings. Listeners are told at once, and those that need a new process get it in turn."""
        with self._lock:
            self._start_message = settings.start_message
            self._max_in_flight, self._new_per_minute = settings.max_in_flight, settings.new_per_minute
            conditions = self._divided()
            for listener in self._listeners.values():
                listener.outdated |= settings.renews
                if listener.process is not None:
                    listener.process.send(settings.message)
                listener.change(listener.assignment, conditions)

    def restart(self, copy: Copy, now: float) -> bool:
        """Start a listener anew, because somebody has ordered it; return whether there is such a listener.

        It finishes its work in flight first, and need not wait for its next try. The restart counts for no budget.
        """
        with self._lock:
            listener = self._listeners.get(copy)
            if listener is None or not listener.child.wanted:
                return False
            self._step(listener, lifecycle.Ordered(), now)
            return True

    def retire_state(self) -> None:
        """Let state files of copies that are not in the plan be taken over, once all living instances are known."""
        with self._lock:
            self._succession.begin(self._listeners)

    def send_journal_news(self, news: JournalNews) -> None:
        """Send news of the journal of deletions to every listener, also to those that start later."""
        with self._lock:
            self._journal = JournalNews(news.usable)
            for listener in self._listeners.values():
                if listener.process is not None:
                    listener.process.send(news)

    @contextmanager
    def asking(self) -> Iterator[Outbox]:
        """Give the outbox of looks. Looks that the caller adds are sent now, or once the listener has started again."""
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

    def send_token(self, checks: Mapping[Hashable, int] | None) -> None:
        """Send the current token to the listeners whose checks are answered, or to all if `checks` is None."""
        with self._lock:
            for listener in self._listeners.values():
                if listener.process is not None and (checks is None or listener.process.pid in checks):
                    self._reauthenticate(listener.process, 0 if checks is None else checks[listener.process.pid])

    # For other threads

    def status(self) -> FleetStatus:
        """Return how the listeners stand, or stood a moment ago while the loop is at work on them; for any thread."""
        return self._published.get()

    def _status(self) -> FleetStatus:
        most_fail = self._budget.exceeded(each.child for each in self._listeners.values())
        return status_of(self._listeners, self._restarts, self._retired, self._stops, self._plan, most_fail=most_fail)

    @property
    def connected(self) -> tuple[str, ...]:
        """Return the connected nodes as the plan names them to listeners; none without a plan. For any thread."""
        with self._lock:
            return self._plan.nodes

    def kept(self, document_id: str) -> KeptUser | None:
        """Return a user's entry in a listener's quarantine; for any thread but the loop's."""
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
                if before is State.BACKOFF and not isinstance(event, lifecycle.Ordered):
                    self._restarts[listener.copy] = self._restarts.get(listener.copy, 0) + 1
            else:
                listener.carry_out(action, self._timing)

    def _spawn(self, listener: SupervisedListener, now: float) -> None:
        try:
            process = ListenerProcess(self._start_message(self._departures.request(listener)))
        except OSError as error:
            # The start is tried again, as after a child that ended at once.
            log.error("listener cannot be started", copy=str(listener.copy), error=str(error))  # noqa: TRY400
            code = lifecycle.EXIT_AGAIN if is_of_others(error) else os.EX_OSERR
            self._step(listener, lifecycle.Exited(code, random.random()), now)  # noqa: S311
            return
        listener.begin(process)

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
                # The plan may have changed since the process was given its start message.
                listener.inform()
                self._reauthenticate(listener.process)
                if self._journal is not None:
                    listener.process.send(self._journal)
                self._succession.send(self._listeners)
                self._ask(listener, 0)
            case Report():
                self._outbox.acknowledge(listener.copy, message.looked, message.looked_at_all)
                if listener.has_lost_its_copy(message):
                    # Perhaps the range was split. Another reading of the cluster shows the new copies.
                    self._on_copy_lost()
                if listener.take_report(message):
                    self._step(listener, lifecycle.Progressed(listener.caught_up), now)
            case CheckToken(number, node):
                # The process id is the key, because a later process of the same copy would take the answer for its own.
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

    def _divided(self) -> Conditions:
        conditions = Conditions.divided(self._plan, self._max_in_flight, self._new_per_minute)
        self._descriptors.check(len(self._plan.assignments), conditions.share)
        return conditions

    def _forget_the_stopped(self) -> None:
        for copy in [copy for copy, each in self._listeners.items() if each.child.state is State.STOPPED]:
            del self._listeners[copy]
