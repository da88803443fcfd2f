"""The fleet with real listener processes on a simulated cluster."""

import os
import signal
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from peruserd.core.cluster.views import Plan
from peruserd.core.common.backoff import Backoff
from peruserd.core.processes.lifecycle import Reason, State, Timing
from peruserd.core.processes.messages import FromListener, ListenerStart
from peruserd.listener.store import Store
from peruserd.simcluster import SimClusterThread
from peruserd.supervisor import fleet, fleet_status
from peruserd.supervisor.process import ListenerProcess
from tests.supervisor.fleet_harness import FleetHarness

pytestmark = pytest.mark.processes


def test_a_fleet_runs_one_listener_for_each_copy_of_the_plan_and_they_serve(harness: FleetHarness) -> None:
    """Every assignment gets a process, and together they serve all users."""
    names = harness.cluster.seed_users(20)
    said = harness.fleet.adjust(harness.plan(), harness.now())
    assert said == "2 started, 0 informed, 0 stopped"
    harness.turn_until(lambda: harness.all_caught_up() and harness.created() == len(names), "all users to be served")
    assert len(set(harness.pids())) == 2


def test_a_killed_listener_comes_back_and_no_counter_falls(harness: FleetHarness) -> None:
    """A killed listener restarts after its back-off, and its earlier counts are kept."""
    harness.cluster.seed_users(10)
    harness.fleet.adjust(harness.plan(), harness.now())
    harness.turn_until(lambda: harness.all_caught_up() and harness.created() == 10, "all users to be served")
    victim = harness.pids()[0]
    os.kill(victim, signal.SIGKILL)
    harness.turn_until(lambda: victim not in harness.pids() and harness.all_caught_up(), "the listener to come back")
    status = harness.fleet.status()
    assert status.counters.databases_created == 10
    assert sorted(each.restarts for each in status.listeners) == [0, 1]
    assert status.stops == {Reason.CRASHED: 1}


def test_a_restarted_listener_resumes_without_touching_users_again(harness: FleetHarness) -> None:
    """The successor goes on from the checkpoint, and makes no request for a user who was served before."""
    harness.cluster.seed_users(10)
    harness.fleet.adjust(harness.plan(), harness.now())
    harness.turn_until(lambda: harness.has_scanned() and harness.created() == 10, "all users to be served")
    harness.stop()
    harness.cluster.clear_requests()
    harness.fleet.adjust(harness.plan(), harness.now())
    harness.turn_until(harness.all_caught_up, "the listeners to be back")
    touched = [kind for _, _, kind in harness.cluster.requests() if "security" in kind or kind == "database"]
    assert touched == []


def test_a_fleet_that_stops_leaves_no_process(harness: FleetHarness) -> None:
    """A stop ends every child regularly, with exit code 0, and forgets them."""
    harness.fleet.adjust(harness.plan(), harness.now())
    harness.turn_until(harness.all_caught_up, "the listeners to be up")
    children = harness.pids()
    harness.stop()
    assert not any(psutil.pid_exists(pid) for pid in children)
    assert harness.fleet.status().listeners == ()
    assert harness.fleet.status().stops == {Reason.SHUTDOWN: 2}


def test_a_plan_without_a_copy_stops_its_listener_alone(harness: FleetHarness) -> None:
    """Only the listener whose copy left the plan is stopped."""
    plan = harness.plan()
    harness.fleet.adjust(plan, harness.now())
    harness.turn_until(harness.all_caught_up, "the listeners to be up")
    kept = plan.assignments[0]
    harness.fleet.adjust(Plan((kept,)), harness.now())
    harness.turn_until(lambda: len(harness.fleet.status().listeners) == 1, "one listener to end")
    (left,) = harness.fleet.status().listeners
    assert left.copy == kept.copy
    assert left.state is State.RUNNING
    assert harness.fleet.status().stops == {Reason.UNPLANNED: 1}


def test_a_listener_wanted_again_while_it_stops_starts_only_after_its_end(harness: FleetHarness) -> None:
    """A successor never runs beside its predecessor, even if the plan changes back at once."""
    plan = harness.plan()
    harness.fleet.adjust(plan, harness.now())
    harness.turn_until(harness.all_caught_up, "the listeners to be up")
    first = set(harness.pids())
    harness.fleet.adjust(Plan(), harness.now())
    harness.fleet.adjust(plan, harness.now())
    assert set(harness.pids()) == first
    harness.turn_until(
        lambda: harness.all_caught_up() and not first.intersection(harness.pids()), "new listeners to be up"
    )


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
    harness = FleetHarness(cluster, tmp_path, timing)
    harness.fleet.adjust(harness.plan(), harness.now())
    victim, other = harness.pids()
    os.kill(victim, signal.SIGSTOP)
    harness.turn_until(lambda: is_up(harness, other), "the other listener to be up")
    harness.skip(timing.start_seconds)
    harness.turn_until(
        lambda: victim not in harness.pids() and harness.all_caught_up(), "the hung listener to be replaced"
    )
    assert harness.fleet.status().stops == {Reason.SLOW_START: 1}
    assert not psutil.pid_exists(victim)
    harness.stop()


class Unheard(ListenerProcess):
    """A process whose messages are lost: a signal may stop it only after it has sent its hello."""

    def receive(self) -> list[FromListener]:
        """Read the messages from the pipe, so that its end is noticed, and return none."""
        super().receive()
        return []


def is_up(harness: FleetHarness, pid: int) -> bool:
    """Say whether a listener has said hello."""
    return any(each.pid == pid and each.state is State.RUNNING for each in harness.fleet.status().listeners)


def test_a_listener_whose_loop_goes_silent_is_killed_and_replaced(cluster: SimClusterThread, tmp_path: Path) -> None:
    """A process without signs of life is aborted, then killed, then started again. The other one is left alone."""
    timing = Timing(stop_seconds=5.0, abort_seconds=0.2, backoff=Backoff(initial_seconds=0.05, max_seconds=0.1))
    harness = FleetHarness(cluster, tmp_path, timing)
    harness.fleet.adjust(harness.plan(), harness.now())
    harness.turn_until(harness.all_caught_up, "the listeners to be up")
    victim, other = harness.pids()
    os.kill(victim, signal.SIGSTOP)
    before = rounds(harness, other)
    harness.skip(0.6 * timing.silence_seconds)
    # Their changes end an idle listener's long poll, so its next round comes at once.
    harness.cluster.seed_users(10)
    harness.turn_until(lambda: rounds(harness, other) > before, "the other listener to go round")
    harness.skip(0.6 * timing.silence_seconds)
    harness.turn_until(
        lambda: victim not in harness.pids() and harness.all_caught_up(), "the silent listener to be replaced"
    )
    assert harness.fleet.status().stops == {Reason.SILENT: 1}
    harness.stop()


def rounds(harness: FleetHarness, pid: int) -> int:
    """Return the number of rounds in a listener's last report."""
    (report,) = [each.report for each in harness.fleet.status().listeners if each.pid == pid]
    return report.rounds if report is not None else 0


@pytest.mark.parametrize("failing", [1, 2])
def test_listeners_that_fail_for_good_exhaust_the_fleet_only_if_they_are_most(
    cluster: SimClusterThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """One of two listeners may fail as often as it likes: the other one keeps its process, and the status tells."""
    harness = FleetHarness(cluster, tmp_path, faults=3)
    broken = [each.copy for each in harness.plan().assignments[:failing]]

    def break_some(start: ListenerStart) -> ListenerProcess:
        if start.copy in broken:
            raise ConnectionResetError(104, "the fork server ended")
        return ListenerProcess(start)

    monkeypatch.setattr(fleet, "ListenerProcess", break_some)
    harness.fleet.adjust(harness.plan(), harness.now())
    harness.turn_until(lambda: [each.failures >= 3 for each in harness.status_of(broken)] == [True] * failing, "faults")
    assert harness.fleet.exhausted == harness.fleet.status().most_fail == (failing == 2)
    if failing == 1:
        pids = harness.pids()
        (others,) = [each for each in harness.fleet.status().listeners if each.copy not in broken]
        harness.turn_until(lambda: harness.status_of(broken)[0].failures >= 6, "more faults")
        assert (harness.pids(), others.restarts, harness.fleet.exhausted) == (pids, 0, False)
        assert [each.copy for each in harness.fleet.status().failing] == broken
    harness.stop()


def test_a_cause_outside_of_the_listeners_never_exhausts_the_fleet(cluster: SimClusterThread, tmp_path: Path) -> None:
    """No state can be written. A restart of the instance would not change that, so it is only tried again."""
    (tmp_path / "blocked").write_text("a file where the state directory should be")
    harness = FleetHarness(cluster, tmp_path / "blocked", faults=1)
    harness.fleet.adjust(harness.plan(), harness.now())
    harness.turn_until(lambda: all(each.failures >= 3 for each in harness.fleet.status().listeners), "failures")
    assert {each.reason for each in harness.fleet.status().listeners} == {Reason.AGAIN}
    assert not harness.fleet.exhausted
    harness.stop()


def test_a_machine_without_room_for_processes_never_exhausts_the_fleet(
    cluster: SimClusterThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restart would take the listeners down that there are, and start none of the others."""
    harness = FleetHarness(cluster, tmp_path, faults=1)

    def refuse(_start: ListenerStart) -> ListenerProcess:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(fleet, "ListenerProcess", refuse)
    harness.fleet.adjust(harness.plan(), harness.now())
    harness.turn_until(lambda: all(each.failures >= 3 for each in harness.fleet.status().listeners), "failures")
    assert {each.reason for each in harness.fleet.status().listeners} == {Reason.AGAIN}
    assert not harness.fleet.exhausted
    harness.stop()


def test_who_asks_for_the_status_does_not_wait_for_the_loop(
    harness: FleetHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fork server that does not answer holds the loop up for many seconds. Health is asked for meanwhile."""
    monkeypatch.setattr(fleet_status, "_PATIENCE_SECONDS", 0.01)
    assert harness.fleet.status().listeners == ()
    harness.fleet.adjust(harness.plan(), harness.now())
    before = harness.fleet.status()
    with harness.fleet.asking():
        assert harness.fleet.status() is before
    assert harness.fleet.status() is not before


def test_an_ordered_restart_replaces_one_listener_and_counts_for_nothing(harness: FleetHarness) -> None:
    """Its work is finished first, and the other listener is left alone."""
    harness.fleet.adjust(harness.plan(), harness.now())
    harness.turn_until(harness.all_caught_up, "the listeners to be up")
    (first, other), copy = harness.pids(), harness.plan().assignments[0].copy
    assert harness.fleet.restart(copy, harness.now())
    harness.turn_until(lambda: first not in harness.pids() and harness.all_caught_up(), "another process")
    status = harness.fleet.status()
    assert other in harness.pids()
    assert [(each.restarts, each.failures) for each in status.listeners] == [(0, 0)] * 2
    assert status.stops == {Reason.ORDERED: 1}


def test_no_listener_is_restarted_that_the_plan_does_not_have(harness: FleetHarness) -> None:
    """The caller is told, and nothing is started."""
    copy = harness.plan().assignments[0].copy
    assert not harness.fleet.restart(copy, harness.now())
    assert harness.pids() == []


def test_shares_of_the_work_in_flight_follow_the_number_of_listeners(harness: FleetHarness) -> None:
    """The listeners share the limit of the instance, so fewer listeners have a larger share each."""
    plan = harness.plan()
    harness.fleet.adjust(plan, harness.now())
    harness.turn_until(harness.all_caught_up, "the listeners to be up")
    harness.fleet.adjust(Plan(plan.assignments[:1]), harness.now())
    harness.turn_until(lambda: len(harness.fleet.status().listeners) == 1, "one listener to end")
    harness.cluster.set_delay(1, 0.1)
    harness.cluster.seed_users(200, "later")
    most = 0

    def served() -> bool:
        nonlocal most
        (only,) = harness.fleet.status().listeners
        most = max(most, only.report.in_flight if only.report else 0)
        return most > 4

    harness.turn_until(served, "more than half of the limit to be in flight at once")


def test_what_earlier_listeners_have_left_on_disk_is_taken_over_and_goes(harness: FleetHarness) -> None:
    """A thousand files were once left behind. The listeners that run keep their own."""
    for number in range(50):
        with closing(Store.open(harness.directory / f"old-{number}.sqlite")) as store:
            store.record_intent(f"org.couchdb.user:of-{number}")
    harness.fleet.adjust(harness.plan(), harness.now())
    harness.fleet.retire_state()
    harness.turn_until(harness.all_caught_up, "the listeners to be up")
    in_use = {harness.state_file(each.copy) for each in harness.plan().assignments}
    harness.turn_until(lambda: set(harness.directory.glob("*.sqlite")) == in_use, "all other files to be gone")
    harness.stop()
    assert set(harness.directory.glob("*.sqlite")) == in_use


def test_a_listener_that_cannot_be_started_is_tried_again(
    harness: FleetHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the machine has no processes left for a moment, that costs a back-off, and not the instance."""
    refusals = iter([True, True])

    def refuse_twice(start: ListenerStart) -> ListenerProcess:
        if next(refusals, False):
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return ListenerProcess(start)

    monkeypatch.setattr(fleet, "ListenerProcess", refuse_twice)
    harness.fleet.adjust(harness.plan(), harness.now())
    harness.turn_until(harness.all_caught_up, "both listeners to be up after all")
    assert sum(each.restarts for each in harness.fleet.status().listeners) == 2
