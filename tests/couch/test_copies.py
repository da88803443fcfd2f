"""What single copies say, read one by one from a simulated cluster and from servers that answer as they are told."""

from typing import Any

import pytest

from peruserd.core.config import DatabasesConfig
from peruserd.core.evidence import DocumentState, Evidence, Winner, judge
from peruserd.core.names import user_document_id
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
    """Two copies are behind a deletion: the one that has it knows what they show, and they do not know it."""
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
    """The others answer, and the one that is away is named."""
    _write(client, "ann")
    cluster.stop_node(3)
    evidence = copies.evidence(ANN)
    assert [each.node for each in evidence.readings] == list(NODES[:2])
    assert evidence.silent == (NODES[2],)


def test_a_copy_that_has_moved_is_found_at_the_next_question(
    cluster: SimClusterThread, client: Client, copies: Copies
) -> None:
    """The shard map is remembered for moments only, and not at all once a copy was not where it should be."""
    _write(client, "ann")
    copies.evidence(ANN)
    cluster.clear_requests()
    copies.evidence(ANN)
    asked = cluster.requests()
    assert not [kind for (_, _, kind) in asked if kind == "dbs"]
    cluster.split("_users")
    cluster.replicate()
    copies.evidence(ANN)
    assert len(copies.evidence(ANN).readings) == 3


def test_the_security_object_of_each_copy_is_read_and_written(client: Client, copies: Copies) -> None:
    """One copy alone can be written; a database that is not there has no copies."""
    assert copies.security("some") is None
    client.create_database("some", DatabasesConfig())
    found = copies.security("some")
    assert found is not None
    mine = {"members": {"names": ["ann"]}}
    copies.write_security(found[1], mine)
    again = copies.security("some")
    assert again is not None
    assert [each.security == mine for each in again] == [False, True, False]
    assert [each.node for each in again] == list(NODES)


def test_a_copy_of_a_security_object_that_cannot_be_read_is_no_blank_one(
    cluster: SimClusterThread, client: Client, copies: Copies
) -> None:
    """A node that is away leaves a gap, not an empty object."""
    client.create_database("some", DatabasesConfig())
    cluster.stop_node(2)
    found = copies.security("some")
    assert found is not None
    assert [each.security is None for each in found] == [False, True, False]


class OneCopy:
    """A layout with the same place for everything."""

    def of_document(self, _document_id: str) -> tuple[Place, ...]:
        return (Place("n1", "/here"),)

    def of_database(self, _database: str) -> tuple[Place, ...] | None:
        return (Place("n1", "/here"),)

    def distrust(self) -> None:
        """Nothing is remembered."""


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
    """What a proxy or a broken node says is neither a life nor a deletion."""
    assert _asked(OneCopy(), status, body).readings == ()


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_not_a_silent_copy(status: int) -> None:
    """A password that is refused concerns all copies, and is raised."""
    with pytest.raises(errors.UnauthorizedError):
        _asked(OneCopy(), status, {"error": "unauthorized", "reason": "no"})


def test_a_server_without_shards_has_one_copy(cluster: SimClusterThread, client: Client) -> None:
    """The database itself is asked, at its own path, for documents and for security objects."""
    del cluster
    copies = Copies(client, SingleLayout(client, "_users"))
    rev = _write(client, "ann")
    assert [each.winner for each in copies.evidence(ANN).readings] == [Winner(rev)]
    gone = _delete(client, "ann", rev)
    assert judge(copies.evidence(ANN)).rev == gone
    assert copies.security("some") is None
    client.create_database("some", DatabasesConfig())
    found = copies.security("some")
    assert found is not None
    copies.write_security(found[0], {"members": {"names": ["ann"]}})
    assert client.security("some") == {"members": {"names": ["ann"]}}


def test_an_authentication_database_that_is_gone_has_no_copies() -> None:
    """No copy and no host make no majority, so nothing is confirmed."""
    answers: dict[tuple[str, str], tuple[int, object]] = {
        ("GET", "/_node/_local/_dbs/_users"): (404, {"error": "not_found", "reason": "missing"})
    }
    with TalkingServer(answering(answers)) as server:
        client = connect(server.url)
        evidence = Copies(client, ShardLayout(client, "_local", "_users")).evidence(ANN)
    assert judge(evidence).state is DocumentState.UNCLEAR
