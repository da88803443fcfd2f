"""Peruserd's own database on simulated clusters: creation, marker, security and repair."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import pytest
from structlog.testing import capture_logs

from peruserd.core.cluster.cluster_database import ADMINS_ONLY, MARKER
from peruserd.core.cluster.leases import Lease
from peruserd.core.configuration.config import DatabasesConfig
from peruserd.core.deletions.journal import Pause, PauseReason, Saying, Word
from peruserd.couch import client as client_module
from peruserd.couch import cluster_database as module
from peruserd.couch import errors
from peruserd.couch.client import Client, Creation
from peruserd.couch.cluster_database import ClusterDatabase, DatabaseState, Surroundings
from peruserd.couch.deletions import DeletionJournal
from peruserd.couch.journal import Journal
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.couch.connecting import connect

NAME = "peruserd"
RANGE = "00000000-ffffffff"
OPEN: dict[str, Any] = {"admins": {"roles": ["_admin"]}, "members": {"names": ["eve"], "roles": []}}


class Seat:
    """The database of an instance beside one node, with a given time."""

    def __init__(self, cluster: SimClusterThread, node: int = 1, *, mend: bool = True) -> None:
        self.client = connect(cluster.urls[node - 1])
        self.node = cluster.node_names[node - 1]
        self.database = ClusterDatabase(self.client, NAME, mend=mend)

    def surroundings(self) -> Surroundings:
        membership = self.client.membership()
        exists = self.client.shard_map(self.node, "_users") is not None
        return Surroundings(self.node, membership.all_nodes, membership.cluster_nodes, exists)

    def look(self, now: float = 0.0) -> DatabaseState:
        return self.database.check(self.surroundings(), now)


@pytest.fixture
def seat(cluster: SimClusterThread) -> Seat:
    """Make an instance beside the first node."""
    return Seat(cluster)


@pytest.fixture
def cluster_of_seven() -> Iterator[SimClusterThread]:
    """More nodes than the database has copies."""
    with SimClusterThread(ClusterOptions(nodes=7)) as running:
        yield running


def securities(cluster: SimClusterThread) -> list[Any]:
    """Return the security object of every copy."""
    return [each for copies in cluster.snapshot_security(NAME).values() for each in copies.values()]


def copy_path(client: Client, node: str, page: str) -> str:
    """Return the path of a page of a node's own copy."""
    document = client.shard_map_document(node, NAME)
    shard = f"shards/{RANGE}/{NAME}{bytes(document['shard_suffix']).decode()}"
    return f"/_node/{node}/{quote(shard, safe='')}/{page}"


def put_copy_security(client: Client, node: str, security: Any) -> None:
    """Write the security object of one copy, as after the replacement of a disk or by an operator."""
    path = copy_path(client, node, "_security")
    client.session.request("PUT", path, body=security).expect(200)


def test_the_database_is_made_marked_and_closed(cluster: SimClusterThread, seat: Seat) -> None:
    """The database has one range, a copy on each node, the marker, and access for server admins only."""
    state = seat.look()
    assert state.usable, state
    assert state.live == state.hosts == tuple(cluster.node_names)
    assert state.expected == 3
    assert cluster.creations() == {NAME: 1}
    shard_map = seat.client.shard_map(seat.node, NAME)
    assert shard_map is not None
    assert [str(each) for each in shard_map.hosts] == [RANGE]
    assert securities(cluster) == [ADMINS_ONLY] * 3
    marker = seat.client.session.request("GET", f"/{NAME}/{NAME}").expect(200).decode(dict[str, Any])
    assert {key: marker[key] for key in MARKER} == MARKER


def test_it_has_five_copies_at_most(cluster_of_seven: SimClusterThread) -> None:
    """A reading costs work on every copy, so their number is limited on a large cluster."""
    state = Seat(cluster_of_seven).look()
    assert (len(state.hosts), len(state.live), state.expected) == (5, 5, 5)


@pytest.mark.parametrize("instances", [2, 3, 6])
def test_instances_that_start_together_make_one_database(cluster: SimClusterThread, instances: int) -> None:
    """No instance takes the half-made database of another one for somebody else's."""
    seats = [Seat(cluster, 1 + number % 3) for number in range(instances)]
    with ThreadPoolExecutor(instances) as pool:
        states = list(pool.map(Seat.look, seats))
    assert [state.usable for state in states] == [True] * instances, states
    assert cluster.creations() == {NAME: 1}
    assert securities(cluster) == [ADMINS_ONLY] * 3


def test_what_is_in_order_is_not_written_to(cluster: SimClusterThread, seat: Seat) -> None:
    """Another instance reads each copy, and writes nothing."""
    seat.look()
    cluster.clear_requests()
    assert Seat(cluster, 2).look().usable
    assert {method for _, method, _ in cluster.requests()} <= {"GET", "HEAD"}


def test_a_look_asks_the_copies_only_when_it_is_due(cluster: SimClusterThread, seat: Seat) -> None:
    """In the long run the checks are ten minutes apart, and cost next to nothing."""
    seat.look()
    seen = seat.surroundings()
    looks, asked = [], cluster.requests()
    for second in range(1, 4000, 2):
        seat.database.check(seen, float(second))
        if (now := cluster.requests()) != asked:
            looks.append(second)
            asked = now
    assert len(looks) <= 15
    assert looks[-1] - looks[-2] in range(590, 611)


def test_the_making_of_it_waits_for_the_authentication_database(cluster: SimClusterThread, seat: Seat) -> None:
    """Before that there are no users to serve, and a set-up may be under way."""
    assert seat.client.delete_database("_users")
    assert not seat.look().usable
    assert NAME not in cluster.databases()
    seat.client.session.request("PUT", "/_users").expect(201)
    assert seat.look().usable


def test_the_making_of_it_waits_for_a_majority(cluster: SimClusterThread, seat: Seat) -> None:
    """If a minority made the database, the other side of the cut would make it again."""
    cluster.stop_node(2)
    cluster.stop_node(3)
    state = seat.look()
    assert not state.usable
    assert "1 of 3" in state.why
    assert NAME not in cluster.databases()
    cluster.start_node(2)
    assert seat.look().usable


@pytest.mark.parametrize("status", [409, 412, 500, 503, "cut", "cut-after"])
@pytest.mark.parametrize("step", [f"/{NAME}\\?", f"/{NAME}/{NAME}$", f"/{NAME}/_security"])
def test_an_answer_is_no_success_before_it_is_read_back(
    cluster: SimClusterThread, seat: Seat, step: str, status: int | str
) -> None:
    """The next check goes on from the current state, after any answer and any partial success."""
    seat.client.create_database(NAME, DatabasesConfig(q=1, n=3)) if "_security" in step else None
    if "_security" in step:
        put_copy_security(seat.client, seat.node, {})
    cluster.fail(1, status, count=1, path_regex=step, method="PUT")
    states = [seat.look(), seat.look()]
    assert states[-1].usable, states
    assert securities(cluster) == [ADMINS_ONLY] * 3


def test_what_a_minority_accepted_is_asked_for_again(
    cluster: SimClusterThread, seat: Seat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer of 202 without an effect is no success. Only reading again proves the write."""
    lost = {"create_database": Creation.ACCEPTED, "put_document": False}
    for name, answer in lost.items():
        done = getattr(seat.client, name)
        answers = iter([lambda *_, answer=answer: answer])

        def ask(*arguments: Any, done: Any = done, answers: Iterator[Any] = answers) -> Any:
            return next(answers, done)(*arguments)

        monkeypatch.setattr(seat.client, name, ask)
    assert seat.look().usable or seat.look().usable
    assert cluster.creations() == {NAME: 1}


def test_a_making_that_was_cut_short_is_gone_on_with_by_another(cluster: SimClusterThread, seat: Seat) -> None:
    """The instance that made the database died before it wrote the marker."""
    seat.client.create_database(NAME, DatabasesConfig(q=1, n=3))
    assert Seat(cluster, 3).look().usable


@pytest.mark.parametrize("what", ["documents", "members", "marker"])
def test_somebody_elses_database_is_refused_and_not_touched(cluster: SimClusterThread, seat: Seat, what: str) -> None:
    """The name is taken, and nothing is ever written to that database."""
    seat.client.create_database(NAME, DatabasesConfig(q=2, n=3))
    if what == "documents":
        seat.client.session.request("PUT", f"/{NAME}/recipe", body={"salt": 1}).expect(201)
    elif what == "members":
        seat.client.put_security(NAME, OPEN)
    else:
        seat.client.session.request("PUT", f"/{NAME}/{NAME}", body={"type": "something else"}).expect(201)
    before = cluster.snapshot_copies(NAME), cluster.snapshot_security(NAME)
    for now in (0.0, 10.0):
        state = seat.look(now)
        assert (state.usable, state.refused) == (False, True)
        assert "cluster.database" in state.why
    assert (cluster.snapshot_copies(NAME), cluster.snapshot_security(NAME)) == before
    assert not seat.database.was_usable


def test_one_copy_that_lacks_the_marker_is_not_taken_for_the_whole(cluster: SimClusterThread, seat: Seat) -> None:
    """The only copy that answers was away when the marker was written. The instance waits for the others."""
    seat.client.create_database(NAME, DatabasesConfig(q=1, n=3))
    cluster.set_replication_delay(3600.0)
    cluster.stop_node(3)
    assert seat.look().usable
    cluster.start_node(3)
    cluster.stop_node(1)
    cluster.stop_node(2)
    state = Seat(cluster, 3).look()
    assert (state.usable, state.refused) == (False, False)
    assert "1 of its 3 copies" in state.why


def test_one_copy_that_is_left_is_enough(cluster: SimClusterThread, seat: Seat) -> None:
    """With one host left leases still work, and the number of copies left is known."""
    seat.look()
    cluster.stop_node(2)
    cluster.stop_node(3)
    for look in (seat.look(1.0), Seat(cluster, 1).look()):
        assert look.usable
        assert (look.live, look.expected) == ((seat.node,), 3)


def test_a_database_none_of_whose_copies_answers_is_not_usable() -> None:
    """The database's hosts are away, and the attached node has no copy."""
    with SimClusterThread(ClusterOptions(nodes=7)) as cluster:
        first = Seat(cluster)
        hosts = first.look().hosts
        outside = next(number for number in range(1, 8) if cluster.node_names[number - 1] not in hosts)
        seat = Seat(cluster, outside)
        assert seat.look().usable
        for number, name in enumerate(cluster.node_names, start=1):
            if name in hosts:
                cluster.stop_node(number)
        for now in (1.0, 2.0):
            state = seat.look(now)
            assert (state.usable, state.refused, state.live) == (False, False, ())
            assert "no copy" in state.why
        cluster.start_node(cluster.node_names.index(hosts[0]) + 1)
        assert seat.look(3.0).usable


def test_a_copy_that_returns_open_is_closed_before_it_is_believed(cluster: SimClusterThread, seat: Seat) -> None:
    """The node's disk was replaced while it was away. An error is logged, and everything that may be forged goes."""
    seat.look()
    seat.client.put_lease(NAME, Lease(seat.node, "forged", 1 << 40))
    cluster.stop_node(3)
    seat.look(1.0)
    cluster.start_node(3)
    put_copy_security(seat.client, cluster.node_names[2], OPEN)
    with capture_logs() as logged:
        assert seat.look(1.5).usable
    assert securities(cluster) == [ADMINS_ONLY] * 3
    assert [line["copies"] for line in logged if line["log_level"] == "error"] == [(cluster.node_names[2],)]
    assert seat.client.leases(NAME) == ()


def test_an_open_copy_is_found_now_and_then(cluster: SimClusterThread, seat: Seat) -> None:
    """A change of the security object is not announced."""
    seat.look()
    put_copy_security(seat.client, cluster.node_names[1], {})
    assert seat.look(module.MAX_SECONDS + 1.0).usable
    assert securities(cluster) == [ADMINS_ONLY] * 3


def test_an_open_copy_that_cannot_be_closed_makes_it_unusable(cluster: SimClusterThread, seat: Seat) -> None:
    """Any user could have written the documents there."""
    seat.look()
    put_copy_security(seat.client, cluster.node_names[1], {})
    cluster.fail(1, 500, path_regex="/_security", method="PUT")
    seat.database.check_soon()
    state = seat.look(1.0)
    assert not state.usable
    assert cluster.node_names[1] in state.why
    cluster.clear_faults()
    assert seat.look(2.0).usable


def test_a_database_that_was_deleted_is_made_again(cluster: SimClusterThread, seat: Seat) -> None:
    """Any other writer may delete it, at any time."""
    seat.look()
    assert seat.client.delete_database(NAME)
    seat.database.check_soon()
    assert seat.look(1.0).usable
    assert cluster.creations() == {NAME: 2}


def test_a_database_that_other_nodes_know_is_not_made_once_more(
    cluster: SimClusterThread, seat: Seat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node whose list of databases is behind would make a second shard map, and the data of one would be lost."""
    assert Seat(cluster, 2).look().usable
    shard_map = seat.client.shard_map

    def behind(node: str, database: str) -> Any:
        return None if (node, database) == (seat.node, NAME) else shard_map(node, database)

    with monkeypatch.context() as patched:
        patched.setattr(seat.client, "shard_map", behind)
        cluster.clear_requests()
        state = seat.look()
    assert not state.usable
    assert "this node does not know of the database peruserd, and others do" in state.why
    assert not any(method == "PUT" for _, method, _ in cluster.requests())
    assert seat.look(1.0).usable


def test_of_two_shard_maps_the_one_that_wins_is_secured_and_marked(cluster: SimClusterThread, seat: Seat) -> None:
    """Two nodes made the database in different seconds, and saw each other later: one map loses.

    The data under that map is lost, so each step is done again with the other map.
    """
    cluster.partition([[1, 2], [3]])
    assert seat.look().usable
    third = Seat(cluster, 3)
    cluster_later = third.client.create_database(NAME, DatabasesConfig(q=1, n=3))
    assert cluster_later.value == 202
    before = seat.client.shard_map(seat.node, NAME)
    cluster.heal()
    cluster.replicate()
    after = seat.client.shard_map(seat.node, NAME)
    assert before is not None
    assert after is not None
    assert before.suffix != after.suffix
    seat.database.check_soon()
    assert seat.look(1.0).usable
    assert securities(cluster) == [ADMINS_ONLY] * 3
    marker = seat.client.session.request("GET", copy_path(seat.client, seat.node, NAME))
    assert marker.status == 200


def test_a_node_that_goes_by_another_map_has_no_copy_that_counts(cluster: SimClusterThread, seat: Seat) -> None:
    """A node takes no part until it knows the map that won. The others are enough."""
    seat.look()
    cluster.fail(1, 404, path_regex=rf"/_node/node3[^/]*/_dbs/{NAME}")
    seat.database.check_soon()
    state = seat.look(1.0)
    assert (state.usable, state.live) == (True, tuple(cluster.node_names[:2]))


def test_a_copy_that_does_not_answer_is_told_once(cluster: SimClusterThread, seat: Seat) -> None:
    """The copy is asked again, after growing pauses of at most a minute."""
    seat.look()
    cluster.fail(1, 500, path_regex="/_node/node3[^/]*/shards")
    seen = seat.surroundings()
    with capture_logs() as logged:
        looks = []
        for second in range(1, 1000, 2):
            cluster.clear_requests()
            state = seat.database.check(seen, float(second))
            if cluster.requests():
                looks.append(second)
    assert (state.usable, state.live) == (True, tuple(cluster.node_names[:2]))
    assert max(later - earlier for earlier, later in pairwise(looks)) in range(58, 64)
    assert [line["node"] for line in logged if "does not take part" in line["event"]] == [cluster.node_names[2]]


def test_a_server_that_places_fewer_copies_is_content(cluster: SimClusterThread, seat: Seat) -> None:
    """The server has its own rule for placing copies, and the database gets the resulting number."""
    cluster.fail(1, 400, path_regex=r"n=3", method="PUT")
    assert seat.look().usable


@pytest.mark.parametrize("what", ["/_security", "/_dbs/peruserd"])
def test_not_being_let_in_is_no_matter_of_a_copy(seat: Seat, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """The refusal is raised, because it concerns the whole instance."""
    seat.look()
    request = seat.client.session.request

    def refused(method: str, path: str, **more: Any) -> Any:
        if what in path:
            raise errors.RefusedError("CouchDB refuses the password of adm")
        return request(method, path, **more)

    monkeypatch.setattr(seat.client.session, "request", refused)
    seat.database.check_soon()
    with pytest.raises(errors.RefusedError):
        seat.look(1.0)


@pytest.mark.parametrize("status", [401, 403])
def test_a_copy_whose_path_is_closed_to_the_account_does_not_take_part(
    cluster: SimClusterThread, seat: Seat, status: int
) -> None:
    """A proxy that closes one path tells nothing about the others, and stops no instance."""
    seat.look()
    cluster.fail(1, status, path_regex=f"_node/{cluster.node_names[2].partition('@')[0]}.*/_security")
    seat.database.check_soon()
    with capture_logs() as logged:
        state = seat.look(1.0)
    assert (state.usable, state.live) == (True, tuple(cluster.node_names[:2]))
    assert [line["node"] for line in logged if "does not take part" in line["event"]] == [cluster.node_names[2]]


def test_one_that_only_looks_writes_nothing(cluster: SimClusterThread, seat: Seat) -> None:
    """The commands report the daemon's next step."""
    command = Seat(cluster, mend=False)
    assert not command.look().usable
    assert NAME not in cluster.databases()
    seat.look()
    assert command.look(1.0).usable
    put_copy_security(seat.client, seat.node, {})
    command.database.check_soon()
    state = command.look(2.0)
    assert not state.usable
    assert "open to others" in state.why
    assert {} in securities(cluster)


def test_a_suspicion_outlives_a_look_that_failed(cluster: SimClusterThread, seat: Seat) -> None:
    """A check is requested, and the node does not answer just then."""
    seat.look()
    put_copy_security(seat.client, cluster.node_names[1], OPEN)
    seat.database.check_soon()
    seen = seat.surroundings()
    cluster.fail(1, 500, count=1, path_regex=f"/_dbs/{NAME}")
    with pytest.raises(errors.ServerError):
        seat.database.check(seen, 1.0)
    assert seat.database.check(seen, 1.5).usable
    assert securities(cluster) == [ADMINS_ONLY] * 3


# Writing while the database was open


def journal_of(seat: Seat) -> DeletionJournal:
    """Return the journal of deletions in the database."""
    return DeletionJournal(Journal(seat.client.session, NAME))


FORGED = Saying(Word.DROP_NOW, resumed=True, at=5.0)


def test_what_anybody_could_write_leads_to_nothing(cluster: SimClusterThread, seat: Seat) -> None:
    """After the database was open all drops wait for an operator, and earlier words have no effect."""
    seat.look()
    journal = journal_of(seat)
    journal.set_pause(Pause(resumed_at=1e12))
    for name in ("deletion:userdb-61:2-a", "return:userdb-62:.1"):
        journal.say(name, lambda _: FORGED)
    put_copy_security(seat.client, cluster.node_names[1], {})
    seat.database.check_soon()
    with capture_logs() as logged:
        assert seat.look(1.0).usable
    pause = journal.pause()
    assert (pause.paused, pause.why) == (True, PauseReason.EXPOSED)
    assert {(each.word, each.resumed) for each in journal.sayings().values()} == {(Word.HOLD, False)}
    assert any("deletions are paused" in line["event"] for line in logged)
    seat.database.check_soon()
    journal.set_pause(Pause(resumed_at=2e12))
    assert seat.look(2.0).usable
    assert not journal.pause().paused


@pytest.mark.parametrize("path", ["_local_docs", "_local/", f"/{NAME}/pause", f"/{NAME}/word"])
def test_it_is_not_used_before_it_is_cleared(cluster: SimClusterThread, seat: Seat, path: str) -> None:
    """The process may end after any step. Another instance notices, and does the rest."""
    seat.look()
    seat.client.put_lease(NAME, Lease(seat.node, "forged", 1 << 40))
    journal = journal_of(seat)
    journal.say("deletion:userdb-61:2-a", lambda _: FORGED)
    put_copy_security(seat.client, cluster.node_names[1], OPEN)
    seat.database.check_soon()
    cluster.fail(1, 500, path_regex=path)
    assert not seat.look(1.0).usable
    assert OPEN not in securities(cluster)
    cluster.clear_faults()
    assert Seat(cluster, 2).look().usable
    assert seat.look(2.0).usable
    assert securities(cluster) == [ADMINS_ONLY] * 3
    assert seat.client.leases(NAME) == ()
    assert journal.pause().paused
    assert journal.saying("deletion:userdb-61:2-a").word is Word.HOLD


def test_however_many_leases_were_forged_none_is_left(
    cluster: SimClusterThread, seat: Seat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are more documents than one answer has, and some of them are no leases."""
    seat.look()
    for number in range(10):
        seat.client.put_lease(NAME, Lease(f"n{number}", "forged", 1 << 40))
        path = f"/{NAME}/_local/peruserd.active.x{number}"
        seat.client.session.request("PUT", path, body={"junk": "x" * 5_000}).expect(201)
    for each in (module, client_module):
        monkeypatch.setattr(each, "MAX_LEASES", 7)
    monkeypatch.setitem(client_module._ALL_LEASES, "limit", "8")
    put_copy_security(seat.client, cluster.node_names[1], OPEN)
    seat.database.check_soon()
    assert seat.look(1.0).usable
    assert seat.client.lease_ids(NAME) == []
