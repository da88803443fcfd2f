"""The supervisor's loop: one thread waits for processes, pipes, signals, views and deadlines, and acts on them.

Signal handlers add the signal to a queue, and the loop decides what it means. A handler also calls `on_end` if the
signal ends the instance. Each round that changes something ends with one sentence, for the log and systemd's status.
"""

import select
import signal
import time
from collections.abc import Callable, Hashable
from enum import IntEnum
from typing import Final

import msgspec
import structlog

from peruserd import ending
from peruserd.core.cluster.plan_words import described
from peruserd.core.cluster.stable_view import StableView
from peruserd.core.cluster.views import Copy, Plan, View
from peruserd.core.configuration.problems import EXIT_CONFIGURATION
from peruserd.core.processes.messages import JournalNews
from peruserd.supervisor.fleet import Fleet
from peruserd.supervisor.inbox import EndRequest, Inbox, LookRequest, NewSettings, NewView, RestartRequest, TokenNews
from peruserd.supervisor.look_requests import LookRequests
from peruserd.supervisor.plan_history import PlanHistory
from peruserd.supervisor.signals import Signals

# The loop goes round at least this often, so a loop that waits can be told from one that hangs.
MAX_WAIT_SECONDS: Final = 10.0

# A loop without a round for so long stood still: in a container that was paused, for example. Its listeners have then
# been silent as well, and are no reason to end them.
_STANDSTILL_SECONDS: Final = 3 * MAX_WAIT_SECONDS

log = structlog.get_logger(__name__)


class Outcome(IntEnum):
    """How the loop ended; the daemon's exit code."""

    STOPPED = 0
    EXHAUSTED = 1  # most listeners fail in a row, or a thread no longer works: the outer supervisor's turn
    CONFIGURATION = EXIT_CONFIGURATION  # nothing helps but another configuration


class Supervisor(LookRequests):
    """Runs a fleet by the views that arrive, until a signal or the restart budget ends it.

    - `read_soon` asks for another view.
    - `remember` gets the instances in force whenever they have changed; the next start expects these.
    - `on_hangup` is called on SIGHUP, unless the loop is ending.
    - `on_end` is called once there is a reason to end. For a signal that happens in its handler, because the loop may
      hang.
    - `on_round` is called after each round with its monotonic time, at least once in `max_wait_seconds`.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        make_plan: Callable[[View, View], Plan],
        stable_view: StableView,
        read_soon: Callable[[], None],
        remember: Callable[[tuple[str, ...]], None],
        set_status: Callable[[str], None],
        on_hangup: Callable[[], None],
        on_end: Callable[[], None],
        on_round: Callable[[float], None] = lambda _now: None,
        max_wait_seconds: float = MAX_WAIT_SECONDS,
    ) -> None:
        super().__init__(fleet, Inbox())
        self._make_plan = make_plan
        self._stable_view = stable_view
        self._read_soon = read_soon
        # The due time of the last reading that was asked for.
        self._reading_asked_for: float | None = None
        self._remember = remember
        self._set_status = set_status
        self._on_hangup = on_hangup
        self._on_end = on_end
        self._on_round = on_round
        self._max_wait = max_wait_seconds
        # When the loop ends without the listeners that still run; None until there is a reason to end.
        self._leaves_at: float | None = None
        self._plan: Plan | None = None
        # The loop goes round often, and a plan of many ranges takes time. So a plan is made only if a view has changed.
        self._planned_for: tuple[View, View] | None = None
        # Other threads see a view only after the fleet was adjusted to it. Before that, an instance without listeners
        # would seem to have nothing to do, and to be ready.
        self._followed: View | None = None
        self.plans = 0
        self.plan_history = PlanHistory()
        self._stopping = False
        # Why the loop ends, if it was not told to.
        self._outcome: Outcome | None = None
        self.why_ended: str | None = None
        # What the instance does by its plan; nothing before there is one.
        self.sentence = ""
        self._leases_readable = False
        # The loop has not begun, so it cannot hang yet.
        self.last_round = float("inf")

    def on_view(self, view: View) -> None:
        """Hand a view to the loop; for any thread."""
        self._leases_readable = view.leases_readable
        self._inbox.put(NewView(view, time.monotonic()))

    def on_journal(self, news: JournalNews) -> None:
        """Hand news of the journal of deletions to the loop; for any thread."""
        self._inbox.put(news)

    def on_failed_reading(self) -> None:
        """Note that the last reading has failed: the view in force stays, and no lease was read. For any thread."""
        self._leases_readable = False

    def give_up(self, why: str) -> None:
        """End the instance in order, with the exit code that asks for another configuration; for any thread."""
        self._inbox.put(EndRequest(why, Outcome.CONFIGURATION))

    def end_broken(self, why: str) -> None:
        """End the instance in order, with the exit code that asks for a restart; for any thread."""
        self._inbox.put(EndRequest(why, Outcome.EXHAUSTED))

    def on_answered(self, checks: dict[Hashable, int] | None) -> None:
        """Let the loop send the current token to listeners; for any thread."""
        self._inbox.put(TokenNews(checks))

    def take_over(self, settings: NewSettings) -> None:
        """Take over the settings of another configuration; for any thread."""
        self._inbox.put(settings)

    def restart(self, copy: Copy) -> None:
        """Start the listener of a copy again; for any thread."""
        self._inbox.put(RestartRequest(copy))

    def run(self, begin: Callable[[], None]) -> Outcome:
        """Supervise until a signal or a fault ends it, and until all processes have ended or their time is over.

        `begin` starts the other parts of the instance. It is called once the signal handlers are set, because before
        that a signal would end the process without ending these parts in order.
        """
        with Signals(self._inbox.put, self._begin_to_end):
            self.last_round = time.monotonic()
            begin()
            while not (self._stopping and (self._fleet.idle or self._is_late())):
                self._wait()
                self._take_in()
                self._run_deadlines()
                self._ask_for_reading()
                self._follow_view()
                self._on_round(self.last_round)
        if not self._fleet.idle:
            log.error("listeners do not end, and are left behind")
        return Outcome.STOPPED if self._outcome is None else self._outcome

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._inbox, select.POLLIN)
        pipes: dict[int, Copy] = {}
        processes: dict[int, Copy] = {}
        for copy, process in self._fleet.processes():
            processes[process.pidfd] = copy
            poll.register(process.pidfd, select.POLLIN)
            # A pipe stays readable for ever once its far end is closed. From then on only the pidfd matters.
            if not process.at_eof:
                pipes[process.pipe_fd] = copy
                poll.register(process.pipe_fd, select.POLLIN)
        ready = [descriptor for descriptor, _ in poll.poll(self._patience() * 1000)]
        before, now = self.last_round, time.monotonic()
        self.last_round = now
        if now - before > _STANDSTILL_SECONDS:
            log.warning("the supervisor's loop stood still; perhaps the whole machine did", seconds=round(now - before))
            self._fleet.awake(now)
        for descriptor in ready:
            if descriptor in pipes:
                self._fleet.receive(pipes[descriptor], now)
        for descriptor in ready:
            if descriptor in processes:
                self._fleet.on_exit(processes[descriptor], now)

    def _patience(self) -> float:
        reading_due = self._stable_view.reading_due
        possible = (
            self._fleet.next_deadline(),
            self._stable_view.due,
            None if reading_due == self._reading_asked_for else reading_due,
            self._leaves_at,
        )
        deadlines = [each for each in possible if each is not None]
        wait = min(deadlines) - time.monotonic() if deadlines else self._max_wait
        return min(max(wait, 0.0), self._max_wait)

    def _take_in(self) -> None:
        for item in self._inbox.take_all():
            if isinstance(item, NewView):
                self._stable_view = self._stable_view.observe(item.view, item.at)
            elif isinstance(item, JournalNews):
                self._fleet.send_journal_news(item)
            elif isinstance(item, LookRequest):
                with self._fleet.asking() as outbox:
                    item.ask(outbox)
            elif isinstance(item, EndRequest):
                self._end_for(item)
            elif isinstance(item, TokenNews):
                self._fleet.send_token(item.checks)
            elif isinstance(item, NewSettings | RestartRequest) or item is signal.SIGHUP:
                if not self._stopping:
                    self._change(item)
            else:
                self._stop(f"stopping on {item.name}")

    def _end_for(self, request: EndRequest) -> None:
        if self._outcome is None:
            log.error("cannot go on", error=request.why)
            self._outcome, self.why_ended = Outcome(request.code), request.why
        self._stop(_WHY_ENDING[self._outcome], self.why_ended)

    def _change(self, item: NewSettings | RestartRequest | signal.Signals) -> None:
        """Carry out what only an instance that goes on must do."""
        if isinstance(item, NewSettings):
            self._stable_view = msgspec.structs.replace(
                self._stable_view, quiet_seconds=item.quiet_seconds, newcomer_seconds=item.newcomer_seconds
            )
            self._fleet.reconfigure(item.fleet)
        elif isinstance(item, RestartRequest):
            self._fleet.restart(item.copy, time.monotonic())
        else:
            log.info("SIGHUP: the configuration is read again")
            self._on_hangup()

    def _run_deadlines(self) -> None:
        self._fleet.run_deadlines(time.monotonic())
        if not self._stopping and self._fleet.exhausted:
            self._outcome = Outcome.EXHAUSTED
            self.why_ended = "most listeners fail in a row, so the whole instance needs a new start"
            self._stop("stopping", self.why_ended)

    def _ask_for_reading(self) -> None:
        """Ask once for a reading when an awaited instance is due, because the next regular one can be far away."""
        date = self._stable_view.reading_due
        if date is not None and date != self._reading_asked_for and time.monotonic() >= date:
            self._reading_asked_for = date
            self._read_soon()

    def _follow_view(self) -> None:
        now = time.monotonic()
        self._stable_view = self._stable_view.advance(now)
        view, seen = self._stable_view.in_force, self._stable_view.seen
        if view is None or seen is None or self._stopping or (view, seen) == self._planned_for:
            return
        plan = self._make_plan(view, seen)
        before, self._planned_for = self._planned_for, (view, seen)
        if plan != self._plan:
            sentence, done = self._carry_out(plan, view, now)
            self.plan_history.note(before, (view, seen), sentence, done)
        if self._stable_view.certain:
            if self._followed is None or self._followed.instances != view.instances:
                self._remember(view.instances)
            self._followed = view
            self._fleet.retire_state()

    def _carry_out(self, plan: Plan, view: View, now: float) -> tuple[str, str]:
        # An upcoming ownership only holds a few documents back. A plan counts as new if it changes who does what.
        self.plans += self._plan is None or plan.without_upcoming != self._plan.without_upcoming
        self._plan = plan
        done = self._fleet.adjust(plan, now)
        sentence = described(plan, view)
        log.info("plan", says=sentence, done=done, nodes=view.nodes, instances=view.instances)
        self.sentence = sentence
        self._set_status(sentence)
        return sentence, done

    def _stop(self, event: str, why: str | None = None) -> None:
        log.info(event, **({} if why is None else {"why": why}))
        self._set_status(event if why is None else f"{event}: {why}")
        self._begin_to_end()
        self._stopping = True
        self._fleet.stop(time.monotonic())

    def _begin_to_end(self) -> None:
        if self._leaves_at is None:
            self._leaves_at = time.monotonic() + ending.FLEET_SECONDS
            self._on_end()

    def _is_late(self) -> bool:
        return self._leaves_at is not None and time.monotonic() >= self._leaves_at

    @property
    def view(self) -> View | None:
        """The view in force, once the live instances are known and its plan was carried out; for any thread."""
        return self._followed

    @property
    def views(self) -> tuple[View, View] | None:
        """The views of the plan, in force and seen last; None before there is a plan. For any thread."""
        return self._planned_for

    @property
    def stopping(self) -> bool:
        """Say whether the listeners were told to stop; for any thread."""
        return self._stopping

    @property
    def leases_readable(self) -> bool:
        """Say whether the last reading has shown the leases; False before the first one. For any thread.

        While it is False nothing irreversible may be done, because a silent instance may be alive.
        """
        return self._leases_readable

    @property
    def has_seen_cluster(self) -> bool:
        """Say whether the cluster was ever seen; for any thread."""
        return self._plan is not None


_WHY_ENDING: Final = {
    Outcome.EXHAUSTED: "stopping, because a part of the instance does not work any more",
    Outcome.CONFIGURATION: "stopping, because another configuration is needed",
}
