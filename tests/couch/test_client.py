from typing import Any

import pytest

from peruserd.core.config import DatabasesConfig
from peruserd.core.names import user_document_id
from peruserd.core.ranges import Range, split_evenly
from peruserd.core.views import Copy
from peruserd.couch import errors
from peruserd.couch.client import Client, Creation, Membership
from peruserd.simcluster import SimClusterThread
from tests.couch.connecting import TalkingServer, answering, connect

PLAIN = DatabasesConfig()


def _answered(method: str, path: str, status: int, body: object) -> TalkingServer:
    return TalkingServer(answering({(method, path): (status, body)}))


def test_a_server_says_what_it_is(client: Client) -> None:
    """The welcome names the version."""
    assert (client.welcome().couchdb, client.welcome().version) == ("Welcome", "3.5.0")


def test_a_server_that_is_something_else_is_told_apart() -> None:
    """What is no CouchDB has no welcome of one, or none at all."""
    with _answered("GET", "/", 200, {"hello": 1}) as server:
        assert connect(server.url).welcome().couchdb is None
    with _answered("GET", "/", 200, b"<html>") as server, pytest.raises(errors.UnexpectedAnswerError):
        connect(server.url).welcome()


def test_nodes_have_names(cluster: SimClusterThread) -> None:
    """`_local` is the node that answers; another is asked by its name."""
    client = connect(cluster.urls[1])
    assert client.node_name() == cluster.node_names[1]
    assert client.node_name(cluster.node_names[2]) == cluster.node_names[2]


def test_a_server_without_nodes_has_no_name() -> None:
    """Where there is no `/_node`, there is nothing to name: the sign to fall back to the database's own feed."""
    with TalkingServer(answering({})) as server:
        assert connect(server.url).node_name() is None


def test_a_node_that_is_away_is_down(cluster: SimClusterThread, client: Client) -> None:
    """Asking one node for another that is not connected is an error of its own."""
    cluster.stop_node(3)
    with pytest.raises(errors.NodeDownError):
        client.node_name(cluster.node_names[2])


def test_membership_follows_the_nodes(cluster: SimClusterThread, client: Client) -> None:
    """Connected nodes and nodes that belong are told apart, and say whether there is a majority."""
    names = tuple(cluster.node_names)
    assert client.membership() == Membership(names, names)
    cluster.stop_node(3)
    assert client.membership() == Membership(names[:2], names)
    assert client.membership().has_majority
    cluster.stop_node(2)
    assert client.membership() == Membership(names[:1], names)
    assert not client.membership().has_majority


@pytest.mark.parametrize(
    ("connected", "belonging", "majority"),
    [("ab", "abcd", False), ("abc", "abcd", True), ("abx", "abcd", False), ("a", "a", True), ("ab", "ab", True)],
)
def test_a_majority_is_more_than_half_of_those_that_belong(connected: str, belonging: str, majority: bool) -> None:  # noqa: FBT001
    """Half is none, and nodes that do not belong do not count."""
    assert Membership(tuple(connected), tuple(belonging)).has_majority == majority


def test_the_shard_map_is_read(cluster: SimClusterThread, client: Client) -> None:
    """The map has the suffix of the shards' names and the hosts of each range, from any node."""
    shard_map = client.shard_map("_local", "_users")
    assert shard_map is not None
    assert shard_map.database == "_users"
    assert shard_map.suffix.startswith(".")
    assert shard_map.hosts == dict.fromkeys(split_evenly(2), tuple(cluster.node_names))
    assert client.shard_map(cluster.node_names[2], "_users") == shard_map


def test_a_missing_database_has_no_shard_map(client: Client) -> None:
    """One that never was and one that was deleted have none; that is no error."""
    assert client.shard_map("_local", "nothing") is None
    client.create_database("some", PLAIN)
    assert client.shard_map("_local", "some") is not None
    client.delete_database("some")
    assert client.shard_map("_local", "some") is None


def test_a_missing_node_is_no_missing_database(client: Client) -> None:
    """A node that cannot say is an error, and not a database that is not there."""
    with pytest.raises(errors.NotFoundError, match="no such node"):
        client.shard_map("node9@127.0.0.1", "_users")


@pytest.mark.parametrize(
    "document",
    [
        {"shard_suffix": [46, 49], "by_range": {"nonsense": ["n1"]}},
        {"shard_suffix": [46, 200], "by_range": {}},
        {"shard_suffix": [46, 999], "by_range": {}},
        {"shard_suffix": ".1", "by_range": {}},
        {"by_range": {}},
    ],
    ids=["range", "suffix-not-ascii", "suffix-no-bytes", "suffix-text", "no-suffix"],
)
def test_a_shard_map_that_cannot_be_read_is_unexpected(document: dict[str, Any]) -> None:
    """A document of another shape is an error the watcher can live with."""
    with (
        _answered("GET", "/_node/_local/_dbs/_users", 200, document) as server,
        pytest.raises(errors.UnexpectedAnswerError),
    ):
        connect(server.url).shard_map("_local", "_users")


def test_databases_are_made_and_deleted(client: Client) -> None:
    """Made once, found there after that, gone when deleted, and deleting what is gone is done."""
    name = "a/b+c"
    assert not client.database_exists(name)
    assert client.create_database(name, PLAIN) is Creation.CREATED
    assert client.database_exists(name)
    assert client.create_database(name, PLAIN) is Creation.EXISTED
    assert client.delete_database(name)
    assert not client.database_exists(name)
    assert client.delete_database(name)


def test_a_minority_accepts(cluster: SimClusterThread, client: Client) -> None:
    """With two of three nodes away, making and deleting are accepted only."""
    cluster.stop_node(2)
    cluster.stop_node(3)
    assert client.create_database("some", PLAIN) is Creation.ACCEPTED
    assert not client.delete_database("some")


def test_a_database_is_made_as_asked() -> None:
    """Shards, copies, placement and partitioning are asked for where they are configured, and only then."""
    with _answered("PUT", "/some", 201, {"ok": True}) as server:
        client = connect(server.url)
        client.create_database("some", PLAIN)
        client.create_database("some", DatabasesConfig(q=8, n=2, placement="a:1,b:1", partitioned=True))
        paths = [request.path for request in server.requests]
    assert paths == ["/some?q=1", "/some?q=8&n=2&placement=a%3A1%2Cb%3A1&partitioned=true"]


def test_a_name_that_is_not_allowed_is_rejected(client: Client) -> None:
    """What the server does not accept as it stands needs somebody to look at it."""
    with pytest.raises(errors.RejectedError, match="illegal_database_name"):
        client.create_database("Capital", PLAIN)


def test_security_objects_are_read_and_written(client: Client) -> None:
    """What is written is read again, unknown keys included."""
    client.create_database("some", PLAIN)
    assert client.security("some") == {"members": {"roles": ["_admin"]}, "admins": {"roles": ["_admin"]}}
    wanted = {"members": {"names": ["josé"]}, "x": [1, {"y": None}]}
    client.put_security("some", wanted)
    assert client.security("some") == wanted
    for missing in (lambda: client.security("none"), lambda: client.put_security("none", {})):
        with pytest.raises(errors.NotFoundError):
            missing()


def test_a_security_object_without_a_majority_is_not_written(cluster: SimClusterThread, client: Client) -> None:
    """The write returns only where most copies have it."""
    client.create_database("some", PLAIN)
    cluster.partition([[1], [2, 3]])
    with pytest.raises(errors.NoMajorityError):
        client.put_security("some", {})


def test_only_a_deleted_document_is_deleted(cluster: SimClusterThread, client: Client) -> None:
    """A document that lives, or never was, is not deleted."""
    cluster.add_user("a/ü", "x")
    document_id = user_document_id("a/ü")
    assert not client.document_is_deleted("_users", document_id, quorum=10)
    assert not client.document_is_deleted("_users", "never", quorum=10)
    found = client.session.request("GET", "/_users/org.couchdb.user%3Aa%2F%C3%BC").decode(dict[str, Any])
    client.session.request("PUT", "/_users/org.couchdb.user%3Aa%2F%C3%BC", body={**found, "_deleted": True}).expect(201)
    assert client.document_is_deleted("_users", document_id, quorum=10)


def test_a_missing_database_has_no_deleted_documents(client: Client) -> None:
    """`_users` itself gone is not every user deleted."""
    assert not client.document_is_deleted("nothing", "some", quorum=10)
    client.create_database("some", PLAIN)
    client.delete_database("some")
    assert not client.document_is_deleted("some", "some", quorum=10)


def test_user_documents_are_counted(cluster: SimClusterThread, client: Client) -> None:
    """Design documents are no users; a copy's own count has them."""
    cluster.seed_users(20)
    assert client.count_user_documents("_users") == 20
    shard_map = client.shard_map("_local", "_users")
    assert shard_map is not None
    counts = [
        client.count_copy_documents(Copy("_users", covered, cluster.node_names[2], shard_map.suffix))
        for covered in shard_map.hosts
    ]
    assert sum(counts) == 21


def test_counting_a_missing_copy_is_an_error(cluster: SimClusterThread, client: Client) -> None:
    """A copy that is not there is not an empty one."""
    with pytest.raises(errors.NotFoundError):
        client.count_copy_documents(Copy("_users", Range(0, 1), cluster.node_names[0], ".1"))


def test_databases_are_listed_in_pages(client: Client) -> None:
    """Names come in order, between two keys, both included, no more than asked for."""
    for name in ("userdb-61", "userdb-62", "userdb-63", "other"):
        client.create_database(name, PLAIN)
    assert client.databases(start_key="userdb-", end_key="userdb-~", limit=2) == ["userdb-61", "userdb-62"]
    assert client.databases(start_key="userdb-62", end_key="userdb-63", limit=10) == ["userdb-62", "userdb-63"]


def test_wrong_credentials_are_refused(cluster: SimClusterThread) -> None:
    """A wrong password is an error that says not to try again soon."""
    with pytest.raises(errors.UnauthorizedError):
        connect(cluster.urls[0].replace("adm:pass", "adm:wrong")).membership()
