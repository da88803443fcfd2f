"""Health and readiness, with a fixed fleet and supervisor."""

import time
from typing import Any

import msgspec
import pytest

from peruserd.core.cluster.views import Copy, View
from peruserd.core.ownership.ranges import Range, ShardMap
from peruserd.core.processes.counters import Counters
from peruserd.core.processes.lifecycle import Reason, State
from peruserd.core.processes.messages import Report, Stage
from peruserd.couch.cluster_database import DatabaseState
from peruserd.daemon.health import Health, Limits
from peruserd.supervisor.fleet_status import FleetStatus
from peruserd.supervisor.listener import ListenerStatus
from peruserd.supervisor.loop import MAX_WAIT_SECONDS
from peruserd.threads import LastingThread, Register
from tests.waiting import PATIENCE_SECONDS

LOWER, UPPER = Range(0, 0x7FFFFFFF), Range(0x80000000, 0xFFFFFFFF)
VIEW = View(("n1",), ("n1",), ShardMap("_users", ".1", {LOWER: ("n1",), UPPER: ("n1",)}))


class Standing:
    """A fleet, a supervisor and a database of leases with a given state."""

    def __init__(self, view: View | None, *listeners: ListenerStatus, silent_seconds: float = 0.0) -> None:
        self.view = view
        self.has_seen_cluster = view is not None
        self.leases_readable = True
        self.state = DatabaseState(usable=True)
        self.last_round = time.monotonic() - silent_seconds
        self.most_fail = False
        self._listeners = listeners

    def status(self) -> FleetStatus:
        """Return the listeners."""
        return FleetStatus(self._listeners, Counters(), {}, unreadable=(), most_fail=self.most_fail)


def _health(view: View | None, *listeners: ListenerStatus, silent_seconds: float = 0.0) -> Health:
    both = Standing(view, *listeners, silent_seconds=silent_seconds)
    return Health(both, both, both, lambda: None)


def _listener(covered: Range, *, caught_up: bool | None, state: State = State.RUNNING) -> ListenerStatus:
    """A listener; `caught_up` is None before its first report."""
    report = None
    if caught_up is not None:
        report = Report(1, Stage.FOLLOWING, caught_up, 5, 5, 0, 0, 0, Counters())
    copy = Copy("_users", covered, "n1", ".1")
    return ListenerStatus(copy, state, None, restarts=0, pid=None, report=report, caught_up=bool(caught_up))


def test_an_instance_whose_loop_goes_round_is_healthy() -> None:
    """An instance is healthy also while it waits, serves no user or is behind: a restart would not help."""
    for view, listeners in ((None, ()), (VIEW, (_listener(LOWER, caught_up=False, state=State.BACKOFF),))):
        health = _health(view, *listeners)
        assert health.healthy() == (True, "ok")
        assert health.goes_round()


def test_a_loop_that_hangs_is_unhealthy() -> None:
    """After the time of three rounds the loop counts as hanging, and the lease is no longer written."""
    assert _health(VIEW, silent_seconds=2 * MAX_WAIT_SECONDS).goes_round()
    hanging = _health(VIEW, silent_seconds=4 * MAX_WAIT_SECONDS)
    assert not hanging.goes_round()
    well, why = hanging.healthy()
    assert not well
    assert "has not gone round for 40 s" in why


def test_a_thread_that_no_longer_works_makes_the_instance_unhealthy() -> None:
    """The text names the thread. The loop still goes round."""
    standing = Standing(VIEW, _listener(LOWER, caught_up=True))
    register = Register()

    def fail() -> None:
        raise SystemExit(3)

    thread = LastingThread("cluster-watch", fail, register=register)
    health = Health(standing, standing, standing, lambda: None, register)
    assert health.healthy() == (True, "ok")
    thread.start()
    assert thread.ends_within(PATIENCE_SECONDS)
    assert health.broken() == "the thread 'cluster-watch' has ended: SystemExit(3)"
    assert health.healthy() == (False, "the thread 'cluster-watch' has ended: SystemExit(3)")
    assert health.goes_round()


def test_an_instance_most_of_whose_listeners_fail_is_unhealthy() -> None:
    """A restart of the whole instance may help. The text says where to look, and the loop still goes round."""
    standing = Standing(VIEW, _listener(LOWER, caught_up=None, state=State.BACKOFF))
    standing.most_fail = True
    health = Health(standing, standing, standing, lambda: None)
    assert health.healthy() == (False, "most listeners fail in a row; the log says why")
    assert health.goes_round()


def test_a_listener_that_fails_in_a_row_is_named_and_leaves_the_instance_healthy() -> None:
    """Its users wait, so the instance is not ready. A restart would take the others down as well."""
    failing = msgspec.structs.replace(
        _listener(UPPER, caught_up=None, state=State.BACKOFF), failures=7, reason=Reason.SILENT
    )
    health = _health(VIEW, _listener(LOWER, caught_up=True), failing)
    words = "listeners that fail in a row are tried again after pauses: 80000000-ffffffff@n1 (silent, 7 times)"
    assert health.ready() == (False, words)
    assert health.healthy() == (True, "ok")


def test_ready_is_when_every_listener_has_caught_up() -> None:
    """Readiness means that the work is done, not that a process lives."""
    assert _health(VIEW, *(_listener(each, caught_up=True) for each in (LOWER, UPPER))).ready() == (True, "ok")


def _reporting(covered: Range, **changes: Any) -> ListenerStatus:
    """A listener that has caught up, with these fields in its report."""
    listener = _listener(covered, caught_up=True)
    assert listener.report is not None
    return msgspec.structs.replace(listener, report=msgspec.structs.replace(listener.report, **changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"oldest_waiting_since": -40.0}, "a change has waited for 40 s"),
        ({"read_at": -70.0}, "its feed was last read 70 s ago"),
    ],
    ids=["users-wait", "feed-not-read"],
)
def test_a_listener_that_falls_behind_makes_the_instance_unready(changes: dict[str, float], words: str) -> None:
    """It has caught up once, and is healthy all the same: a restart would not help."""
    now = time.monotonic()
    late = _reporting(UPPER, **{name: now + seconds for name, seconds in changes.items()})
    health = _health(VIEW, _listener(LOWER, caught_up=True), late)
    assert health.ready() == (False, f"behind by more than 30 s: 80000000-ffffffff@n1 ({words})")
    assert health.healthy() == (True, "ok")


def test_the_limits_of_a_lag_are_configured() -> None:
    """An instance whose users may wait longer stays ready."""
    now = time.monotonic()
    both = Standing(VIEW, _reporting(LOWER, oldest_waiting_since=now - 40.0, read_at=now - 140.0))
    limits = Limits(ready_lag=60.0, long_poll_seconds=100.0)
    assert Health(both, both, both, lambda: None, limits=limits).ready() == (True, "ok")


def test_users_in_quarantine_are_counted_in_the_text() -> None:
    """They do not change the answer, because a single user could do that."""
    health = _health(VIEW, _reporting(LOWER, quarantined=2), _reporting(UPPER, quarantined=1))
    assert health.ready() == (True, "ok; 3 users in quarantine")
    health = _health(VIEW, _reporting(LOWER, quarantined=1), _listener(UPPER, caught_up=None))
    assert health.ready() == (False, "not caught up: 80000000-ffffffff@n1; 1 user in quarantine")


@pytest.mark.parametrize(
    ("view", "listeners", "started"),
    [
        (None, (), False),
        (VIEW, (_listener(LOWER, caught_up=True), _listener(UPPER, caught_up=True)), True),
        (VIEW, (_listener(LOWER, caught_up=True), _listener(UPPER, caught_up=False)), False),
        (VIEW, (), True),
        (msgspec.structs.replace(VIEW, standby=True), (), True),
        (msgspec.structs.replace(VIEW, shard_map=None), (), False),
    ],
    ids=["no-view", "caught-up", "behind", "nothing-to-follow", "standby", "no-database"],
)
def test_the_start_is_over_when_the_listeners_of_a_known_view_have_caught_up(
    view: View | None, listeners: tuple[ListenerStatus, ...], *, started: bool
) -> None:
    """An instance that stands by has nothing to catch up with, and one that waits for a database has."""
    assert _health(view, *listeners).started() == started


@pytest.mark.parametrize("caught_up", [False, None], ids=["behind", "not-heard-yet"])
def test_whoever_is_behind_is_named(*, caught_up: bool | None) -> None:
    """The text names the copies that are not served yet."""
    health = _health(VIEW, _listener(LOWER, caught_up=True), _listener(UPPER, caught_up=caught_up))
    assert health.ready() == (False, "not caught up: 80000000-ffffffff@n1")


@pytest.mark.parametrize(
    ("view", "why"),
    [
        (None, "waiting for CouchDB"),
        (msgspec.structs.replace(VIEW, shard_map=None), "no listener: waiting for the authentication database"),
        (msgspec.structs.replace(VIEW, standby=True), "standing by: another instance is active beside this node"),
    ],
    ids=["no-view", "no-database", "standby"],
)
def test_an_instance_that_serves_nobody_yet_is_not_ready_and_says_why(view: View | None, why: str) -> None:
    """The reasons are an unreachable server, a missing database, and another instance beside the node."""
    health = _health(view)
    assert health.ready() == (False, why)
    assert health.healthy() == (True, "ok")


def test_an_instance_that_does_not_know_yet_who_is_there_is_not_ready() -> None:
    """It serves the users that it owns in any case. Only the quiet period shows whether these are all."""
    standing = Standing(None)
    standing.has_seen_cluster = True
    health = Health(standing, standing, standing, lambda: None)
    assert health.ready() == (False, "waiting for the quiet period, to see which other instances are there")
    assert health.healthy() == (True, "ok")


@pytest.mark.parametrize("view", [None, VIEW], ids=["at-the-start", "later"])
def test_while_leases_cannot_be_read_the_instance_is_not_ready_and_says_why(view: View | None) -> None:
    """A silent instance may be dead, so its users may not be served. A restart would not help."""
    standing = Standing(view, _listener(LOWER, caught_up=True))
    standing.has_seen_cluster, standing.leases_readable = True, False
    standing.state = DatabaseState(why="no copy of the database peruserd answers: n1, n2")
    health = Health(standing, standing, standing, lambda: None)
    ready, why = health.ready()
    assert not ready
    assert why.startswith("leases cannot be read")
    assert why.endswith("no copy of the database peruserd answers: n1, n2")


def test_an_instance_that_is_not_let_in_is_not_ready_and_healthy_all_the_same() -> None:
    """This reason comes before all others. A restart would not help."""
    standing = Standing(VIEW)
    health = Health(standing, standing, standing, lambda: "CouchDB refuses the password")
    assert health.ready() == (False, "CouchDB refuses the password")
    assert health.healthy() == (True, "ok")


def test_an_instance_that_has_nothing_to_do_is_ready() -> None:
    """An instance beside a node without a copy owns no users, so all of them are served."""
    ready, why = _health(VIEW).ready()
    assert ready
    assert "no part of the authentication database" in why


def test_a_state_that_cannot_be_written_is_no_reason_for_a_restart() -> None:
    """The text names it before a hold of the cluster, and all listeners on hold."""
    held = []
    for covered, why, kind in ((LOWER, "no majority answers", "no_majority"), (UPPER, "the disk is full", "state")):
        listener = _listener(covered, caught_up=False)
        assert listener.report is not None
        report = msgspec.structs.replace(listener.report, on_hold=why, hold_kind=kind)
        held.append(msgspec.structs.replace(listener, report=report))
    health = _health(VIEW, *held)
    words = "on hold: the disk is full (seen by 00000000-7fffffff@n1, 80000000-ffffffff@n1)"
    assert health.ready() == (False, words)
    assert health.healthy() == (True, "ok")


def test_an_instance_on_hold_is_well_and_not_ready() -> None:
    """A restart would not help. The text says why the cluster does not serve, and which listeners have seen it."""
    held = _listener(UPPER, caught_up=False)
    assert held.report is not None
    report = msgspec.structs.replace(held.report, on_hold="no majority answers")
    held = msgspec.structs.replace(held, report=report)
    health = _health(VIEW, _listener(LOWER, caught_up=True), held)
    why = "on hold, because the cluster serves nobody: no majority answers (seen by 80000000-ffffffff@n1)"
    assert health.ready() == (False, why)
    assert health.healthy() == (True, "ok")
