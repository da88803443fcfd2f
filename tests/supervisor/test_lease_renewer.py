"""The renewer, on a simulated cluster of one node."""

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from peruserd import ending
from peruserd.core.cluster.leases import Lease, Role
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


class Chest:
    """A renewer, and what it needs; its node is asked for once in each beat."""

    def __init__(self, cluster: SimClusterThread) -> None:
        # A request whose answer does not come waits for ever, unless it is interrupted.
        couchdb, credentials = settings_of(cluster.urls[0], read_timeout=NEVER_SECONDS)
        tokens = tokens_of(credentials)
        self.member = Member(incarnation="me", replaces=None, ttl_seconds=3600.0, version="1.0")
        self.session, self.last_session = Session(couchdb, tokens), Session(couchdb, tokens)
        self.client = Client(Session(couchdb, tokens))
        self.database = make_lease_database(self.client)
        self.alive = True
        self.asked_whether_alive = 0
        self.renewals = 0
        self._hearts: list[LeaseRenewer] = []

    def node(self) -> str | None:
        self.renewals += 1
        return ME

    def is_alive(self) -> bool:
        self.asked_whether_alive += 1
        return self.alive

    def shows_maintenance(self, *, on: bool) -> bool:
        """Say whether the lease says so of the node."""
        lease = self.written()
        return lease is not None and lease.maintenance is on

    def renewer(self, interval_seconds: float, node: Callable[[], str | None] | None = None) -> LeaseRenewer:
        """Make a renewer, which is stopped at the end of the test."""
        made = LeaseRenewer(
            Client(self.session),
            Client(self.last_session),
            self.member,
            database=self.database,
            interval_seconds=interval_seconds,
            node=node or self.node,
            is_alive=self.is_alive,
        )
        self._hearts.append(made)
        return made

    def written(self, role: Role = Role.ACTIVE) -> Lease | None:
        """Return the lease that is in the cluster, of a role."""
        return next((lease for lease in self.client.leases(LEASES) if lease.role is role), None)

    def counter(self, role: Role = Role.ACTIVE) -> int:
        """Return its counter, 0 where there is none."""
        lease = self.written(role)
        return 0 if lease is None else lease.counter

    def end(self) -> None:
        """Stop what was started and is not stopped yet."""
        for renewer in self._hearts:
            if renewer._thread.is_alive():
                renewer.stop()


@pytest.fixture
def chest(cluster: SimClusterThread) -> Iterator[Chest]:
    """The needs of a renewer on the cluster, of an instance that has looked round and found nobody."""
    made = Chest(cluster)
    made.member.observe(ME, [], time.monotonic())
    yield made
    made.end()


@pytest.fixture
def no_first_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the interval count from the first beat on."""
    monkeypatch.setattr(renewer_module, "_FIRST_RENEWALS", 0)


def test_a_heart_writes_a_lease_that_grows(chest: Chest) -> None:
    """Each beat writes the lease as it is signed then, and its age is known."""
    chest.member.set_address("127.0.0.1:9984")
    renewer = chest.renewer(OFTEN_SECONDS)
    assert renewer.seconds_since_renewal() is None
    renewer.start()
    eventually(lambda: chest.counter() >= 3)
    lease = chest.written()
    assert lease is not None
    assert lease == Lease(ME, "me", lease.counter, Role.ACTIVE, version="1.0", address="127.0.0.1:9984")
    silence = renewer.seconds_since_renewal()
    assert silence is not None
    assert silence >= 0.0
    assert renewer.failures == 0


def test_the_first_beats_come_quickly(chest: Chest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others believe a new instance once its counter has grown, which must not take an interval."""
    monkeypatch.setattr(renewer_module, "_FIRST_SECONDS", OFTEN_SECONDS)
    chest.renewer(NEVER_SECONDS).start()
    eventually(lambda: chest.counter() == renewer_module._FIRST_RENEWALS + 1)


def test_a_lease_is_not_written_while_the_work_it_stands_for_does_not_go_on(chest: Chest) -> None:
    """A daemon that hangs loses its lease, and has it again when it goes on."""
    chest.alive = False
    renewer = chest.renewer(OFTEN_SECONDS)
    renewer.start()
    eventually(lambda: chest.asked_whether_alive >= 3)
    assert (chest.written(), chest.renewals, renewer.seconds_since_renewal()) == (None, 0, None)
    chest.alive = True
    eventually(lambda: chest.counter() >= 1)
    assert renewer.failures == 0


def test_a_heart_that_stops_says_so(chest: Chest, cluster: SimClusterThread) -> None:
    """The last lease releases the others from waiting for the time to live, and no beat comes after it."""
    renewer = chest.renewer(OFTEN_SECONDS)
    renewer.start()
    eventually(lambda: chest.counter() >= 2)
    renewer.stop()
    last = chest.written()
    assert last is not None
    assert last.released
    assert last == chest.member.lease
    cluster.clear_requests()
    assert not renewer._thread.is_alive()
    assert cluster.requests() == {}


def test_an_instance_that_never_had_a_lease_releases_none(chest: Chest, cluster: SimClusterThread) -> None:
    """A daemon that is stopped before it could say that it lives writes nothing."""
    chest.alive = False
    cluster.clear_requests()
    renewer = chest.renewer(OFTEN_SECONDS)
    renewer.start()
    renewer.stop()
    assert chest.written() is None
    assert not any(method == "PUT" for _, method, _ in cluster.requests())


def test_a_release_that_cannot_be_written_is_only_logged(chest: Chest, cluster: SimClusterThread) -> None:
    """The others find out by the silence; a stop does not fail for it."""
    renewer = chest.renewer(NEVER_SECONDS)
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
    """Stop a renewer from another thread, which must come to an end."""
    stopping = threading.Thread(target=renewer.stop, daemon=True)
    stopping.start()
    stopping.join(PATIENCE_SECONDS)
    assert not stopping.is_alive()


def test_a_beat_that_hangs_does_not_hold_up_the_last_lease(
    chest: Chest, cluster: SimClusterThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is interrupted, and the others learn at once that this instance has stopped."""
    monkeypatch.setattr(ending, "LEASE_GRACE_SECONDS", 0.1)
    renewer = chest.renewer(OFTEN_SECONDS)
    renewer.start()
    eventually(lambda: chest.counter() >= 1)
    cluster.fail(1, "hang", path_regex="^/_up$")
    # Many intervals long: a beat hangs.
    eventually(lambda: (renewer.seconds_since_renewal() or 0.0) > 50 * OFTEN_SECONDS)
    _stop(renewer)
    lease = chest.written()
    assert lease is not None
    assert lease.released


@pytest.mark.usefixtures("little_patience")
def test_a_server_that_hangs_does_not_hold_up_the_stop(chest: Chest, cluster: SimClusterThread) -> None:
    """Neither the beat nor the last lease is answered: the stop goes on, and the others find out by the silence."""
    renewer = chest.renewer(OFTEN_SECONDS)
    renewer.start()
    eventually(lambda: renewer.seconds_since_renewal() is not None)
    cluster.fail(1, "hang")
    with capture_logs() as logged:
        _stop(renewer)
    assert [line["part"] for line in logged if "left behind" in line["event"]] == ["renewer"]
    chest.last_session.interrupt()
    renewer._thread.join(PATIENCE_SECONDS)


def test_a_lease_database_that_was_deleted_is_no_failure(chest: Chest) -> None:
    """The watcher makes it again, and is told to look at it; when it is there the lease is written."""
    assert chest.client.delete_database(LEASES)
    renewer = chest.renewer(OFTEN_SECONDS)
    with capture_logs() as logged:
        renewer.start()
        eventually(lambda: chest.renewals >= 3)
        assert (renewer.failures, renewer.seconds_since_renewal()) == (0, None)
        assert chest.database._suspected.is_set()
        make_lease_database(chest.client)
        eventually(lambda: chest.counter() >= 1)
    assert [line for line in logged if line["log_level"] == "warning"] == []


@pytest.mark.parametrize("status", [404, 405])
def test_leases_that_a_proxy_does_not_find_are_a_failure(chest: Chest, cluster: SimClusterThread, status: int) -> None:
    """Nobody makes that database again, because it is there; the failures say that the lease is not written."""
    cluster.fail(1, status, path_regex="_local_docs")
    renewer = chest.renewer(OFTEN_SECONDS)
    with capture_logs() as logged:
        renewer.start()
        eventually(lambda: renewer.failures >= 3)
    assert renewer.seconds_since_renewal() is None
    assert events(logged) == ["lease not written"]


def test_nothing_is_asked_of_a_database_that_is_not_ours(cluster: SimClusterThread, chest: Chest) -> None:
    """Neither a lease nor its release is written where others can write, or where something else is kept."""
    renewer = chest.renewer(OFTEN_SECONDS)
    renewer.start()
    eventually(lambda: chest.counter() >= 1)
    chest.database._state = msgspec.structs.replace(chest.database.state, usable=False)
    renewals = chest.renewals
    eventually(lambda: chest.renewals >= renewals + 2)
    cluster.clear_requests()
    eventually(lambda: chest.renewals >= renewals + 5)
    renewer.stop()
    assert cluster.requests() == {}


def _refusing(chest: Chest, cluster: SimClusterThread) -> Callable[[], str | None]:
    cluster.fail(1, 500, path_regex="_local", method="PUT")
    return chest.node


def _unknown(_chest: Chest, _cluster: SimClusterThread) -> Callable[[], str | None]:
    def node() -> str | None:
        raise UnreachableError("away")

    return node


@pytest.mark.parametrize("fault", [_refusing, _unknown], ids=["not-written", "node-unknown"])
def test_failures_are_counted_and_logged_once(chest: Chest, cluster: SimClusterThread, fault: Any) -> None:
    """However long a lease cannot be written, one line says so; every failure is in the metrics."""
    renewer = chest.renewer(OFTEN_SECONDS, node=fault(chest, cluster))
    with capture_logs() as logged:
        renewer.start()
        eventually(lambda: renewer.failures >= 3)
    assert renewer.seconds_since_renewal() is None
    assert [line["log_level"] for line in logged if "not written" in line["event"]] == ["warning"]


def events(logged: list[Any]) -> list[str]:
    """Return what was said of leases."""
    return [line["event"].partition(";")[0] for line in logged if "lease" in line["event"]]


def test_a_lease_that_can_be_written_again_is_logged_once(chest: Chest, cluster: SimClusterThread) -> None:
    """The end of the trouble is told as its beginning was, and the next trouble is told again."""
    renewer = chest.renewer(OFTEN_SECONDS)
    with capture_logs() as logged:
        for turn in (1, 2):
            failures = renewer.failures
            cluster.fail(1, 500, path_regex="_local", method="PUT")
            if not renewer._thread.is_alive():
                renewer.start()
            eventually_at_least(failures + 2, lambda: renewer.failures)
            cluster.clear_faults()
            eventually_at_least(chest.counter() + 2, chest.counter)
            # The lease can be read before the renewer has its answer.
            eventually_at_least(2 * turn, lambda: len(events(logged)))
    assert events(logged) == ["lease not written", "lease can be written again"] * 2


def test_nothing_is_written_before_the_instance_has_looked_round(cluster: SimClusterThread) -> None:
    """A lease found at the first look may be another's sign of life, which its own lease would overwrite."""
    chest = Chest(cluster)
    cluster.clear_requests()
    renewer = chest.renewer(OFTEN_SECONDS)
    renewer.start()
    eventually(lambda: chest.renewals >= 3)
    assert not any(method == "PUT" for _, method, _ in cluster.requests())
    assert (chest.written(), renewer.seconds_since_renewal(), renewer.failures) == (None, None, 0)
    chest.member.observe(ME, [], time.monotonic())
    eventually(lambda: chest.counter() >= 1)
    chest.end()


def test_a_beat_looks_at_what_it_overwrites(chest: Chest) -> None:
    """An elder that is active beside the same node writes the same document; the younger finds out and stands by."""
    renewer = chest.renewer(OFTEN_SECONDS)
    renewer.start()
    eventually(lambda: chest.counter() >= 1)
    elder = iter(range(1000, 1_000_000))

    def stands_by() -> bool:
        chest.client.put_lease(LEASES, Lease(ME, "elder", next(elder)))
        return chest.counter(Role.STANDBY) >= 1

    eventually(stands_by)
    assert chest.member.lease.role is Role.STANDBY


@pytest.mark.usefixtures("no_first_beats")
def test_another_role_is_written_at_once(chest: Chest) -> None:
    """Another instance beside the same node must not wait an interval to learn that this one stands by."""
    renewer = chest.renewer(NEVER_SECONDS)
    renewer.start()
    eventually(lambda: renewer.seconds_since_renewal() is not None)
    for counter in (8, 9):
        chest.member.observe(ME, [Lease(ME, "elder", counter)], time.monotonic())
    renewer.notice(VIEW)
    eventually(lambda: chest.counter(Role.STANDBY) == 2)


def test_a_standby_that_takes_over_leaves_no_lease_of_its_own_behind(chest: Chest) -> None:
    """Whoever finds it later would wait for a sign of life of an instance that is another one's past."""
    for incarnation in ("me", "another standby"):
        chest.client.put_lease(LEASES, Lease(ME, incarnation, 7, role=Role.STANDBY))
        chest.renewer(NEVER_SECONDS)._renew()
        assert chest.written(Role.ACTIVE) is not None
        assert (chest.written(Role.STANDBY) is None) is (incarnation == "me")


def test_a_standby_that_stops_as_it_takes_over_leaves_none_either(chest: Chest) -> None:
    """Its last lease is that of the active one, which it has not written before."""
    renewer = chest.renewer(NEVER_SECONDS)
    standby = Lease(ME, "me", 7, role=Role.STANDBY)
    chest.client.put_lease(LEASES, standby)
    renewer._written, renewer._renewed_at = standby, 0.0
    renewer._release()
    assert chest.written(Role.STANDBY) is None
    last = chest.written(Role.ACTIVE)
    assert last is not None
    assert last.released


@pytest.mark.usefixtures("no_first_beats")
def test_a_look_that_shows_nothing_new_wakes_nobody(chest: Chest) -> None:
    """While the lease written last says what is so, the interval holds."""
    renewer = chest.renewer(NEVER_SECONDS)
    renewer.start()
    eventually(lambda: renewer.seconds_since_renewal() is not None)
    for _ in range(3):
        renewer.notice(VIEW)
    assert not renewer._wanted.is_set()
    assert chest.counter() == 1


@pytest.mark.usefixtures("no_first_beats")
def test_a_database_that_appears_gets_its_lease_at_once(chest: Chest) -> None:
    """A look that cannot read leases asks for none."""
    assert chest.client.delete_database(LEASES)
    renewer = chest.renewer(NEVER_SECONDS)
    renewer.start()
    eventually(lambda: chest.renewals == 1)
    renewer.notice(msgspec.structs.replace(VIEW, leases_readable=False))
    assert not renewer._wanted.is_set()
    make_lease_database(chest.client)
    renewer.notice(VIEW)
    eventually(lambda: chest.counter() >= 1)


@pytest.mark.usefixtures("no_first_beats")
def test_a_lease_lost_with_its_database_is_written_anew(chest: Chest) -> None:
    """Leases that were written into the database before this one do not count."""
    renewer = chest.renewer(NEVER_SECONDS)
    renewer.start()
    eventually(lambda: chest.counter() == 1)
    assert chest.client.delete_database(LEASES)
    renewer._wanted.set()
    eventually(lambda: chest.renewals == 2 and renewer._written is None)
    make_lease_database(chest.client)
    renewer.notice(VIEW)
    eventually(lambda: chest.counter() == 2)


def test_maintenance_of_the_node_is_in_the_lease(chest: Chest, cluster: SimClusterThread) -> None:
    """It still owns, so the lease is written all the same; both changes are logged once."""
    renewer = chest.renewer(OFTEN_SECONDS)
    with capture_logs() as logged:
        renewer.start()
        eventually(lambda: chest.counter() >= 2)
        for on in (True, False):
            cluster.maintenance(1, on=on)
            eventually(partial(chest.shows_maintenance, on=on))
            assert renewer.maintenance is on
    events = [line["event"].partition(";")[0] for line in logged if line["event"].startswith("node in")]
    assert events == ["node in maintenance mode", "node in service"]
    assert renewer.failures == 0


@pytest.mark.parametrize("status", [400, 403])
def test_a_proxy_that_keeps_the_nodes_health_to_itself_costs_no_lease(
    chest: Chest, cluster: SimClusterThread, status: int
) -> None:
    """Whether the node is in maintenance mode is a remark in the lease; without the lease others take over."""
    cluster.fail(1, status, path_regex="^/_up$")
    renewer = chest.renewer(OFTEN_SECONDS)
    renewer.start()
    eventually(lambda: chest.counter() >= 2)
    assert (renewer.failures, renewer.maintenance) == (0, False)


def test_a_heart_outlives_an_error_that_nobody_foresaw(chest: Chest, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted and said as every other failure is, and the next beat comes."""
    renewer = chest.renewer(OFTEN_SECONDS)
    with monkeypatch.context() as patched:
        patched.setattr(chest.member, "observe", lambda *_arguments: 1 / 0)
        renewer.start()
        eventually(lambda: renewer.failures >= 2)
    assert renewer.seconds_since_renewal() is None
    eventually(lambda: chest.counter() >= 1)


def test_where_no_leases_are_kept_nothing_is_asked(chest: Chest, cluster: SimClusterThread) -> None:
    """On a server without shards there is one instance, and nothing to tell anybody."""
    asked = []

    def node() -> None:
        asked.append(1)

    renewer = chest.renewer(OFTEN_SECONDS, node=node)
    cluster.clear_requests()
    renewer.start()
    eventually(lambda: len(asked) >= 3)
    renewer.stop()
    assert cluster.requests() == {}
    assert (renewer.failures, renewer.seconds_since_renewal()) == (0, None)


def test_an_interrupted_beat_is_no_failure(chest: Chest) -> None:
    """The session is cut because the daemon stops."""
    renewer = chest.renewer(OFTEN_SECONDS)
    chest.session.interrupt()
    renewer.start()
    eventually(lambda: chest.renewals >= 3)
    assert (renewer.failures, renewer.seconds_since_renewal()) == (0, None)
