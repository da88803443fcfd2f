"""The probe, on a simulated cluster and with servers whose answers are given."""

from typing import Any

import msgspec
import pytest

from peruserd.core.cluster.views import Copy, Feed
from peruserd.core.configuration.config import DatabasesConfig
from peruserd.core.ownership.ranges import WHOLE_SPACE, ShardMap
from peruserd.couch.answers import Answer
from peruserd.couch.client import Client
from peruserd.couch.errors import InterruptedRequestError, RefusedError
from peruserd.couch.probe import MajorityProbe, Probe, open_probe
from peruserd.couch.session import Session
from peruserd.couch.tokens import Tokens
from peruserd.simcluster import SimClusterThread
from tests.couch.connecting import connect, make_lease_database, settings_of

OWN = "peruserd"


def _followed(client: Client) -> Copy:
    """Return a copy of the first range."""
    shard_map = client.shard_map("_local", "_users")
    assert shard_map is not None
    covered, nodes = next(iter(shard_map.hosts.items()))
    return Copy("_users", covered, nodes[0], shard_map.suffix)


def _probe(client: Client) -> MajorityProbe:
    """Return the probe of a listener of the first range."""
    return MajorityProbe(client, OWN, _followed(client))


def without_majority(cluster: SimClusterThread, probe: Probe) -> str:
    """Stop one node, which changes nothing, and then another one; return the probe's result."""
    assert probe.ask() is None
    cluster.stop_node(3)
    assert probe.ask() is None
    cluster.stop_node(2)
    why = probe.ask()
    assert why is not None
    return why


@pytest.mark.parametrize("own", [True, False], ids=["own database", "authentication database"])
def test_a_majority_of_the_copies_must_answer(cluster: SimClusterThread, own: bool) -> None:  # noqa: FBT001
    """With one of three nodes away the cluster serves. With two away it does not, and the text names them."""
    client = connect(cluster.urls[0])
    if own:
        make_lease_database(client)
    probe = _probe(client)
    why = without_majority(cluster, probe)
    assert "node2@127.0.0.1, node3@127.0.0.1" in why
    assert ("copies of peruserd" in why) == own
    # A clustered read does not show the missing majority, because one copy is enough for it.
    assert client.session.request("GET", "/_users").status == 200
    cluster.start_node(3)
    assert probe.ask() is None


def test_the_node_that_is_asked_can_be_away(cluster: SimClusterThread) -> None:
    """No user is served through this node, whatever the other nodes do."""
    client = connect(cluster.urls[0])
    probe = _probe(client)
    cluster.stop_node(1)
    why = probe.ask()
    assert why is not None
    assert "cannot reach" in why


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_an_error_for_everybody_keeps_the_cluster_from_serving(cluster: SimClusterThread, status: int) -> None:
    """A proxy or server answers all paths of copies with an error."""
    client = connect(cluster.urls[0])
    make_lease_database(client)
    probe = _probe(client)
    cluster.fail(1, status, path_regex="shards")
    why = probe.ask()
    assert why is not None
    assert str(status) in why


@pytest.mark.parametrize("status", [401, 403, 404, 412, 500])
def test_one_odd_copy_is_one_copy(cluster: SimClusterThread, status: int) -> None:
    """One odd copy does not matter if the others are a majority: another password, or a path that a proxy closes."""
    client = connect(cluster.urls[0])
    make_lease_database(client)
    probe = _probe(client)
    cluster.fail(1, status, path_regex="^/_node/node1")
    assert probe.ask() is None
    cluster.fail(1, status, path_regex="^/_node/node3")
    why = probe.ask()
    assert why is not None
    assert "node1@127.0.0.1, node3@127.0.0.1" in why


def test_one_copy_whose_refusal_cannot_be_looked_into_is_one_copy(cluster: SimClusterThread) -> None:
    """A check that fails for one node is no result for the whole cluster."""
    plain = connect(cluster.urls[0])
    make_lease_database(plain)
    token = plain.session._tokens.current
    assert token is not None
    doubts: list[str | None] = []

    def ask(number: int, node: str | None) -> None:
        doubts.append(node)
        tokens.answer(number, RefusedError("it cannot be found out"))

    tokens = Tokens(token, ask)
    probe = _probe(Client(Session(settings_of(cluster.urls[0])[0], tokens)))
    cluster.fail(1, 401, path_regex="^/_node/node1")
    assert probe.ask() is None
    assert doubts == ["node1@127.0.0.1"]
    tokens.refuse(RefusedError("the password is wrong"))
    assert probe.ask() == "the password is wrong"


def test_what_users_databases_answer_is_not_asked(cluster: SimClusterThread) -> None:
    """An enemy controls the answers of his own database, so the probe never asks it."""
    client = connect(cluster.urls[0])
    make_lease_database(client)
    probe = _probe(client)
    for node in (1, 2, 3):
        cluster.fail(node, 500, path_regex="userdb-")
        cluster.fail(node, 500, path_regex="^/_users")
    assert probe.ask() is None


@pytest.mark.parametrize("feed", [Feed.SHARD, Feed.DATABASE])
@pytest.mark.parametrize("status", [401, 403, 404, 405, 413, 429, 500, 503])
def test_a_cluster_that_answers_reads_alone_serves_nobody(cluster: SimClusterThread, feed: Feed, status: int) -> None:
    """A full disk, or a proxy that passes no writes, is not the failure of a single user."""
    client = connect(cluster.urls[0])
    make_lease_database(client)
    probe = open_probe(client, OWN, msgspec.structs.replace(_followed(client), feed=feed))
    cluster.fail(1, status, method="PUT")
    why = probe.ask()
    assert why is not None
    assert str(status) in why
    cluster.clear_faults()
    assert probe.ask() is None


def test_a_write_is_one_document_and_a_majority_must_take_it(
    cluster: SimClusterThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All probes write the same document. If only a minority takes the write, the cluster does not serve."""
    client = connect(cluster.urls[0])
    make_lease_database(client)
    probe = _probe(client)
    rows = []
    for _ in range(3):
        assert probe.ask() is None
        rows.append(client.session.request("GET", f"/{OWN}/_local_docs").decode(dict[str, Any])["rows"])
    assert [len(each) for each in rows] == [1, 1, 1]
    request = client.session.request

    def by_a_minority(method: str, path: str, **options: Any) -> Answer:
        found = request(method, path, **options)
        return msgspec.structs.replace(found, status=202) if method == "PUT" else found

    monkeypatch.setattr(client.session, "request", by_a_minority)
    assert probe.ask() == f"no majority of the copies of {OWN} takes a write"


@pytest.mark.parametrize("feed", [Feed.SHARD, Feed.DATABASE])
def test_a_database_of_somebody_else_is_never_written_to(cluster: SimClusterThread, feed: Feed) -> None:
    """The database has the name of peruserd's own, but not its marker."""
    client = connect(cluster.urls[0])
    client.create_database(OWN, DatabasesConfig())
    client.put_document(OWN, "peruserd", {"type": "somebody else's"})
    cluster.clear_requests()
    assert open_probe(client, OWN, msgspec.structs.replace(_followed(client), feed=feed)).ask() is None
    assert {method for _, method, _ in cluster.requests()} == {"GET"}


def test_without_any_database_there_is_nothing_to_ask(cluster: SimClusterThread) -> None:
    """Without an authentication database there are no users, and the cluster counts as serving."""
    client = connect(cluster.urls[0])
    probe = _probe(client)
    client.delete_database("_users")
    assert probe.ask() is None


WHOLE_DATABASE = Copy("_users", WHOLE_SPACE, "here", "", Feed.DATABASE)


def test_a_server_that_compares_revisions_of_local_documents_takes_each_write(
    cluster: SimClusterThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PouchDB Server refuses a second write that does not name the revision of the first (measured on 4.2.0)."""
    client = connect(cluster.urls[0])
    make_lease_database(client)
    probe = open_probe(client, OWN, WHOLE_DATABASE)
    request = client.session.request

    def comparing(method: str, path: str, **options: Any) -> Answer:
        if method == "PUT":
            before = request("GET", path)
            known = before.decode(dict[str, Any])["_rev"] if before.status == 200 else None
            if options["body"].get("_rev") != known:
                return Answer("PUT", 409, b'{"error":"conflict","reason":"Document update conflict"}')
        return request(method, path, **options)

    monkeypatch.setattr(client.session, "request", comparing)
    assert [probe.ask() for _ in range(3)] == [None, None, None]


@pytest.mark.parametrize("status", [400, 403, 404, 405])
def test_a_server_without_shards_is_asked_for_its_database(cluster: SimClusterThread, status: int) -> None:
    """No copy or node is asked, because the server may have none. Unknown hosts are no failure."""
    probe = open_probe(connect(cluster.urls[0]), OWN, WHOLE_DATABASE)
    cluster.fail(1, 500, path_regex="^/_node")
    cluster.fail(1, status, path_regex="_shards|_membership")
    assert probe.ask() is None
    cluster.fail(1, 503)
    why = probe.ask()
    assert why is not None
    assert "503" in why


@pytest.mark.parametrize("own", [True, False], ids=["own database", "authentication database"])
def test_by_pages_of_databases_a_majority_of_the_hosts_must_be_there(
    cluster: SimClusterThread,
    own: bool,  # noqa: FBT001
) -> None:
    """No page of a node is requested, because a proxy may forbid them all."""
    client = connect(cluster.urls[0])
    if own:
        make_lease_database(client)
    cluster.fail(1, 403, path_regex="^/_node")
    probe = open_probe(client, OWN, WHOLE_DATABASE)
    why = without_majority(cluster, probe)
    assert "node2@127.0.0.1, node3@127.0.0.1 not" in why
    assert ("hosts of peruserd" in why) == own
    cluster.start_node(3)
    assert probe.ask() is None


@pytest.mark.parametrize("page", ["_shards", "_membership", "peruserd-probe"])
def test_by_pages_of_databases_an_error_keeps_the_cluster_from_serving(cluster: SimClusterThread, page: str) -> None:
    """A read that hangs or fails concerns the cluster, because no user's database is asked."""
    client = connect(cluster.urls[0])
    make_lease_database(client)
    probe = open_probe(client, OWN, WHOLE_DATABASE)
    for node in (1, 2, 3):
        cluster.fail(node, 500, path_regex="userdb-|^/_users")
    assert probe.ask() is None
    cluster.fail(1, 500, path_regex=page)
    assert "500" in (probe.ask() or "")


def test_by_pages_of_databases_nobody_is_to_blame_where_there_are_none(cluster: SimClusterThread) -> None:
    """Without an authentication database there are no users."""
    client = connect(cluster.urls[0])
    client.delete_database("_users")
    assert open_probe(client, OWN, WHOLE_DATABASE).ask() is None


@pytest.mark.parametrize("feed", list(Feed))
def test_an_interruption_is_no_answer(cluster: SimClusterThread, feed: Feed) -> None:
    """The listener is stopping, and that tells nothing about the cluster."""
    client = connect(cluster.urls[0])
    probe = open_probe(client, OWN, Copy("_users", WHOLE_SPACE, "here", "", feed))
    client.session.interrupt()
    with pytest.raises(InterruptedRequestError):
        probe.ask()


def test_a_map_without_a_range_is_no_map(cluster: SimClusterThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such an answer must not end the listener."""
    client = connect(cluster.urls[0])
    probe = _probe(client)
    true_map = client.shard_map
    monkeypatch.setattr(
        client,
        "shard_map",
        lambda node, name: ShardMap(name, ".1", {}) if name == OWN else true_map(node, name),
    )
    assert probe.ask() is None
