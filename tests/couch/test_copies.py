"""Answers of single copies, from a simulated cluster and from servers whose answers are given."""

from typing import Any

import pytest

from peruserd.core.common.names import user_document_id
from peruserd.core.configuration.config import DatabasesConfig
from peruserd.core.users.evidence import DocumentState, Evidence, Winner, judge
from peruserd.couch import copies as copies_module
from peruserd.couch import errors
from peruserd.couch.client import Client
from peruserd.couch.copies import Copies, Layout, Place, ShardLayout, SingleLayout
from peruserd.simcluster import SimClusterThread
from tests.couch.connecting import TalkingServer, answering, connect

ANN = user_document_id("ann")
NODES = ("node1@127.0.0.1", "node2@127.0.0.1", "node3@127.0.0.1")


@pytest.fixture
def copies(client: Client) -> Copies:
    """The copies of a cluster, asked through node 1."""
    return Copies(client, ShardLayout(client, "_local", "_users"))


def _write(client: Client, name: str, **more: object) -> str:
    body = {"name": name, "type": "user", "roles": [], "password": "x", **more}
    answer = client.session.request("PUT", f"/_users/{user_document_id(name)}", body=body).expect(201, 202)
    return str(answer.decode(dict[str, Any])["rev"])


def _delete(client: Client, name: str, rev: str) -> str:
    path = f"/_users/{user_document_id(name)}"
    answer = client.session.request("DELETE", path, params={"rev": rev}).expect(200, 202)
    return str(answer.decode(dict[str, Any])["rev"])


def test_each_copy_is_asked(client: Client, copies: Copies) -> None:
    """Every host of the document's range answers for its own copy."""
    rev = _write(client, "ann")
    evidence = copies.evidence(ANN)
    assert evidence.hosts == set(NODES)
    assert [(each.node, each.winner) for each in evidence.readings] == [(node, Winner(rev)) for node in NODES]
    assert copies.evidence("org.couchdb.user:never").readings[0].winner is None


def test_the_copy_that_has_moved_on_knows_the_others_past(cluster: SimClusterThread, copies: Copies) -> None:
    """Two copies lack a deletion. The third knows their revisions, and they do not know its revision."""
    there = connect(cluster.urls[0])
    rev = _write(there, "ann")
    cluster.set_replication_delay(3600.0)
    cluster.partition([[1], [2, 3]])
    gone = _delete(there, "ann", rev)
    cluster.heal()
    evidence = copies.evidence(ANN)
    assert {each.node: each.knows for each in evidence.readings} == {
        NODES[0]: frozenset({rev}),
        NODES[1]: frozenset(),
        NODES[2]: frozenset(),
    }
    verdict = judge(evidence)
    assert (verdict.state, verdict.rev) == (DocumentState.DELETED, gone)


def test_a_node_that_is_down_is_silent(cluster: SimClusterThread, client: Client, copies: Copies) -> None:
    """The other copies answer, and the missing node is named."""
    _write(client, "ann")
    cluster.stop_node(3)
    evidence = copies.evidence(ANN)
    assert [each.node for each in evidence.readings] == list(NODES[:2])
    assert evidence.silent == (NODES[2],)


def test_a_copy_that_has_moved_is_found_at_the_next_question(
    cluster: SimClusterThread, client: Client, copies: Copies
) -> None:
    """The shard map is cached for moments only, and not at all after a copy was not in its place."""
    _write(client, "ann")
    copies.evidence(ANN)
    cluster.clear_requests()
    copies.evidence(ANN)
    asked = cluster.requests()
    assert not [kind for (_, _, kind) in asked if kind == "dbs"]
    cluster.set_split_delay(None)
    jobs = cluster.split("_users")
    assert cluster.release_splits() == len(jobs) > 0
    cluster.replicate()
    copies.evidence(ANN)
    assert len(copies.evidence(ANN).readings) == 3


def test_the_security_object_of_each_copy_is_read_and_written(client: Client, copies: Copies) -> None:
    """A single copy can be written. A missing database has no copies."""
    assert copies.security("some") is None
    client.create_database("some", DatabasesConfig())
    found = copies.security("some")
    assert found is not None
    mine = {"members": {"names": ["ann"]}}
    copies.write_each([(found[1], mine)])
    again = copies.security("some")
    assert again is not None
    assert [each.security == mine for each in again] == [False, True, False]
    assert [each.node for each in again] == list(NODES)


def test_a_copy_that_cannot_be_written_holds_up_no_other(
    cluster: SimClusterThread, client: Client, copies: Copies
) -> None:
    """The first one fails, the others are written, and the failure is raised."""
    client.create_database("some", DatabasesConfig())
    found = copies.security("some")
    assert found is not None
    mine = {"members": {"names": ["ann"]}}
    cluster.fail(1, 500, method="PUT", path_regex="node1.*_security")
    with pytest.raises(errors.ServerError):
        copies.write_each([(each, mine) for each in found])
    cluster.clear_faults()
    again = copies.security("some")
    assert again is not None
    assert [each.security == mine for each in again] == [False, True, True]


def test_a_copy_of_a_security_object_that_cannot_be_read_is_no_blank_one(
    cluster: SimClusterThread, client: Client, copies: Copies
) -> None:
    """For a node that is away there is no object, not an empty one."""
    client.create_database("some", DatabasesConfig())
    cluster.stop_node(2)
    found = copies.security("some")
    assert found is not None
    assert [each.security is None for each in found] == [False, True, False]


def test_a_node_that_hangs_is_waited_for_once(
    cluster: SimClusterThread, client: Client, copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node has eight ranges of one database, and each request would wait."""
    monkeypatch.setattr(copies_module, "COPY_SECONDS", 1.0)
    client.create_database("userdb-616e6e", DatabasesConfig(q=8))
    cluster.fail(1, "hang", path_regex="node2.*_security")
    try:
        read = copies.security("userdb-616e6e")
    finally:
        cluster.clear_faults()
    assert read is not None
    assert len(read) == 24
    assert {each.node for each in read if each.security is None} == {NODES[1]}
    assert sum(each.security is not None for each in read) == 16
    assert cluster.requests()["node1@127.0.0.1", "GET", "shard_security"] == 17


class OneCopy:
    """A layout with the same place for everything."""

    def of_document(self, _document_id: str) -> tuple[Place, ...]:
        return (Place("n1", "/here"),)

    def of_database(self, _database: str) -> tuple[Place, ...] | None:
        return (Place("n1", "/here"),)

    def distrust(self) -> None:
        """Do nothing, because nothing is cached."""


def _asked(layout: Layout, status: int, body: object) -> Evidence:
    with TalkingServer(answering({("POST", "/here/_all_docs"): (status, body)})) as server:
        return Copies(connect(server.url), layout).evidence(ANN)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"rows": []}),
        (200, {"rows": [{"key": "somebody else", "error": "not_found"}]}),
        (200, {"rows": [{"key": ANN}]}),
        (200, {"rows": [{"key": ANN, "value": {"rev": "1-a"}, "error": "not_found"}]}),
        (200, {"rows": [{"key": ANN, "value": {}}]}),
        (200, b"<html>"),
        (404, {"error": "not_found", "reason": "no_db_file"}),
        (412, {"error": "nodedown", "reason": "n1 is down"}),
        (500, {"error": "unknown"}),
    ],
    ids=["no-row", "another-row", "half-a-row", "both", "no-rev", "html", "moved", "node-down", "fault"],
)
def test_an_answer_that_is_not_about_the_document_is_silence(status: int, body: object) -> None:
    """The answer of a proxy or a broken node proves neither a live document nor a deletion."""
    assert _asked(OneCopy(), status, body).readings == ()


class ThreeCopies:
    """A layout with a place on each of three nodes for everything."""

    def of_document(self, _document_id: str) -> tuple[Place, ...]:
        return tuple(Place(name, f"/{name}") for name in ("n1", "n2", "n3"))

    def of_database(self, _database: str) -> tuple[Place, ...] | None:
        return self.of_document("")

    def distrust(self) -> None:
        """Do nothing, because nothing is cached."""


CLOSED = {"error": "forbidden", "reason": "no"}


@pytest.mark.parametrize("status", [401, 403])
def test_a_path_that_is_closed_is_a_silent_copy(status: int) -> None:
    """A proxy closes one node's paths. The other copies are a majority, and the user is served."""
    answers: dict[tuple[str, str], tuple[int, object]] = {
        **{("POST", f"/{name}/_all_docs"): (200, {"rows": [_row("1-a")]}) for name in ("n1", "n3")},
        **{("GET", f"/{name}/_security"): (200, {"admins": {}}) for name in ("n1", "n3")},
        ("POST", "/n2/_all_docs"): (status, CLOSED),
        ("GET", "/n2/_security"): (status, CLOSED),
    }
    with TalkingServer(answering(answers)) as server:
        copies = Copies(connect(server.url), ThreeCopies())
        evidence = copies.evidence(ANN)
        found = copies.security("some")
    assert (judge(evidence).state, evidence.silent) == (DocumentState.LIVE, ("n2",))
    assert found is not None
    assert [each.security for each in found] == [{"admins": {}}, None, {"admins": {}}]


@pytest.mark.parametrize("status", [401, 403])
def test_paths_that_are_all_closed_are_no_silence(status: int) -> None:
    """The operator has to open the paths, and gets the error, because waiting would not help."""
    paths = [("POST", f"/{name}/_all_docs") for name in ("n1", "n2", "n3")]
    paths += [("GET", f"/{name}/_security") for name in ("n1", "n2", "n3")]
    with TalkingServer(answering(dict.fromkeys(paths, (status, CLOSED)))) as server:
        copies = Copies(connect(server.url), ThreeCopies())
        with pytest.raises(errors.UnauthorizedError):
            copies.evidence(ANN)
        with pytest.raises(errors.UnauthorizedError):
            copies.security("some")


def test_a_closed_path_among_silent_copies_is_waited_for() -> None:
    """The other copies may come back, and are enough then."""
    answers: dict[tuple[str, str], tuple[int, object]] = {
        ("POST", "/n1/_all_docs"): (403, CLOSED),
        ("POST", "/n2/_all_docs"): (412, {"error": "nodedown", "reason": "n2 is down"}),
        ("POST", "/n3/_all_docs"): (412, {"error": "nodedown", "reason": "n3 is down"}),
    }
    with TalkingServer(answering(answers)) as server:
        evidence = Copies(connect(server.url), ThreeCopies()).evidence(ANN)
    assert judge(evidence).silent == ("n1", "n2", "n3")


def test_not_being_let_in_concerns_every_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal concerns the whole instance, and is raised."""
    with TalkingServer(answering({})) as server:
        client = connect(server.url)

        def refused(*_arguments: object, **_more: object) -> None:
            raise errors.RefusedError("CouchDB refuses the password of adm")

        monkeypatch.setattr(client.session, "request", refused)
        with pytest.raises(errors.RefusedError):
            Copies(client, ThreeCopies()).evidence(ANN)


def _row(rev: str, *, deleted: bool = False) -> dict[str, object]:
    return {"key": ANN, "value": {"rev": rev, "deleted": True} if deleted else {"rev": rev}}


@pytest.mark.parametrize("body", [{}, {"somebody else": {"missing": ["1-b"]}}, {ANN: {"missing": ["1-a"]}}])
def test_an_answer_that_is_not_about_the_revisions_gives_no_copy_knowledge(body: object) -> None:
    """An empty object would mean that all revisions are known, but any proxy may answer so.

    A live document in one copy must not lose against such an answer.
    """
    answers: dict[tuple[str, str], tuple[int, object]] = {
        ("POST", "/n1/_all_docs"): (200, {"rows": [_row("1-b")]}),
        ("POST", "/n2/_all_docs"): (200, {"rows": [_row("2-a", deleted=True)]}),
        ("POST", "/n3/_all_docs"): (200, {"rows": [_row("2-a", deleted=True)]}),
        ("POST", "/n2/_revs_diff"): (200, body),
        ("POST", "/n3/_revs_diff"): (200, body),
    }
    with TalkingServer(answering(answers)) as server:
        evidence = Copies(connect(server.url), ThreeCopies()).evidence(ANN)
    assert all(not each.knows for each in evidence.readings)
    assert judge(evidence).state is DocumentState.UNCLEAR


def test_a_server_without_shards_has_one_copy(cluster: SimClusterThread, client: Client) -> None:
    """On such a server documents and security objects are read at the database's own path."""
    del cluster
    copies = Copies(client, SingleLayout(client, "server", "_users"))
    rev = _write(client, "ann")
    assert [each.winner for each in copies.evidence(ANN).readings] == [Winner(rev)]
    assert copies.evidence(ANN).hosts == {"server"}
    gone = _delete(client, "ann", rev)
    assert judge(copies.evidence(ANN)).rev == gone
    assert copies.security("some") is None
    client.create_database("some", DatabasesConfig())
    found = copies.security("some")
    assert found is not None
    copies.write_each([(found[0], {"members": {"names": ["ann"]}})])
    assert client.security("some") == {"members": {"names": ["ann"]}}


def test_an_authentication_database_that_is_gone_has_no_copies() -> None:
    """Without copies and hosts there is no majority, so nothing is confirmed."""
    answers: dict[tuple[str, str], tuple[int, object]] = {
        ("GET", "/_node/_local/_dbs/_users"): (404, {"error": "not_found", "reason": "missing"})
    }
    with TalkingServer(answering(answers)) as server:
        client = connect(server.url)
        evidence = Copies(client, ShardLayout(client, "_local", "_users")).evidence(ANN)
    assert judge(evidence).state is DocumentState.UNCLEAR
