"""The fleet with real listener processes on a simulated cluster."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from peruserd.core.cluster.views import Plan
from peruserd.core.common.backoff import Backoff
from peruserd.core.processes.lifecycle import Reason, State, Timing
from peruserd.core.processes.messages import FromListener, ListenerStart
from peruserd.simcluster import SimClusterThread
from peruserd.supervisor import fleet
from peruserd.supervisor.process import ListenerProcess
from tests.supervisor.rig import Rig

pytestmark = pytest.mark.processes


def test_a_fleet_runs_one_listener_for_each_copy_of_the_plan_and_they_serve(rig: Rig) -> None:
    """Every assignment gets a process, and together they serve the users that were there."""
    names = rig.cluster.seed_users(20)
    said = rig.fleet.adjust(rig.plan(), rig.now())
    assert said == "2 started, 0 informed, 0 stopped"
    rig.turn_until(lambda: rig.all_caught_up() and rig.created() == len(names), "all users to be served")
    assert len(set(rig.pids())) == 2


def test_a_killed_listener_comes_back_and_no_counter_falls(rig: Rig) -> None:
    """A listener that is killed restarts after its back-off; what it had counted stays counted."""
    rig.cluster.seed_users(10)
    rig.fleet.adjust(rig.plan(), rig.now())
    rig.turn_until(lambda: rig.all_caught_up() and rig.created() == 10, "all users to be served")
    victim = rig.pids()[0]
    os.kill(victim, signal.SIGKILL)
    rig.turn_until(lambda: victim not in rig.pids() and rig.all_caught_up(), "the listener to come back")
    status = rig.fleet.status()
    assert status.counters.databases_created == 10
    assert sorted(each.restarts for each in status.listeners) == [0, 1]
    assert status.stops == {Reason.CRASHED: 1}


def test_a_restarted_listener_resumes_without_touching_users_again(rig: Rig) -> None:
    """The successor goes on from the checkpoint: it makes no request for a user that was served."""
    rig.cluster.seed_users(10)
    rig.fleet.adjust(rig.plan(), rig.now())
    rig.turn_until(lambda: rig.has_scanned() and rig.created() == 10, "all users to be served")
    rig.stop()
    rig.cluster.clear_requests()
    rig.fleet.adjust(rig.plan(), rig.now())
    rig.turn_until(rig.all_caught_up, "the listeners to be back")
    touched = [kind for _, _, kind in rig.cluster.requests() if "security" in kind or kind == "database"]
    assert touched == []


def test_a_fleet_that_stops_leaves_no_process(rig: Rig) -> None:
    """Stopping ends every child in order, with exit code 0, and forgets them."""
    rig.fleet.adjust(rig.plan(), rig.now())
    rig.turn_until(rig.all_caught_up, "the listeners to be up")
    children = rig.pids()
    rig.stop()
    assert not any(psutil.pid_exists(pid) for pid in children)
    assert rig.fleet.status().listeners == ()
    assert rig.fleet.status().stops == {Reason.SHUTDOWN: 2}


def test_a_plan_without_a_copy_stops_its_listener_alone(rig: Rig) -> None:
    """Only the listener whose copy left the plan is stopped."""
    plan = rig.plan()
    rig.fleet.adjust(plan, rig.now())
    rig.turn_until(rig.all_caught_up, "the listeners to be up")
    kept = plan.assignments[0]
    rig.fleet.adjust(Plan((kept,)), rig.now())
    rig.turn_until(lambda: len(rig.fleet.status().listeners) == 1, "one listener to end")
    (left,) = rig.fleet.status().listeners
    assert left.copy == kept.copy
    assert left.state is State.RUNNING
    assert rig.fleet.status().stops == {Reason.UNPLANNED: 1}


def test_a_listener_wanted_again_while_it_stops_starts_only_after_its_end(rig: Rig) -> None:
    """A successor never runs beside its predecessor, even if the plan changes its mind at once."""
    plan = rig.plan()
    rig.fleet.adjust(plan, rig.now())
    rig.turn_until(rig.all_caught_up, "the listeners to be up")
    first = set(rig.pids())
    rig.fleet.adjust(Plan(), rig.now())
    rig.fleet.adjust(plan, rig.now())
    assert set(rig.pids()) == first
    rig.turn_until(lambda: rig.all_caught_up() and not first.intersection(rig.pids()), "new listeners to be up")


def test_a_listener_that_hangs_while_it_starts_is_killed_and_replaced(
    cluster: SimClusterThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that never says hello is aborted, then killed, then started again."""
    kinds = iter([Unheard])

    def first_unheard(start: ListenerStart) -> ListenerProcess:
        kind = next(kinds, ListenerProcess)
        return kind(start)

    monkeypatch.setattr(fleet, "ListenerProcess", first_unheard)
    timing = Timing(stop_seconds=5.0, abort_seconds=0.2, backoff=Backoff(initial_seconds=0.05, max_seconds=0.1))
    rig = Rig(cluster, tmp_path, timing)
    rig.fleet.adjust(rig.plan(), rig.now())
    victim, other = rig.pids()
    os.kill(victim, signal.SIGSTOP)
    rig.turn_until(lambda: is_up(rig, other), "the other listener to be up")
    rig.skip(timing.start_seconds)
    rig.turn_until(lambda: victim not in rig.pids() and rig.all_caught_up(), "the hung listener to be replaced")
    assert rig.fleet.status().stops == {Reason.SLOW_START: 1}
    assert not psutil.pid_exists(victim)
    rig.stop()


class Unheard(ListenerProcess):
    """A process whose words are lost: its hello can be on the way before a signal stops it."""

    def receive(self) -> list[FromListener]:
        """Take the messages off the pipe, so that its end is noticed, and pass none on."""
        super().receive()
        return []


def is_up(rig: Rig, pid: int) -> bool:
    """Say whether a listener has said hello."""
    return any(each.pid == pid and each.state is State.RUNNING for each in rig.fleet.status().listeners)


def test_a_listener_whose_loop_goes_silent_is_killed_and_replaced(cluster: SimClusterThread, tmp_path: Path) -> None:
    """A process that stops beating is aborted, then killed, then started again; one that goes on is left alone."""
    timing = Timing(stop_seconds=5.0, abort_seconds=0.2, backoff=Backoff(initial_seconds=0.05, max_seconds=0.1))
    rig = Rig(cluster, tmp_path, timing)
    rig.fleet.adjust(rig.plan(), rig.now())
    rig.turn_until(rig.all_caught_up, "the listeners to be up")
    victim, other = rig.pids()
    os.kill(victim, signal.SIGSTOP)
    before = rounds(rig, other)
    rig.skip(0.6 * timing.silence_seconds)
    # Their changes end the long poll that an idle listener's next beat waits for.
    rig.cluster.seed_users(10)
    rig.turn_until(lambda: rounds(rig, other) > before, "the other listener to beat")
    rig.skip(0.6 * timing.silence_seconds)
    rig.turn_until(lambda: victim not in rig.pids() and rig.all_caught_up(), "the silent listener to be replaced")
    assert rig.fleet.status().stops == {Reason.SILENT: 1}
    rig.stop()


def rounds(rig: Rig, pid: int) -> int:
    """Return how often a listener's loop has gone round, as it reported last."""
    (report,) = [each.report for each in rig.fleet.status().listeners if each.pid == pid]
    return report.rounds if report is not None else 0


def test_too_many_restarts_exhaust_the_fleet(cluster: SimClusterThread, tmp_path: Path) -> None:
    """A listener that can never start uses the budget up, so that the outer supervisor gets its turn."""
    (tmp_path / "blocked").write_text("a file where the state directory should be")
    rig = Rig(cluster, tmp_path / "blocked", burst=2)
    rig.fleet.adjust(rig.plan(), rig.now())
    rig.turn_until(lambda: rig.fleet.exhausted, "the budget to be used up")
    rig.stop()


def test_shares_of_the_work_in_flight_follow_the_number_of_listeners(rig: Rig) -> None:
    """The limit of the instance is shared: fewer listeners may do more each."""
    plan = rig.plan()
    rig.fleet.adjust(plan, rig.now())
    rig.turn_until(rig.all_caught_up, "the listeners to be up")
    rig.fleet.adjust(Plan(plan.assignments[:1]), rig.now())
    rig.turn_until(lambda: len(rig.fleet.status().listeners) == 1, "one listener to end")
    rig.cluster.set_delay(1, 0.1)
    rig.cluster.seed_users(200, "later")
    most = 0

    def served() -> bool:
        nonlocal most
        (only,) = rig.fleet.status().listeners
        most = max(most, only.report.in_flight if only.report else 0)
        return most > 4

    rig.turn_until(served, "more than half of the limit to be in flight at once")


def test_a_listener_that_cannot_be_started_is_tried_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine out of processes for a moment costs a back-off, not the instance."""
    refusals = iter([True, True])

    def refuse_twice(start: ListenerStart) -> ListenerProcess:
        if next(refusals, False):
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return ListenerProcess(start)

    monkeypatch.setattr(fleet, "ListenerProcess", refuse_twice)
    rig.fleet.adjust(rig.plan(), rig.now())
    rig.turn_until(rig.all_caught_up, "both listeners to be up after all")
    assert sum(each.restarts for each in rig.fleet.status().listeners) == 2
