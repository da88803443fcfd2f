"""The supervisor's loop, with a fleet of real listeners where processes matter and none where they do not."""

import os
import signal
import threading
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from peruserd import ending
from peruserd.core.cluster.stable_view import StableView
from peruserd.core.cluster.views import Plan, View, make_plan
from peruserd.core.ownership.ranges import WHOLE_SPACE, ShardMap
from peruserd.core.processes.lifecycle import RestartBudget, Timing
from peruserd.core.processes.messages import ListenerStart
from peruserd.simcluster import SimClusterThread
from peruserd.supervisor.fleet import Fleet
from peruserd.supervisor.inbox import Inbox, Seen
from peruserd.supervisor.loop import Outcome, Supervisor
from peruserd.supervisor.signals import Signals
from peruserd.supervisor.start_request import StartRequest
from tests.supervisor.rig import Rig, StandingGatekeeper
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
    look_soon: Callable[[], None] = lambda: None,
) -> Supervisor:
    """Make a supervisor that notes what it tells, and what it wants to be remembered."""
    return Supervisor(
        fleet,
        make_plan=plans,
        stable_view=StableView(quiet, 4 * quiet, expected=expected),
        look_soon=look_soon,
        remember=([] if remembered is None else remembered).append,
        set_status=said.append,
        on_hangup=on_hangup,
        on_end=on_end,
    )


def idle_fleet() -> Fleet:
    """Make a fleet that is never given a plan with anything in it."""

    def start_message(request: StartRequest) -> ListenerStart:
        raise AssertionError(f"nothing was to be started, and this was: {request}")

    return Fleet(
        start_message,
        max_in_flight=1,
        timing=Timing(),
        budget=RestartBudget(1, 1.0),
        retired_files=lambda _copies: (),
        on_copy_lost=lambda: None,
        gatekeeper=StandingGatekeeper(None),
    )


class Running:
    """A supervisor's loop in a thread, ended as a signal would end it."""

    def __init__(self, subject: Supervisor) -> None:
        self._subject = subject
        self._outcome: list[Outcome] = []
        self._thread = threading.Thread(target=lambda: self._outcome.append(subject.run(lambda: None)), daemon=True)
        self._thread.start()

    def end(self) -> Outcome:
        """Stop the loop and return how it ended."""
        self._subject._inbox.put(signal.SIGTERM)
        return self.join()

    def join(self) -> Outcome:
        """Wait for the loop's own end."""
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()
        return self._outcome[0]


def test_sigterm_ends_a_loop_that_has_nothing_to_do() -> None:
    """Told to stop, the loop ends with 0 although no view ever came."""
    said: list[str] = []
    assert Running(supervisor(idle_fleet(), lambda _view, _seen: Plan(), said)).end() is Outcome.STOPPED
    assert said == ["stopping on SIGTERM"]


def test_nobody_is_looked_at_on_a_return_while_there_is_no_range() -> None:
    """The looks would be over at once, and the node would be missed no more when this instance gets ranges."""
    fleet = idle_fleet()
    subject = supervisor(fleet, lambda _view, _seen: Plan(), [])
    assert (subject.has_ranges, subject.look_on_return("n2", [])) == (True, 0)
    fleet.adjust(Plan(), 0.0)
    assert (subject.has_ranges, subject.look_on_return("n2", ["org.couchdb.user:a"])) == (False, None)


def test_a_listener_that_does_not_end_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that even SIGKILL does not end must not keep the lease from being released."""
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
    """Its time runs from the signal on, so its handler says that the end has begun."""
    noted: list[str] = []
    inbox = Inbox()
    signals = Signals(inbox.put, lambda: noted.append("end"))
    for number in (signal.SIGHUP, signal.SIGTERM):
        signals._handle(number, None)
    assert noted == ["end"]
    assert inbox.take_all() == [signal.SIGHUP, signal.SIGTERM]


def test_a_missing_authentication_database_is_said_and_waited_for() -> None:
    """An empty plan is told in words, and the loop goes on."""
    said: list[str] = []
    subject = supervisor(idle_fleet(), lambda _view, _seen: Plan(), said)
    running = Running(subject)
    subject.on_view(EMPTY)
    eventually(lambda: bool(said))
    assert running.end() is Outcome.STOPPED
    assert said[0] == "waiting for the authentication database, which does not exist"


def test_sighup_reads_the_password_again_and_does_not_end_the_daemon() -> None:
    """A hang-up, whose default is death, is handed on."""
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


def test_what_was_found_out_about_a_session_is_handed_to_the_fleet() -> None:
    """From another thread: only the loop speaks to listeners."""
    fleet = AdjustedFleet()
    subject = supervisor(fleet, lambda _view, _seen: Plan(), [])
    running = Running(subject)
    subject.on_answered({5: 1})
    subject.on_answered(None)
    eventually(lambda: len(fleet.answered) == 2)
    running.end()
    assert fleet.answered == [{5: 1}, None]


def test_a_view_that_flaps_within_the_quiet_period_makes_no_plan() -> None:
    """Only what stays takes effect; the first view does at once. Each look is planned for, because of what may come."""
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
    """However often the loop goes round, a plan is made once of what is believed."""
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
    """A fleet without processes, which notes the plans that it is brought to."""

    def __init__(self) -> None:
        self.adjusted: list[Plan] = []
        self.answered: list[Mapping[Hashable, int] | None] = []
        self.stopped = False

    idle = True
    exhausted = False

    def processes(self) -> list[Any]:
        return []

    def next_deadline(self) -> None:
        return None

    def run_deadlines(self, now: float) -> None:
        pass

    def answer(self, checks: Mapping[Hashable, int] | None) -> None:
        self.answered.append(checks)

    def adjust(self, plan: Plan, _now: float) -> str:
        self.adjusted.append(plan)
        return "done"

    def stop(self, _now: float) -> None:
        self.stopped = True


def test_a_plan_is_made_by_the_view_in_force_and_the_one_seen_last() -> None:
    """A view that is coming reaches the listeners at once, and the view in force follows after the quiet period."""
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
    """No view is told before that, and what is remembered are the instances that turned out to be there."""
    fleet = AdjustedFleet()
    remembered: list[tuple[str, ...]] = []
    subject = supervisor(fleet, lambda view, seen: make_plan(view, "n1", seen), [], quiet=3600.0, remembered=remembered)
    running = Running(subject)
    alone = View(("n1", "n2"), ("n1",), ShardMap("_users", ".1", {WHOLE_SPACE: ("n1", "n2")}))
    both = msgspec.structs.replace(alone, instances=("n1", "n2"))
    subject.on_view(alone)
    eventually(lambda: bool(fleet.adjusted))
    assert fleet.adjusted[0].in_force == make_plan(both, "n1").in_force
    assert (subject.has_looked, subject.view, remembered) == (True, None, [])
    subject.on_view(both)
    eventually(lambda: subject.view == both)
    running.end()
    assert remembered == [("n1", "n2")]


def test_a_look_is_asked_for_once_when_the_time_of_somebody_awaited_is_over() -> None:
    """An instance that has not come is given up then, however seldom the cluster is looked at."""
    asked: list[View] = []
    alone = View(("n1", "n2"), ("n1",), ShardMap("_users", ".1", {WHOLE_SPACE: ("n1", "n2")}))

    def look_soon() -> None:
        asked.append(alone)
        subject.on_view(alone)

    subject = supervisor(
        AdjustedFleet(), lambda view, seen: make_plan(view, "n1", seen), [], quiet=0.05, look_soon=look_soon
    )
    running = Running(subject)
    subject.on_view(alone)
    eventually(lambda: subject.view == alone)
    running.end()
    assert asked == [alone]


def test_a_change_that_lasts_is_carried_out_after_the_quiet_period_without_another_look() -> None:
    """The loop wakes by itself when something is due."""
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
    """Its empty plan has another reason than a missing database, and is carried out at once."""
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
    """A reader who asks whether all is served must not find a view whose listeners are not there yet."""
    told: list[View | None] = []

    class Asking(AdjustedFleet):
        def adjust(self, plan: Plan, now: float) -> str:
            told.append(subject.view)
            return super().adjust(plan, now)

    fleet = Asking()
    subject = supervisor(fleet, lambda view, seen: make_plan(view, "n1", seen), [])
    running = Running(subject)
    subject.on_view(CALM)
    eventually(lambda: subject.view == CALM)
    running.end()
    assert told == [None]
    assert fleet.stopped


@pytest.mark.processes
def test_a_loop_runs_listeners_by_its_views_and_ends_them(cluster: SimClusterThread, tmp_path: Path) -> None:
    """From the first view to a clean end: listeners run, serve, and are gone."""
    rig = Rig(cluster, tmp_path)
    rig.cluster.seed_users(5)
    subject = supervisor(rig.fleet, lambda _view, _seen: rig.plan(), [])
    running = Running(subject)
    subject.on_view(EMPTY)
    eventually(lambda: rig.fleet.status().ready and rig.created() == 5)
    os.kill(rig.pids()[0], signal.SIGKILL)
    eventually(lambda: sum(each.restarts for each in rig.fleet.status().listeners) == 1 and rig.fleet.status().ready)
    assert running.end() is Outcome.STOPPED
    assert rig.fleet.idle


@pytest.mark.processes
def test_restarts_past_the_budget_end_the_loop_with_one(cluster: SimClusterThread, tmp_path: Path) -> None:
    """Where listeners cannot stay up, the daemon exits and leaves it to systemd."""
    (tmp_path / "blocked").write_text("a file where the state directory should be")
    rig = Rig(cluster, tmp_path / "blocked", burst=2)
    said: list[str] = []
    subject = supervisor(rig.fleet, lambda _view, _seen: rig.plan(), said)
    running = Running(subject)
    subject.on_view(EMPTY)
    assert running.join() is Outcome.EXHAUSTED
    assert "too often" in said[-1]


def test_an_inbox_hands_over_in_order_and_wakes_its_reader() -> None:
    """Items come out in the order in which they were put, once."""
    inbox = Inbox()
    assert inbox.take_all() == []
    seen = Seen(EMPTY, at=1.0)
    inbox.put(seen)
    inbox.put(signal.SIGTERM)
    assert inbox.take_all() == [seen, signal.SIGTERM]
    assert inbox.take_all() == []


def test_leases_count_as_read_only_while_looks_show_them() -> None:
    """Before the first look, after one that failed and after one that could not read them nothing may be undone."""
    subject = supervisor(idle_fleet(), lambda _view, _seen: Plan(), [])
    blind = msgspec.structs.replace(EMPTY, leases_readable=False)
    readable = [subject.leases_readable]
    for step in (partial(subject.on_view, EMPTY), subject.lose_sight, partial(subject.on_view, EMPTY)):
        step()
        readable.append(subject.leases_readable)
    subject.on_view(blind)
    readable.append(subject.leases_readable)
    assert readable == [False, True, False, True, False]


def test_a_loop_that_gives_up_asks_for_another_configuration() -> None:
    """It ends in order, with the code by which systemd leaves it alone; the reason is logged once."""
    running = Running(subject := supervisor(idle_fleet(), lambda _view, _seen: Plan(), []))
    with capture_logs() as logged:
        for _ in range(2):
            subject.give_up("somebody else's")
        assert running.join() is Outcome.CONFIGURATION
    assert [line["error"] for line in logged if line["event"] == "cannot go on"] == ["somebody else's"]
    assert Outcome.CONFIGURATION.value == 78
