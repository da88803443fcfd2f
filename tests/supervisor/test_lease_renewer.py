"""The lease renewer, on a simulated cluster of one node."""

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from peruserd import ending
from peruserd.core.cluster.leases import PROTOCOL, Lease, Role
from peruserd.core.cluster.views import View
from peruserd.core.ownership.ranges import ShardMap
from peruserd.couch.client import Client
from peruserd.couch.errors import UnreachableError
from peruserd.couch.session import Session
from peruserd.simcluster import SimClusterThread
from peruserd.supervisor import lease_renewer as renewer_module
from peruserd.supervisor.lease_renewer import LeaseRenewer
from peruserd.supervisor.membership import Member
from tests.couch.connecting import make_lease_database, settings_of, tokens_of
from tests.waiting import PATIENCE_SECONDS, eventually, eventually_at_least

ME = "node1@127.0.0.1"
LEASES = "peruserd"
NEVER_SECONDS = 3600.0
OFTEN_SECONDS = 0.01
VIEW = View((ME,), (ME,), ShardMap("_users", ".1", {}))


class RenewerHarness:
    """Lease renewers with their clients and database; each renewal asks for the node once."""

    def __init__(self, cluster: SimClusterThread) -> None:
        # A request without an answer waits for ever, unless it is interrupted.
        couchdb, credentials = settings_of(cluster.urls[0], read_timeout=NEVER_SECONDS)
        tokens = tokens_of(credentials)
        self.member = Member(incarnation="me", replaces=None, ttl_seconds=3600.0, version="1.0")
        self.session, self.last_session = Session(couchdb, tokens), Session(couchdb, tokens)
        self.client = Client(Session(couchdb, tokens))
        self.database = make_lease_database(self.client)
        self.alive = True
        self.drained = False
        self.asked_whether_alive = 0
        self.renewals = 0
        self._renewers: list[LeaseRenewer] = []

    def node(self) -> str | None:
        self.renewals += 1
        return ME

    def is_alive(self) -> bool:
        self.asked_whether_alive += 1
        return self.alive

    def is_drained(self) -> bool:
        return self.drained

    def shows_maintenance(self, *, on: bool) -> bool:
        """Say whether the lease shows this maintenance mode."""
        lease = self.written()
        return lease is not None and lease.maintenance is on

    def renewer(self, interval_seconds: float, node: Callable[[], str | None] | None = None) -> LeaseRenewer:
        """Make a renewer; the end of the test stops it."""
        made = LeaseRenewer(
            Client(self.session),
            Client(self.last_session),
            self.member,
            database=self.database,
            interval_seconds=interval_seconds,
            node=node or self.node,
            is_alive=self.is_alive,
            is_drained=self.is_drained,
        )
        self._renewers.append(made)
        return made

    def written(self, role: Role = Role.ACTIVE) -> Lease | None:
        """Return the lease with a role that is in the cluster."""
        return next((lease for lease in self.client.leases(LEASES) if lease.role is role), None)

    def counter(self, role: Role = Role.ACTIVE) -> int:
        """Return the counter of that lease; 0 without a lease."""
        lease = self.written(role)
        return 0 if lease is None else lease.counter

    def end(self) -> None:
        """Stop all renewers that still run."""
        for renewer in self._renewers:
            if renewer._task.is_running:
                renewer.stop()


@pytest.fixture
def harness(cluster: SimClusterThread) -> Iterator[RenewerHarness]:
    """A harness for an instance that has read the leases, and found no other instance."""
    made = RenewerHarness(cluster)
    made.member.observe(ME, [], time.monotonic())
    yield made
    made.end()


@pytest.fixture
def no_quick_renewals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the interval apply from the first renewal on."""
    monkeypatch.setattr(renewer_module, "_FIRST_RENEWALS", 0)


def test_a_renewer_writes_a_lease_that_grows(harness: RenewerHarness) -> None:
    """Each renewal writes a newly signed lease, and the lease's age is known."""
    harness.member.set_address("127.0.0.1:9984")
    renewer = harness.renewer(OFTEN_SECONDS)
    assert renewer.seconds_since_renewal() is None
    renewer.start()
    eventually(lambda: harness.counter() >= 3)
    lease = harness.written()
    assert lease is not None
    assert lease == Lease(
        ME, "me", lease.counter, Role.ACTIVE, version="1.0", address="127.0.0.1:9984", protocol=PROTOCOL
    )
    silence = renewer.seconds_since_renewal()
    assert silence is not None
    assert silence >= 0.0
    assert renewer.failures == 0


def test_the_first_renewals_come_quickly(harness: RenewerHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others believe a new instance once its counter has grown, so this must not take a whole interval."""
    monkeypatch.setattr(renewer_module, "_FIRST_SECONDS", OFTEN_SECONDS)
    harness.renewer(NEVER_SECONDS).start()
    eventually(lambda: harness.counter() == renewer_module._FIRST_RENEWALS + 1)


def test_a_lease_is_not_written_while_the_work_it_stands_for_does_not_go_on(harness: RenewerHarness) -> None:
    """A daemon that hangs loses its lease, and has it again when it goes on."""
    harness.alive = False
    renewer = harness.renewer(OFTEN_SECONDS)
    renewer.start()
    eventually(lambda: harness.asked_whether_alive >= 3)
    assert (harness.written(), harness.renewals, renewer.seconds_since_renewal()) == (None, 0, None)
    harness.alive = True
    eventually(lambda: harness.counter() >= 1)
    assert renewer.failures == 0


def test_a_renewer_that_stops_says_so(harness: RenewerHarness, cluster: SimClusterThread) -> None:
    """After the last lease others need not wait for the time to live, and no renewal follows it."""
    renewer = harness.renewer(OFTEN_SECONDS)
    renewer.start()
    eventually(lambda: harness.counter() >= 2)
    renewer.stop()
    last = harness.written()
    assert last is not None
    assert last.released
    assert last == harness.member.lease
    cluster.clear_requests()
    assert not renewer._task.is_running
    assert cluster.requests() == {}


def test_an_instance_that_never_had_a_lease_releases_none(harness: RenewerHarness, cluster: SimClusterThread) -> None:
    """A daemon that is stopped before its first lease writes nothing."""
    harness.alive = False
    cluster.clear_requests()
    renewer = harness.renewer(OFTEN_SECONDS)
    renewer.start()
    renewer.stop()
    assert harness.written() is None
    assert not any(method == "PUT" for _, method, _ in cluster.requests())


def test_a_release_that_cannot_be_written_is_only_logged(harness: RenewerHarness, cluster: SimClusterThread) -> None:
    """Others notice the silence, and the stop itself does not fail."""
    renewer = harness.renewer(NEVER_SECONDS)
    renewer.start()
    eventually(lambda: renewer.seconds_since_renewal() is not None)
    cluster.fail(1, 500, path_regex="_local", method="PUT")
    with capture_logs() as logged:
        renewer.stop()
    assert [line["event"] for line in logged if line["log_level"] == "warning"] == ["lease not released"]


@pytest.fixture
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the end of a renewer be due soon."""
    monkeypatch.setattr(ending, "LEASE_GRACE_SECONDS", 0.1)
    monkeypatch.setattr(ending, "LEASE_SECONDS", 0.3)


def _stop(renewer: LeaseRenewer) -> None:
    """Stop a renewer from another thread, and check that it ends."""
    stopping = threading.Thread(target=renewer.stop, daemon=True)
    stopping.start()
    stopping.join(PATIENCE_SECONDS)
    assert not stopping.is_alive()


def test_a_renewal_that_hangs_does_not_hold_up_the_last_lease(
    harness: RenewerHarness, cluster: SimClusterThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The renewal is interrupted, and others learn at once that this instance has stopped."""
    monkeypatch.setattr(ending, "LEASE_GRACE_SECONDS", 0.1)
    renewer = harness.renewer(OFTEN_SECONDS)
    renewer.start()
    eventually(lambda: harness.counter() >= 1)
    cluster.fail(1, "hang", path_regex="^/_up$")
    # A renewal that takes many intervals hangs.
    eventually(lambda: (renewer.seconds_since_renewal() or 0.0) > 50 * OFTEN_SECONDS)
    _stop(renewer)
    lease = harness.written()
    assert lease is not None
    assert lease.released


@pytest.mark.usefixtures("little_patience")
def test_a_server_that_hangs_does_not_hold_up_the_stop(harness: RenewerHarness, cluster: SimClusterThread) -> None:
    """Neither a renewal nor the last lease gets an answer. The stop goes on, and others notice the silence."""
    renewer = harness.renewer(OFTEN_SECONDS)
    renewer.start()
    eventually(lambda: renewer.seconds_since_renewal() is not None)
    cluster.fail(1, "hang")
    with capture_logs() as logged:
        _stop(renewer)
    assert [line["part"] for line in logged if "left behind" in line["event"]] == ["renewer"]
    harness.last_session.interrupt()
    assert renewer._task.ends_within(PATIENCE_SECONDS)


def test_a_lease_database_that_was_deleted_is_no_failure(harness: RenewerHarness) -> None:
    """The cluster watch is told to check the database and makes it again. After that the lease is written."""
    assert harness.client.delete_database(LEASES)
    renewer = harness.renewer(OFTEN_SECONDS)
    with capture_logs() as logged:
        renewer.start()
        eventually(lambda: harness.renewals >= 3)
        assert (renewer.failures, renewer.seconds_since_renewal()) == (0, None)
        assert harness.database._check_wanted.is_set()
        make_lease_database(harness.client)
        eventually(lambda: harness.counter() >= 1)
    assert [line for line in logged if line["log_level"] == "warning"] == []


@pytest.mark.parametrize("status", [404, 405])
def test_leases_that_a_proxy_does_not_find_are_a_failure(
    harness: RenewerHarness, cluster: SimClusterThread, status: int
) -> None:
    """No instance makes the database again, because it exists. The failures show that the lease is not written."""
    cluster.fail(1, status, path_regex="_local_docs")
    renewer = harness.renewer(OFTEN_SECONDS)
    with capture_logs() as logged:
        renewer.start()
        eventually(lambda: renewer.failures >= 3)
    assert renewer.seconds_since_renewal() is None
    assert events(logged) == ["lease not written"]


def test_nothing_is_asked_of_a_database_that_is_not_ours(cluster: SimClusterThread, harness: RenewerHarness) -> None:
    """No lease and no last lease is written into a database that is open to others or belongs to somebody else."""
    renewer = harness.renewer(OFTEN_SECONDS)
    renewer.start()
    eventually(lambda: harness.counter() >= 1)
    harness.database._state = msgspec.structs.replace(harness.database.state, usable=False)
    renewals = harness.renewals
    eventually(lambda: harness.renewals >= renewals + 2)
    cluster.clear_requests()
    eventually(lambda: harness.renewals >= renewals + 5)
    renewer.stop()
    assert cluster.requests() == {}


def _refusing(harness: RenewerHarness, cluster: SimClusterThread) -> Callable[[], str | None]:
    cluster.fail(1, 500, path_regex="_local", method="PUT")
    return harness.node


def _unknown(_chest: RenewerHarness, _cluster: SimClusterThread) -> Callable[[], str | None]:
    def node() -> str | None:
        raise UnreachableError("away")

    return node


@pytest.mark.parametrize("fault", [_refusing, _unknown], ids=["not-written", "node-unknown"])
def test_failures_are_counted_and_logged_once(harness: RenewerHarness, cluster: SimClusterThread, fault: Any) -> None:
    """One line says that the lease cannot be written, for any length of time. The metrics count every failure."""
    renewer = harness.renewer(OFTEN_SECONDS, node=fault(harness, cluster))
    with capture_logs() as logged:
        renewer.start()
        eventually(lambda: renewer.failures >= 3)
    assert renewer.seconds_since_renewal() is None
    assert [line["log_level"] for line in logged if "not written" in line["event"]] == ["warning"]


def events(logged: list[Any]) -> list[str]:
    """Return the log lines about leases."""
    return [line["event"].partition(";")[0] for line in logged if "lease" in line["event"]]


def test_a_lease_that_can_be_written_again_is_logged_once(harness: RenewerHarness, cluster: SimClusterThread) -> None:
    """The recovery is logged like the failure before it, and so is the next failure."""
    renewer = harness.renewer(OFTEN_SECONDS)
    with capture_logs() as logged:
        for turn in (1, 2):
            failures = renewer.failures
            cluster.fail(1, 500, path_regex="_local", method="PUT")
            if not renewer._task.is_running:
                renewer.start()
            eventually_at_least(failures + 2, lambda: renewer.failures)
            cluster.clear_faults()
            eventually_at_least(harness.counter() + 2, harness.counter)
            # The lease can be read before the renewer has its answer.
            eventually_at_least(2 * turn, lambda: len(events(logged)))
    assert events(logged) == ["lease not written", "lease can be written again"] * 2


def test_nothing_is_written_before_the_instance_has_looked_round(cluster: SimClusterThread) -> None:
    """The lease in the database may be another instance's newest one. It must be read before it is overwritten."""
    harness = RenewerHarness(cluster)
    cluster.clear_requests()
    renewer = harness.renewer(OFTEN_SECONDS)
    renewer.start()
    eventually(lambda: harness.renewals >= 3)
    assert not any(method == "PUT" for _, method, _ in cluster.requests())
    assert (harness.written(), renewer.seconds_since_renewal(), renewer.failures) == (None, None, 0)
    harness.member.observe(ME, [], time.monotonic())
    eventually(lambda: harness.counter() >= 1)
    harness.end()


def test_a_renewal_looks_at_what_it_overwrites(harness: RenewerHarness) -> None:
    """An older active instance beside the same node writes the same document. The younger one must notice it."""
    renewer = harness.renewer(OFTEN_SECONDS)
    renewer.start()
    eventually(lambda: harness.counter() >= 1)
    elder = iter(range(1000, 1_000_000))

    def stands_by() -> bool:
        harness.client.put_lease(LEASES, Lease(ME, "elder", next(elder)))
        return harness.counter(Role.STANDBY) >= 1

    eventually(stands_by)
    assert harness.member.lease.role is Role.STANDBY


@pytest.mark.usefixtures("no_quick_renewals")
def test_another_role_is_written_at_once(harness: RenewerHarness) -> None:
    """An instance beside the same node must learn at once, and not after an interval, that this one stands by."""
    renewer = harness.renewer(NEVER_SECONDS)
    renewer.start()
    eventually(lambda: renewer.seconds_since_renewal() is not None)
    for counter in (8, 9):
        harness.member.observe(ME, [Lease(ME, "elder", counter)], time.monotonic())
    renewer.notice(VIEW)
    eventually(lambda: harness.counter(Role.STANDBY) == 2)


def test_a_standby_that_takes_over_leaves_no_lease_of_its_own_behind(harness: RenewerHarness) -> None:
    """An instance that starts later would otherwise wait for the standby, and there is none any more."""
    for incarnation in ("me", "another standby"):
        harness.client.put_lease(LEASES, Lease(ME, incarnation, 7, role=Role.STANDBY))
        harness.renewer(NEVER_SECONDS)._renew()
        assert harness.written(Role.ACTIVE) is not None
        assert (harness.written(Role.STANDBY) is None) is (incarnation == "me")


def test_a_standby_that_stops_as_it_takes_over_leaves_none_either(harness: RenewerHarness) -> None:
    """Its last lease is an active one, although it has not written one before."""
    renewer = harness.renewer(NEVER_SECONDS)
    standby = Lease(ME, "me", 7, role=Role.STANDBY)
    harness.client.put_lease(LEASES, standby)
    renewer._written, renewer._renewed_at = standby, 0.0
    renewer._release()
    assert harness.written(Role.STANDBY) is None
    last = harness.written(Role.ACTIVE)
    assert last is not None
    assert last.released


@pytest.mark.usefixtures("no_quick_renewals")
def test_a_look_that_shows_nothing_new_wakes_nobody(harness: RenewerHarness) -> None:
    """While the last lease is up to date, no renewal is due before the interval is over."""
    renewer = harness.renewer(NEVER_SECONDS)
    renewer.start()
    eventually(lambda: renewer.seconds_since_renewal() is not None)
    for _ in range(3):
        renewer.notice(VIEW)
    assert not renewer._task.is_wanted
    assert harness.counter() == 1


@pytest.mark.usefixtures("no_quick_renewals")
def test_a_database_that_appears_gets_its_lease_at_once(harness: RenewerHarness) -> None:
    """A view without readable leases asks for no renewal."""
    assert harness.client.delete_database(LEASES)
    renewer = harness.renewer(NEVER_SECONDS)
    renewer.start()
    eventually(lambda: harness.renewals == 1)
    renewer.notice(msgspec.structs.replace(VIEW, leases_readable=False))
    assert not renewer._task.is_wanted
    make_lease_database(harness.client)
    renewer.notice(VIEW)
    eventually(lambda: harness.counter() >= 1)


@pytest.mark.usefixtures("no_quick_renewals")
def test_a_lease_lost_with_its_database_is_written_anew(harness: RenewerHarness) -> None:
    """Leases written into an earlier database do not count."""
    renewer = harness.renewer(NEVER_SECONDS)
    renewer.start()
    eventually(lambda: harness.counter() == 1)
    assert harness.client.delete_database(LEASES)
    renewer._task.soon()
    eventually(lambda: harness.renewals == 2 and renewer._written is None)
    make_lease_database(harness.client)
    renewer.notice(VIEW)
    eventually(lambda: harness.counter() == 2)


def test_maintenance_of_the_node_is_in_the_lease(harness: RenewerHarness, cluster: SimClusterThread) -> None:
    """The instance still owns users, so the lease is written all the same. Each change is logged once."""
    renewer = harness.renewer(OFTEN_SECONDS)
    with capture_logs() as logged:
        renewer.start()
        eventually(lambda: harness.counter() >= 2)
        for on in (True, False):
            cluster.maintenance(1, on=on)
            eventually(partial(harness.shows_maintenance, on=on))
            assert renewer.maintenance is on
    events = [line["event"].partition(";")[0] for line in logged if line["event"].startswith("node in")]
    assert events == ["node in maintenance mode", "node in service"]
    assert renewer.failures == 0


@pytest.mark.parametrize("outcome", [400, 403, 409, 429, 500, 503, "cut"])
def test_a_proxy_that_keeps_the_nodes_health_to_itself_costs_no_lease(
    harness: RenewerHarness, cluster: SimClusterThread, outcome: int | str
) -> None:
    """The maintenance mode is only a field of the lease. Without the lease others would take over."""
    cluster.fail(1, outcome, path_regex="^/_up$")
    renewer = harness.renewer(OFTEN_SECONDS)
    renewer.start()
    eventually(lambda: harness.counter() >= 2)
    assert (renewer.failures, renewer.maintenance) == (0, False)


def test_a_lease_that_was_written_is_no_failure_if_the_one_as_a_standby_stays(
    harness: RenewerHarness, cluster: SimClusterThread
) -> None:
    """A proxy may forbid deletions. The active lease is written all the same, and its age is known."""
    harness.client.put_lease(LEASES, Lease(ME, "me", 7, role=Role.STANDBY))
    cluster.fail(1, 405, method="DELETE")
    renewer = harness.renewer(OFTEN_SECONDS)
    with capture_logs() as logged:
        renewer.start()
        eventually(lambda: harness.counter() >= 2)
        renewer.stop()
    assert harness.written(Role.STANDBY) is not None
    assert (renewer.failures, renewer.seconds_since_renewal() is None) == (0, False)
    assert [line["event"] for line in logged if line["log_level"] != "debug"] == ["lease released"]


def test_a_renewer_outlives_an_error_that_nobody_foresaw(
    harness: RenewerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unforeseen error is counted and logged like any other failure, and the next renewal comes."""
    renewer = harness.renewer(OFTEN_SECONDS)
    with monkeypatch.context() as patched:
        patched.setattr(harness.member, "observe", lambda *_arguments: 1 / 0)
        renewer.start()
        eventually(lambda: renewer.failures >= 2)
    assert renewer.seconds_since_renewal() is None
    eventually(lambda: harness.counter() >= 1)


def test_where_no_leases_are_kept_nothing_is_asked(harness: RenewerHarness, cluster: SimClusterThread) -> None:
    """On a server without shards there is only one instance, so it keeps no lease."""
    asked = []

    def node() -> None:
        asked.append(1)

    renewer = harness.renewer(OFTEN_SECONDS, node=node)
    cluster.clear_requests()
    renewer.start()
    eventually(lambda: len(asked) >= 3)
    renewer.stop()
    assert cluster.requests() == {}
    assert (renewer.failures, renewer.seconds_since_renewal()) == (0, None)


def test_an_interrupted_renewal_is_no_failure(harness: RenewerHarness) -> None:
    """The session is interrupted because the daemon stops."""
    renewer = harness.renewer(OFTEN_SECONDS)
    harness.session.interrupt()
    renewer.start()
    eventually(lambda: harness.renewals >= 3)
    assert (renewer.failures, renewer.seconds_since_renewal()) == (0, None)


def test_a_drained_instance_says_so_at_once_and_takes_it_back(harness: RenewerHarness) -> None:
    """The next regular lease would be an hour away. The member learns what is written."""
    renewer = harness.renewer(3600.0)
    renewer.start()
    eventually(lambda: harness.written() is not None)
    harness.member.drain(on=True)
    harness.drained = True
    renewer.renew_soon()
    eventually(lambda: renewer.written is not None and renewer.written.drained)
    assert harness.written() == renewer.written
    harness.member.drain(on=False)
    harness.drained = False
    assert harness.member.observe(ME, [], time.monotonic()).drain.drained == {ME}
    renewer.renew_soon()
    eventually(lambda: renewer.written is not None and not renewer.written.drained)
    assert harness.member.observe(ME, [], time.monotonic()).drain.drained == set()
