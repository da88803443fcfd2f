"""The supervisor's loop, with real listeners if processes matter, and without any otherwise."""

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest
from structlog.testing import capture_logs

from peruserd import ending
from peruserd.core.cluster.stable_view import StableView
from peruserd.core.cluster.views import Copy, Plan, View, make_plan
from peruserd.core.configuration.config import AuditConfig, DeletionConfig, LogConfig
from peruserd.core.ownership.ranges import WHOLE_SPACE, ShardMap
from peruserd.core.processes.lifecycle import Timing
from peruserd.core.processes.messages import ListenerStart, Reconfigure
from peruserd.core.processes.restarts import RestartBudget
from peruserd.simcluster import SimClusterThread
from peruserd.supervisor import fleet
from peruserd.supervisor.fleet import Fleet
from peruserd.supervisor.inbox import Inbox, NewSettings, NewView
from peruserd.supervisor.loop import Outcome, Supervisor
from peruserd.supervisor.signals import Signals, hold_hangup
from peruserd.supervisor.start_request import FleetSettings, StartRequest
from tests.starting import listener_start
from tests.supervisor.fleet_harness import FixedGatekeeper, FleetHarness
from tests.waiting import PATIENCE_SECONDS, eventually, eventually_at_least

EMPTY = View(nodes=("n1",), instances=("n1",), shard_map=None)
CALM = View(nodes=("n1",), instances=("n1",), shard_map=ShardMap("_users", ".1", {}))
FLAPPED = View(nodes=("n1", "n2"), instances=("n1", "n2"), shard_map=ShardMap("_users", ".1", {}))


def supervisor(
    fleet: Fleet,
    plans: Callable[[View, View], Plan],
    said: list[str],
    quiet: float = 0.0,
    *,
    expected: tuple[str, ...] | None = None,
    remembered: list[tuple[str, ...]] | None = None,
    on_hangup: Callable[[], None] = lambda: None,
    on_end: Callable[[], None] = lambda: None,
    read_soon: Callable[[], None] = lambda: None,
) -> Supervisor:
    """Make a supervisor whose status and remembered instances are noted."""
    return Supervisor(
        fleet,
        make_plan=plans,
        stable_view=StableView(quiet, 4 * quiet, expected=expected),
        read_soon=read_soon,
        remember=([] if remembered is None else remembered).append,
        set_status=said.append,
        on_hangup=on_hangup,
        on_end=on_end,
    )


def idle_fleet() -> Fleet:
    """Make a fleet for empty plans."""

    def start_message(request: StartRequest) -> ListenerStart:
        raise AssertionError(f"nothing was to be started, and this was: {request}")

    return Fleet(
        start_message,
        max_in_flight=1,
        timing=Timing(),
        budget=RestartBudget(),
        state_file=lambda copy: Path(str(copy)),
        on_copy_lost=lambda: None,
        gatekeeper=FixedGatekeeper(None),
    )


class Running:
    """A supervisor's loop in a thread, which ends as after a signal."""

    def __init__(self, subject: Supervisor) -> None:
        self._subject = subject
        self._outcome: list[Outcome] = []
        self._thread = threading.Thread(target=lambda: self._outcome.append(subject.run(lambda: None)), daemon=True)
        self._thread.start()

    def end(self) -> Outcome:
        """Stop the loop, and return its outcome."""
        self._subject._inbox.put(signal.SIGTERM)
        return self.join()

    def join(self) -> Outcome:
        """Wait until the loop ends by itself."""
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()
        return self._outcome[0]


def test_sigterm_ends_a_loop_that_has_nothing_to_do() -> None:
    """The loop ends with 0 after a signal, even if no view ever came."""
    said: list[str] = []
    assert Running(supervisor(idle_fleet(), lambda _view, _seen: Plan(), said)).end() is Outcome.STOPPED
    assert said == ["stopping on SIGTERM"]


@pytest.mark.parametrize(("seconds", "awakes"), [(25.0, 0), (40.0, 1)], ids=["slow", "stood-still"])
def test_after_a_standstill_of_the_loop_its_listeners_have_their_whole_time(
    monkeypatch: pytest.MonkeyPatch, seconds: float, awakes: int
) -> None:
    """A container that was paused stood still as a whole. A loop that is merely slow forgives nothing."""
    fleet = idle_fleet()
    awakened: list[float] = []
    monkeypatch.setattr(fleet, "awake", awakened.append)
    subject = supervisor(fleet, lambda _view, _seen: Plan(), [])
    subject._inbox.put(signal.SIGHUP)
    subject.last_round = time.monotonic() - seconds
    subject._wait()
    subject._wait()
    assert len(awakened) == awakes


def test_nobody_is_looked_at_on_a_return_while_there_is_no_range() -> None:
    """Without listeners the looks would be over at once, and the node would no longer count as missed."""
    fleet = idle_fleet()
    subject = supervisor(fleet, lambda _view, _seen: Plan(), [])
    assert (subject.has_ranges, subject.look_on_return("n2", [])) == (True, 0)
    fleet.adjust(Plan(), 0.0)
    assert (subject.has_ranges, subject.look_on_return("n2", ["org.couchdb.user:a"])) == (False, None)


def test_a_listener_that_does_not_end_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if SIGKILL does not end a process, the lease must be released."""
    monkeypatch.setattr(ending, "FLEET_SECONDS", 0.1)
    fleet = idle_fleet()
    monkeypatch.setattr(Fleet, "idle", False)
    ends: list[str] = []
    subject = supervisor(fleet, lambda _view, _seen: Plan(), [], on_end=lambda: ends.append("end"))
    with capture_logs() as logged:
        running = Running(subject)
        subject._inbox.put(signal.SIGTERM)
        assert running.end() is Outcome.STOPPED
    assert [line["event"] for line in logged if line["log_level"] == "error"] == [
        "listeners do not end, and are left behind"
    ]
    assert ends == ["end"]


def test_a_signal_is_taken_note_of_while_the_loop_hangs() -> None:
    """The time for the end starts with the signal, so the handler itself starts it."""
    noted: list[str] = []
    inbox = Inbox()
    signals = Signals(inbox.put, lambda: noted.append("end"))
    for number in (signal.SIGHUP, signal.SIGTERM):
        signals._handle(number, None)
    assert noted == ["end"]
    assert inbox.take_all() == [signal.SIGHUP, signal.SIGTERM]


def test_a_missing_authentication_database_is_said_and_waited_for() -> None:
    """The status says in words why a plan is empty, and the loop goes on."""
    said: list[str] = []
    subject = supervisor(idle_fleet(), lambda _view, _seen: Plan(), said)
    running = Running(subject)
    subject.on_view(EMPTY)
    eventually(lambda: bool(said))
    assert running.end() is Outcome.STOPPED
    assert said[0] == "waiting for the authentication database, which does not exist"


def test_sighup_reads_the_password_again_and_does_not_end_the_daemon() -> None:
    """SIGHUP, which would end the process by default, calls `on_hangup`."""
    said: list[str] = []
    hangups: list[str] = []
    subject = supervisor(
        idle_fleet(), lambda _view, _seen: Plan(), said, on_hangup=lambda: hangups.append("read again")
    )
    running = Running(subject)
    subject._inbox.put(signal.SIGHUP)
    subject.on_view(EMPTY)
    eventually(lambda: bool(said))
    assert running.end() is Outcome.STOPPED
    assert hangups == ["read again"]


def test_sighup_changes_nothing_while_the_daemon_ends() -> None:
    """A reload at that moment would start parts that were just stopped."""
    hangups: list[str] = []
    fleet = AdjustedFleet()
    subject = supervisor(fleet, lambda _view, _seen: Plan(), [], on_hangup=lambda: hangups.append("read again"))
    subject._inbox.put(signal.SIGTERM)
    subject._inbox.put(signal.SIGHUP)
    subject.restart(Copy("_users", WHOLE_SPACE, "n1"))
    assert Running(subject).join() is Outcome.STOPPED
    assert (hangups, fleet.restarted) == ([], [])


@pytest.fixture
def _hangup() -> Iterator[None]:
    """Put the handler of SIGHUP back."""
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("_hangup")
def test_sighup_before_the_loop_is_obeyed_by_it_and_after_the_loop_by_nobody() -> None:
    """By default it would end the process: during a long start, or before the lease is released."""
    hold_hangup()
    inbox = Inbox()
    signal.raise_signal(signal.SIGHUP)
    signal.raise_signal(signal.SIGHUP)
    with Signals(inbox.put, lambda: None):
        assert inbox.take_all() == [signal.SIGHUP]
        signal.raise_signal(signal.SIGHUP)
        assert inbox.take_all() == [signal.SIGHUP]
    signal.raise_signal(signal.SIGHUP)
    assert inbox.take_all() == []


def test_settings_of_a_reload_reach_the_fleet_and_the_quiet_period() -> None:
    """A view that waits for the old quiet period comes into force with the new one."""
    fleet = AdjustedFleet()
    subject = supervisor(fleet, lambda _view, _seen: Plan(), [], quiet=3600.0)
    running = Running(subject)
    for view in (CALM, FLAPPED):
        subject.on_view(view)
    eventually(lambda: subject.view == CALM)
    settings = FleetSettings(
        lambda request: listener_start(request.assignment),
        Reconfigure(DeletionConfig(), AuditConfig(), LogConfig(), 1, 1.0),
        max_in_flight=1,
        new_per_minute=0,
        renews=False,
    )
    subject.take_over(NewSettings(0.0, 0.0, settings))
    eventually(lambda: subject.view == FLAPPED)
    running.end()
    assert fleet.reconfigured == [settings]


def test_what_was_found_out_about_a_session_is_handed_to_the_fleet() -> None:
    """Another thread hands the answer over, because only the loop sends messages to listeners."""
    fleet = AdjustedFleet()
    subject = supervisor(fleet, lambda _view, _seen: Plan(), [])
    running = Running(subject)
    subject.on_answered({5: 1})
    subject.on_answered(None)
    eventually(lambda: len(fleet.answered) == 2)
    running.end()
    assert fleet.answered == [{5: 1}, None]


def test_a_view_that_flaps_within_the_quiet_period_makes_no_plan() -> None:
    """The first view takes effect at once, and later changes only if they last. Each view makes a plan."""
    planned: list[tuple[View, View]] = []

    def plan(view: View, seen: View) -> Plan:
        planned.append((view, seen))
        return Plan()

    def is_planned_for(view: View) -> bool:
        return planned[-1][1] == view

    subject = supervisor(idle_fleet(), plan, [], quiet=3600.0)
    running = Running(subject)
    subject.on_view(CALM)
    eventually(lambda: bool(planned))
    for view in (FLAPPED, CALM, FLAPPED):
        subject.on_view(view)
        eventually(partial(is_planned_for, view))
    running.end()
    assert all(view == CALM for view, _ in planned)
    assert subject.view == CALM
    assert subject.plans == 1


def test_a_look_that_shows_nothing_new_is_not_planned_for() -> None:
    """The loop goes round often, but makes only one plan for the same views."""
    planned: list[tuple[View, View]] = []

    def plan(view: View, seen: View) -> Plan:
        planned.append((view, seen))
        return Plan()

    def is_planned_for(view: View) -> bool:
        return planned[-1][1] == view

    subject = supervisor(idle_fleet(), plan, [], quiet=3600.0)
    running = Running(subject)
    for view in (CALM, CALM, CALM, FLAPPED):
        subject.on_view(view)
    eventually(lambda: bool(planned) and planned[-1] == (CALM, FLAPPED))
    running.end()
    assert planned.count((CALM, CALM)) <= 1
    assert len(planned) <= 2


class AdjustedFleet(Fleet):
    """A fleet without processes, which notes its plans."""

    def __init__(self) -> None:
        self.adjusted: list[Plan] = []
        self.answered: list[Mapping[Hashable, int] | None] = []
        self.reconfigured: list[FleetSettings] = []
        self.restarted: list[Copy] = []
        self.stopped = False
        self.retired = 0

    idle = True
    exhausted = False

    def processes(self) -> list[Any]:
        return []

    def next_deadline(self) -> None:
        return None

    def run_deadlines(self, now: float) -> None:
        pass

    def send_token(self, checks: Mapping[Hashable, int] | None) -> None:
        self.answered.append(checks)

    def adjust(self, plan: Plan, _now: float) -> str:
        self.adjusted.append(plan)
        return "done"

    def reconfigure(self, settings: FleetSettings) -> None:
        self.reconfigured.append(settings)

    def restart(self, copy: Copy, _now: float) -> bool:
        self.restarted.append(copy)
        return True

    def stop(self, _now: float) -> None:
        self.stopped = True

    def retire_state(self) -> None:
        self.retired += 1


def test_a_plan_is_made_by_the_view_in_force_and_the_one_seen_last() -> None:
    """An upcoming view reaches the listeners at once, and is in force after the quiet period."""
    fleet = AdjustedFleet()
    subject = supervisor(fleet, lambda view, seen: make_plan(view, "n1", seen), [], quiet=3600.0, expected=("n1",))
    running = Running(subject)
    alone = View(("n1", "n2"), ("n1",), ShardMap("_users", ".1", {WHOLE_SPACE: ("n1", "n2")}))
    both = msgspec.structs.replace(alone, instances=("n1", "n2"))
    for number, view in enumerate((alone, both, alone), start=1):
        subject.on_view(view)
        eventually_at_least(number, lambda: len(fleet.adjusted))
    running.end()
    assert fleet.adjusted == [make_plan(alone, "n1"), make_plan(alone, "n1", both), make_plan(alone, "n1")]
    assert subject.plans == 1, "what was only coming is no plan of its own"


def test_until_it_is_certain_who_is_there_only_what_is_its_own_in_any_case_is_planned_for() -> None:
    """Before that there is no view for other threads. The instances that have shown up are remembered."""
    fleet = AdjustedFleet()
    remembered: list[tuple[str, ...]] = []
    subject = supervisor(fleet, lambda view, seen: make_plan(view, "n1", seen), [], quiet=3600.0, remembered=remembered)
    running = Running(subject)
    alone = View(("n1", "n2"), ("n1",), ShardMap("_users", ".1", {WHOLE_SPACE: ("n1", "n2")}))
    both = msgspec.structs.replace(alone, instances=("n1", "n2"))
    subject.on_view(alone)
    eventually(lambda: bool(fleet.adjusted))
    assert fleet.adjusted[0].without_upcoming == make_plan(both, "n1").without_upcoming
    assert (subject.has_seen_cluster, subject.view, remembered) == (True, None, [])
    subject.on_view(both)
    eventually(lambda: subject.view == both)
    running.end()
    assert remembered == [("n1", "n2")]


def test_a_look_is_asked_for_once_when_the_time_of_somebody_awaited_is_over() -> None:
    """At that time an expected instance without a lease is given up, even if readings are rare."""
    asked: list[View] = []
    alone = View(("n1", "n2"), ("n1",), ShardMap("_users", ".1", {WHOLE_SPACE: ("n1", "n2")}))

    def read_soon() -> None:
        asked.append(alone)
        subject.on_view(alone)

    subject = supervisor(
        AdjustedFleet(), lambda view, seen: make_plan(view, "n1", seen), [], quiet=0.05, read_soon=read_soon
    )
    running = Running(subject)
    subject.on_view(alone)
    eventually(lambda: subject.view == alone)
    running.end()
    assert asked == [alone]


def test_a_change_that_lasts_is_carried_out_after_the_quiet_period_without_another_look() -> None:
    """The loop wakes up when a deadline is due."""
    fleet = AdjustedFleet()
    subject = supervisor(fleet, lambda view, seen: make_plan(view, "n1", seen), [], quiet=0.05)
    running = Running(subject)
    before = View(("n1", "n2"), ("n1", "n2"), ShardMap("_users", ".1", {WHOLE_SPACE: ("n1", "n2")}))
    after = msgspec.structs.replace(before, instances=("n1",))
    subject.on_view(before)
    eventually(lambda: subject.view == before)
    subject.on_view(after)
    eventually(lambda: subject.view == after)
    running.end()
    assert fleet.adjusted == [make_plan(before, "n1"), make_plan(after, "n1")]
    assert subject.plans == 2


def test_an_instance_that_stands_by_says_so() -> None:
    """A standby's plan is empty for another reason than a missing database, and is carried out at once."""
    said: list[str] = []
    fleet = AdjustedFleet()
    subject = supervisor(fleet, lambda view, seen: make_plan(view, "n1", seen), said, quiet=3600.0)
    running = Running(subject)
    active = View(("n1",), ("n1",), ShardMap("_users", ".1", {WHOLE_SPACE: ("n1",)}))
    for number, view in enumerate((active, msgspec.structs.replace(active, standby=True), active), start=1):
        subject.on_view(view)
        eventually_at_least(number, lambda: len(fleet.adjusted))
    running.end()
    assert [len(plan.assignments) for plan in fleet.adjusted] == [1, 0, 1]
    assert said[1] == "standing by: another instance is active beside this node"
    assert subject.plans == 3


def test_a_view_is_told_only_after_its_plan_was_carried_out() -> None:
    """Other threads must not see a view before its listeners exist, because readiness would be wrong."""
    told: list[View | None] = []

    class LookRequest(AdjustedFleet):
        def adjust(self, plan: Plan, now: float) -> str:
            told.append(subject.view)
            return super().adjust(plan, now)

    fleet = LookRequest()
    subject = supervisor(fleet, lambda view, seen: make_plan(view, "n1", seen), [])
    running = Running(subject)
    subject.on_view(CALM)
    eventually(lambda: subject.view == CALM)
    running.end()
    assert told == [None]
    assert fleet.stopped


@pytest.mark.processes
def test_a_loop_runs_listeners_by_its_views_and_ends_them(cluster: SimClusterThread, tmp_path: Path) -> None:
    """From the first view to the regular end: listeners start, serve users, and end."""
    harness = FleetHarness(cluster, tmp_path)
    harness.cluster.seed_users(5)
    subject = supervisor(harness.fleet, lambda _view, _seen: harness.plan(), [])
    running = Running(subject)
    subject.on_view(EMPTY)
    eventually(lambda: harness.fleet.status().ready and harness.created() == 5)
    os.kill(harness.pids()[0], signal.SIGKILL)
    eventually(
        lambda: sum(each.restarts for each in harness.fleet.status().listeners) == 1 and harness.fleet.status().ready
    )
    assert running.end() is Outcome.STOPPED
    assert harness.fleet.idle


@pytest.mark.processes
def test_restarts_past_the_budget_end_the_loop_with_one(
    cluster: SimClusterThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If most listeners fail again and again, the daemon ends too, and systemd starts it anew."""
    monkeypatch.setattr(fleet, "ListenerProcess", no_process)
    harness = FleetHarness(cluster, tmp_path, faults=2)
    said: list[str] = []
    subject = supervisor(harness.fleet, lambda _view, _seen: harness.plan(), said)
    running = Running(subject)
    subject.on_view(EMPTY)
    assert running.join() is Outcome.EXHAUSTED
    assert said[-1] == "stopping: most listeners fail in a row, so the whole instance needs a new start"
    assert harness.fleet.idle


def no_process(start: ListenerStart) -> NoReturn:
    """Start no process, as if each fork server ended at once."""
    raise ConnectionResetError(errno.ECONNRESET, f"no process for {start.copy}")


def test_an_inbox_hands_over_in_order_and_wakes_its_reader() -> None:
    """Each item comes out once, in the order in which the items were put in."""
    inbox = Inbox()
    assert inbox.take_all() == []
    seen = NewView(EMPTY, at=1.0)
    inbox.put(seen)
    inbox.put(signal.SIGTERM)
    assert inbox.take_all() == [seen, signal.SIGTERM]
    assert inbox.take_all() == []


def test_leases_count_as_read_only_while_looks_show_them() -> None:
    """Leases count as unreadable before the first reading, after a failed one, and after one without leases."""
    subject = supervisor(idle_fleet(), lambda _view, _seen: Plan(), [])
    blind = msgspec.structs.replace(EMPTY, leases_readable=False)
    readable = [subject.leases_readable]
    for step in (partial(subject.on_view, EMPTY), subject.on_failed_reading, partial(subject.on_view, EMPTY)):
        step()
        readable.append(subject.leases_readable)
    subject.on_view(blind)
    readable.append(subject.leases_readable)
    assert readable == [False, True, False, True, False]


def test_a_loop_that_gives_up_asks_for_another_configuration() -> None:
    """The loop ends regularly, with an exit code after which systemd does not restart it. The reason is logged once."""
    said: list[str] = []
    running = Running(subject := supervisor(idle_fleet(), lambda _view, _seen: Plan(), said))
    with capture_logs() as logged:
        for _ in range(2):
            subject.give_up("somebody else's")
        assert running.join() is Outcome.CONFIGURATION
    assert set(said) == {"stopping, because another configuration is needed: somebody else's"}
    assert subject.why_ended == "somebody else's"
    assert [line["error"] for line in logged if line["event"] == "cannot go on"] == ["somebody else's"]
    assert Outcome.CONFIGURATION.value == 78
