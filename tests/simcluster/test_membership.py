"""Nodes that join and leave, moves of copies, and the log of writes."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from peruserd.core.ownership.hashing import document_hash
from peruserd.simcluster import ClusterOptions, SimClusterProcess, SimClusterThread
from peruserd.simcluster.events.moves import Mover
from peruserd.simcluster.model import documents as model_documents
from peruserd.simcluster.model.cluster_model import ClusterModel
from peruserd.simcluster.model.errors import RefusalError
from tests.quick import examples
from tests.simcluster.conftest import Ask

LOW, HIGH = "00000000-7fffffff", "80000000-ffffffff"
SECURED = {"admins": {"names": ["u"], "roles": []}, "members": {"names": ["u"], "roles": []}}


def name(number: int) -> str:
    """Return the name of a node."""
    return f"node{number}@127.0.0.1"


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """Four nodes, of which the last has not joined; the authentication database with two ranges on the other three."""
    with SimClusterThread(ClusterOptions(nodes=4, spare=1)) as running:
        yield running


@pytest.fixture
def membership(ask: Ask) -> Callable[[int], tuple[list[str], list[str]]]:
    """Return the connected nodes and the members of the cluster, as a node lists them."""

    def read(node: int) -> tuple[list[str], list[str]]:
        said = ask("GET", "/_membership", node=node).json()
        return said["all_nodes"], said["cluster_nodes"]

    return read


@pytest.fixture
def write_users(ask: Ask) -> Callable[[int], list[str]]:
    """Write so many user documents; return their ids."""

    def write(count: int) -> list[str]:
        ids = [f"org.couchdb.user:u{number}" for number in range(count)]
        body = {"docs": [{"_id": each, "name": each[17:], "type": "user", "roles": []} for each in ids]}
        assert ask("POST", "/_users/_bulk_docs", body).status_code == 201
        return ids

    return write


def shard_map(ask: Ask, node: int = 1) -> dict[str, Any]:
    """Return the shard map document of `_users` as a node has it."""
    document: dict[str, Any] = ask("GET", "/_node/_local/_dbs/_users", node=node).json()
    return document


def copy_of(cluster: SimClusterThread, node: int, covered: str = LOW) -> dict[str, Any] | None:
    """Return a node's copy of a range of `_users`, None where it has none."""
    return cluster.snapshot_copies("_users")[name(node)].get(covered)


def test_a_spare_node_is_alone_until_it_joins(
    cluster: SimClusterThread, ask: Ask, membership: Callable[[int], tuple[list[str], list[str]]]
) -> None:
    """Nobody has heard of it, nor it of anybody; having joined it knows every database."""
    members = [name(1), name(2), name(3)]
    assert membership(1) == (members, members)
    assert membership(4) == ([name(4)], [name(4)])
    assert ask("GET", f"/_node/{name(4)}").status_code == 404
    assert ask("GET", f"/_node/{name(1)}", node=4).status_code == 404
    assert ask("GET", "/_users", node=4).status_code == 404
    cluster.join_node(4)
    cluster.replicate()
    members.append(name(4))
    assert membership(1) == membership(4) == (members, members)
    assert ask("GET", f"/_node/{name(4)}").json() == {"name": name(4)}
    assert shard_map(ask, 4) == shard_map(ask, 1)
    assert ask("GET", "/_users/_all_docs", node=4).json()["total_rows"] == 1


def test_databases_are_placed_on_members_only(cluster: SimClusterThread, ask: Ask) -> None:
    """A node outside has no copy of the cluster's new databases, a member may, and a lonely node keeps its own."""

    def hosts(database: str, node: int = 1) -> set[str]:
        assert ask("PUT", f"/{database}?n=4", node=node).status_code == 201
        return {
            each for nodes in ask("GET", f"/{database}/_shards", node=node).json()["shards"].values() for each in nodes
        }

    assert hosts("before") == {name(1), name(2), name(3)}
    assert hosts("alone", node=4) == {name(4)}
    cluster.join_node(4)
    assert hosts("within") == {name(1), name(2), name(3), name(4)}
    cluster.leave_node(2)
    assert hosts("after") == {name(1), name(3), name(4)}


def test_a_node_that_leaves_is_listed_as_a_host_and_answers_nobody(
    cluster: SimClusterThread, ask: Ask, membership: Callable[[int], tuple[list[str], list[str]]]
) -> None:
    """Its copies stay in the shard map until somebody takes them out; asking for it is like asking a dead node."""
    cluster.leave_node(3)
    assert membership(1) == ([name(1), name(2)], [name(1), name(2)])
    assert membership(3) == ([name(3)], [name(3)])
    assert ask("GET", f"/_node/{name(3)}").status_code == 412
    assert name(3) in shard_map(ask)["by_node"]
    assert ask("PUT", "/db?q=1&n=2").status_code == 201


def test_the_last_member_cannot_leave() -> None:
    """A cluster without a node is none."""
    with SimClusterThread(ClusterOptions(nodes=2, spare=1)) as cluster, pytest.raises(ValueError, match="only one"):
        cluster.leave_node(1)


def test_a_cluster_of_spares_alone_is_refused() -> None:
    """At least one node has joined."""
    with pytest.raises(ValueError, match="joined"):
        ClusterOptions(nodes=2, spare=2)


def test_an_added_copy_begins_empty_and_is_filled_by_replication(
    cluster: SimClusterThread, ask: Ask, write_users: Callable[[int], list[str]]
) -> None:
    """The new copy has a uuid of its own. The map names it at once, and later writes are in it too."""
    write_users(20)
    cluster.join_node(4)
    cluster.replicate()
    cluster.set_replication_delay(3600)
    cluster.add_copy("_users", LOW, 4)
    added, first = copy_of(cluster, 4), copy_of(cluster, 1)
    assert added is not None
    assert first is not None
    assert added["revs"] == {}
    assert added["uuid"] != first["uuid"]
    assert shard_map(ask)["by_range"][LOW] == [name(1), name(2), name(3), name(4)]
    assert shard_map(ask)["changelog"][-1] == ["add", LOW, name(4)]
    assert shard_map(ask, 4) == shard_map(ask)
    cluster.replicate()
    added = copy_of(cluster, 4)
    assert added is not None
    assert added["revs"] == first["revs"] != {}


def test_an_added_copy_has_the_security_object_of_the_others(cluster: SimClusterThread, ask: Ask) -> None:
    """CouchDB's internal replication takes it along where most copies agree."""
    assert ask("PUT", "/db?q=1").status_code == 201
    assert ask("PUT", "/db/_security", SECURED).status_code == 200
    cluster.join_node(4)
    cluster.replicate()
    cluster.add_copy("db", "00000000-ffffffff", 4)
    cluster.replicate()
    objects = cluster.snapshot_security("db")
    assert [each for copies in objects.values() for each in copies.values()] == [SECURED] * 4


def test_what_cannot_be_moved_is_refused(cluster: SimClusterThread) -> None:
    """A copy for a stranger, a second copy for a host, the removal of a missing copy or of the last one."""
    with pytest.raises(ValueError, match="no member"):
        cluster.add_copy("_users", LOW, 4)
    with pytest.raises(ValueError, match="has a copy"):
        cluster.add_copy("_users", LOW, 1)
    with pytest.raises(LookupError):
        cluster.remove_copy("_users", LOW, 4)
    with pytest.raises(LookupError):
        cluster.move_copy("_users", "00000000-3fffffff", 1, 4)
    for node in (1, 2):
        cluster.remove_copy("_users", LOW, node)
    with pytest.raises(ValueError, match="only copy"):
        cluster.remove_copy("_users", LOW, 3)


def test_a_removed_copy_is_gone_and_ends_the_polls_on_it(
    cluster: SimClusterThread,
    ask: Ask,
    shard: Callable[[str, str], str],
    background: ThreadPoolExecutor,
    until_asked: Callable[[str, int], None],
) -> None:
    """Its shard file answers 404, a long poll that hangs on it ends with an empty 200, the other range is untouched."""
    low, high = shard("_users", LOW), shard("_users", HIGH)
    waiting = background.submit(ask, "GET", f"/_node/_local/{low}/_changes?feed=longpoll&since=999")
    until_asked("shard_changes", 1)
    cluster.remove_copy("_users", LOW, 1)
    ended = waiting.result()
    assert (ended.status_code, ended.json()["results"]) == (200, [])
    gone = ask("GET", f"/_node/_local/{low}")
    assert (gone.status_code, gone.json()["reason"]) == (404, "no_db_file")
    assert ask("GET", f"/_node/_local/{high}").status_code == 200
    assert shard_map(ask)["changelog"][-1] == ["delete", LOW, name(1)]


def test_a_moved_copy_is_removed_once_the_new_one_lacks_nothing(
    cluster: SimClusterThread, ask: Ask, write_users: Callable[[int], list[str]]
) -> None:
    """Until then both are there; nothing is lost, were it the only copy."""
    for node in (2, 3):
        cluster.remove_copy("_users", LOW, node)
    ids = write_users(20)
    cluster.join_node(4)
    cluster.replicate()
    cluster.set_replication_delay(3600)
    cluster.move_copy("_users", LOW, 1, 4)
    assert shard_map(ask)["by_range"][LOW] == [name(1), name(4)]
    cluster.replicate()
    assert shard_map(ask)["by_range"][LOW] == [name(4)]
    assert copy_of(cluster, 1) is None
    rows = ask("GET", '/_users/_all_docs?start_key="org"').json()["rows"]
    assert sorted(row["id"] for row in rows) == sorted(ids)


def test_writes_are_noted_with_who_was_asked_and_when(cluster: SimClusterThread, ask: Ask) -> None:
    """In their order, those that fail as well; what only reads, and documents, are not among them."""
    cluster.clear_requests()
    cluster.fail(2, 500, count=1, path_regex="_security")
    assert ask("PUT", "/userdb-2b%2f").status_code == 201
    assert ask("GET", "/userdb-2b%2f/_security").status_code == 200
    assert ask("PUT", "/userdb-2b%2f/_security", SECURED, node=2).status_code == 500
    assert ask("PUT", "/userdb-2b%2f/doc", {}).status_code == 201
    assert ask("DELETE", "/userdb-2b%2f", node=3).status_code == 200
    writes = cluster.writes()
    assert [(each.node, each.method, each.kind) for each in writes] == [
        (name(1), "PUT", "database"),
        (name(2), "PUT", "security"),
        (name(3), "DELETE", "database"),
    ]
    assert {each.database for each in writes} == {"userdb-2b/"}
    assert [each.seconds for each in writes] == sorted(each.seconds for each in writes)
    cluster.clear_requests()
    assert cluster.writes() == []


def test_a_process_has_spare_nodes_and_a_journal_too() -> None:
    """The same over the control port."""
    with SimClusterProcess(ClusterOptions(nodes=2, spare=1, n=1)) as cluster:
        cluster.join_node(2)
        cluster.replicate()
        cluster.move_copy("_users", LOW, 1, 2)
        assert list(cluster.snapshot_copies("_users")[name(2)]) == [LOW]
        assert cluster.writes() == []


class Moves(RuleBasedStateMachine):
    """Random writes while nodes come and go and copies move; then all comes back."""

    @initialize(delayed=st.booleans())
    def begin(self, delayed: bool) -> None:  # noqa: FBT001 - Hypothesis passes it by name
        """Begin with one of four nodes outside, and a database that has two copies of each range."""
        self.model = ClusterModel(ClusterOptions(nodes=4, spare=1), lambda: 1_800_000_000.0)
        self.model.create_database(self.model.nodes[0], "db", q=2, n=2)
        self.model.delayed = delayed
        self.mover = Mover(self.model)
        self.written: set[str] = set()

    @rule(number=st.integers(1, 4), document=st.integers(0, 9), value=st.integers(0, 3))
    def write(self, number: int, document: int, value: int) -> None:
        """Edit a document through a node that can be asked for it."""
        node, document_id = self.model.node(number), f"document {document}"
        if not node.alive:
            return
        try:
            before = model_documents.read(self.model, node, "db", document_id)
            model_documents.write(
                self.model, node, "db", document_id, before[0].rev if before else None, {"value": value}
            )
        except RefusalError:
            return
        self.written.add(document_id)

    @rule(number=st.integers(1, 4))
    def stop_or_start(self, number: int) -> None:
        """Kill a node, or bring it back."""
        node = self.model.node(number)
        self.model.set_alive(node, alive=not node.alive)

    @rule(number=st.integers(1, 4))
    def join_or_leave(self, number: int) -> None:
        """Let a node join; let it leave again where it hosts nothing."""
        node = self.model.node(number)
        if not node.joined:
            self.model.set_joined(node, joined=True)
        elif not any("db" in each.maps and node.name in each.maps["db"].placed for each in self.model.nodes):
            self.model.set_joined(node, joined=False)

    @rule(covered=st.sampled_from([LOW, HIGH]), giver=st.integers(1, 4), taker=st.integers(1, 4))
    def move(self, covered: str, giver: int, taker: int) -> None:
        """Move a copy where possible. An operator waits until all live nodes know the same map."""
        if self.model._may_have_met:
            return
        try:
            self.mover.move("db", covered, self.model.node(giver), self.model.node(taker))
        except (LookupError, ValueError, RefusalError):
            return

    @rule()
    def replicate(self) -> None:
        """Let the delay pass."""
        self.model.replicate()
        self.mover.finish()

    def teardown(self) -> None:
        """Every host of a document has its newest revision, all know the same map, and nothing accepted is lost."""
        for node in self.model.nodes:
            self.model.set_alive(node, alive=True)
            self.model.set_joined(node, joined=True)
        self.replicate()
        self.replicate()
        assert not self.model.has_backlog()
        (shard_map,) = {id(node.maps["db"]): node.maps["db"] for node in self.model.nodes}.values()
        assert all(len(nodes) >= 2 for nodes in shard_map.hosts.values())
        for document_id in self.written:
            position = document_hash(document_id)
            copies = self.model.copies_at(self.model.nodes[0], "db", position)
            assert {copy.node for copy in copies} == shard_map.hosts_of(position)
            (rev,) = {leaves[0].rev for copy in copies if (leaves := copy.leaves(document_id))}
            assert all(copy.leaves(document_id) for copy in copies), rev


TestMoves = Moves.TestCase
TestMoves.settings = settings(max_examples=examples(60), stateful_step_count=30, deadline=None)
