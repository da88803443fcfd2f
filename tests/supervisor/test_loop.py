"""The supervisor's loop, with a fleet of real listeners where processes matter and none where they do not."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from peruserd.core.lifecycle import RestartBudget, Timing
from peruserd.core.ranges import ShardMap
from peruserd.core.views import Plan, View
from peruserd.simcluster import SimClusterThread
from peruserd.supervisor.fleet import Fleet
from peruserd.supervisor.loop import Inbox, Outcome, Supervisor
from tests.supervisor.rig import Rig

DEADLINE_SECONDS = 60.0
EMPTY = View(nodes=("n1",), instances=("n1",), shard_map=None)


def supervisor(fleet: Fleet, plans: Callable[[View], Plan], said: list[str], quiet: float = 0.0) -> Supervisor:
    """Make a supervisor that notes what it tells."""
    return Supervisor(fleet, make_plan=plans, quiet_seconds=quiet, tell=said.append)


def idle_fleet() -> Fleet:
    """Make a fleet that is never given a plan with anything in it."""

    def start_message(*_arguments: object) -> None:
        raise AssertionError("nothing was to be started")

    return Fleet(start_message, most_in_flight=1, timing=Timing(), budget=RestartBudget(1, 1.0))  # type: ignore[arg-type]


class Running:
    """A supervisor's loop in a thread, ended as a signal would end it."""

    def __init__(self, subject: Supervisor) -> None:
        self._subject = subject
        self._outcome: list[Outcome] = []
        self._thread = threading.Thread(target=lambda: self._outcome.append(subject.run()))
        self._thread.start()

    def end(self) -> Outcome:
        """Stop the loop and return how it ended."""
        self._subject._inbox.put(signal.SIGTERM)
        return self.join()

    def join(self) -> Outcome:
        """Wait for the loop's own end."""
        self._thread.join(DEADLINE_SECONDS)
        assert not self._thread.is_alive()
        return self._outcome[0]


def wait_for(happened: Callable[[], bool]) -> None:
    """Wait until something happened."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_sigterm_ends_a_loop_that_has_nothing_to_do() -> None:
    """Told to stop, the loop ends with 0 although no view ever came."""
    said: list[str] = []
    assert Running(supervisor(idle_fleet(), lambda _view: Plan(), said)).end() is Outcome.STOPPED
    assert said == ["stopping on SIGTERM"]


def test_a_missing_authentication_database_is_said_and_waited_for() -> None:
    """An empty plan is told in words, and the loop goes on."""
    said: list[str] = []
    subject = supervisor(idle_fleet(), lambda _view: Plan(), said)
    running = Running(subject)
    subject.on_view(EMPTY)
    wait_for(lambda: bool(said))
    assert running.end() is Outcome.STOPPED
    assert said[0] == "waiting for the authentication database, which does not exist"


def test_sighup_does_not_end_the_daemon() -> None:
    """A hang-up, whose default is death, is noted only."""
    said: list[str] = []
    subject = supervisor(idle_fleet(), lambda _view: Plan(), said)
    running = Running(subject)
    subject._inbox.put(signal.SIGHUP)
    subject.on_view(EMPTY)
    wait_for(lambda: bool(said))
    assert running.end() is Outcome.STOPPED


def test_a_view_that_flaps_within_the_quiet_period_makes_no_plan() -> None:
    """Only a view that stays takes effect; the first one does at once."""
    planned: list[View] = []

    def plan(view: View) -> Plan:
        planned.append(view)
        return Plan()

    flapped = View(nodes=("n1", "n2"), instances=("n1", "n2"), shard_map=ShardMap("_users", ".1", {}))
    subject = supervisor(idle_fleet(), plan, [], quiet=3600.0)
    running = Running(subject)
    subject.on_view(EMPTY)
    wait_for(lambda: bool(planned))
    for view in (flapped, EMPTY, flapped, EMPTY):
        subject.on_view(view)
    running.end()
    assert set(planned) == {EMPTY}


def test_a_loop_runs_listeners_by_its_views_and_ends_them(cluster: SimClusterThread, tmp_path: Path) -> None:
    """From the first view to a clean end: listeners run, serve, and are gone."""
    rig = Rig(cluster, tmp_path)
    rig.cluster.seed_users(5)
    subject = supervisor(rig.fleet, lambda _view: rig.plan(), [])
    running = Running(subject)
    subject.on_view(EMPTY)
    wait_for(lambda: rig.fleet.status().ready and rig.created() == 5)
    os.kill(rig.fleet.status().listeners[0].pid, signal.SIGKILL)
    wait_for(lambda: sum(each.restarts for each in rig.fleet.status().listeners) == 1 and rig.fleet.status().ready)
    assert running.end() is Outcome.STOPPED
    assert rig.fleet.idle


def test_restarts_past_the_budget_end_the_loop_with_one(cluster: SimClusterThread, tmp_path: Path) -> None:
    """Where listeners cannot stay up, the daemon exits and leaves it to systemd."""
    (tmp_path / "blocked").write_text("a file where the state directory should be")
    rig = Rig(cluster, tmp_path / "blocked", burst=2)
    said: list[str] = []
    subject = supervisor(rig.fleet, lambda _view: rig.plan(), said)
    running = Running(subject)
    subject.on_view(EMPTY)
    assert running.join() is Outcome.EXHAUSTED
    assert "too often" in said[-1]


def test_an_inbox_hands_over_in_order_and_wakes_its_reader() -> None:
    """What is put comes out in its order, once."""
    inbox = Inbox()
    assert inbox.take_all() == []
    inbox.put(EMPTY)
    inbox.put(signal.SIGTERM)
    assert inbox.take_all() == [EMPTY, signal.SIGTERM]
    assert inbox.take_all() == []
