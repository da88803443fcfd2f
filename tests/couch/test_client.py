from typing import Any

import msgspec
import pytest

from peruserd.core.cluster.leases import Lease, Role
from peruserd.core.cluster.views import Copy
from peruserd.core.common.names import user_document_id
from peruserd.core.configuration.config import DatabasesConfig
from peruserd.core.ownership.ranges import Range, split_evenly
from peruserd.couch import client as client_module
from peruserd.couch import errors
from peruserd.couch.client import Client, Creation
from peruserd.couch.paths import copy_path
from peruserd.couch.shapes import Membership
from peruserd.simcluster import SimClusterThread
from tests.couch.connecting import TalkingServer, answering, connect

PLAIN = DatabasesConfig()


def _answered(method: str, path: str, status: int, body: object) -> TalkingServer:
    return TalkingServer(answering({(method, path): (status, body)}))


def test_a_server_says_what_it_is(client: Client) -> None:
    """The server's page at `/` has its version."""
    assert (client.welcome().couchdb, client.welcome().version) == ("Welcome", "3.5.0")


def test_a_server_that_is_something_else_is_told_apart() -> None:
    """A server other than CouchDB has another page at `/`, or none."""
    with _answered("GET", "/", 200, {"hello": 1}) as server:
        assert connect(server.url).welcome().couchdb is None
    with _answered("GET", "/", 200, b"<html>") as server, pytest.raises(errors.UnexpectedAnswerError):
        connect(server.url).welcome()


def test_nodes_have_names(cluster: SimClusterThread) -> None:
    """`_local` is the node that answers; another node is named."""
    client = connect(cluster.urls[1])
    assert client.node_name() == cluster.node_names[1]
    assert client.node_name(cluster.node_names[2]) == cluster.node_names[2]


@pytest.mark.parametrize("status", [400, 404, 405, 501])
def test_a_server_without_nodes_has_no_name(status: int) -> None:
    """A server without `/_node` has no node names, and is followed by the database's own feed.

    CouchDB 1.x and 2.x answer 400: 1.x takes the path for a database's name, and 2.x for an incomplete one.
    """
    with _answered("GET", "/_node/_local", status, {"error": "x", "reason": "y"}) as server:
        assert connect(server.url).node_name() is None


@pytest.mark.parametrize(
    ("status", "error"), [(401, errors.UnauthorizedError), (403, errors.ForbiddenError), (500, errors.ServerError)]
)
def test_a_node_that_may_be_there_is_not_without_a_name(status: int, error: type[errors.CouchError]) -> None:
    """The caller decides what a closed path means."""
    with (
        _answered("GET", "/_node/_local", status, {"error": "x", "reason": "y"}) as server,
        pytest.raises(error) as caught,
    ):
        connect(server.url).node_name()
    assert type(caught.value) is error


def test_a_node_that_is_away_is_down(cluster: SimClusterThread, client: Client) -> None:
    """A request about a node that is not connected has its own error."""
    cluster.stop_node(3)
    with pytest.raises(errors.NodeDownError):
        client.node_name(cluster.node_names[2])


def test_membership_follows_the_nodes(cluster: SimClusterThread, client: Client) -> None:
    """Connected nodes and members are kept apart, and show whether there is a majority."""
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
    """Half of the members is no majority, and nodes that are no members do not count."""
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
    """A database that never existed, or was deleted, has no map; that is no error."""
    assert client.shard_map("_local", "nothing") is None
    client.create_database("some", PLAIN)
    assert client.shard_map("_local", "some") is not None
    client.delete_database("some")
    assert client.shard_map("_local", "some") is None


def test_a_missing_node_is_no_missing_database(client: Client) -> None:
    """If a node cannot answer, that is an error, and not a missing database."""
    with pytest.raises(errors.NotFoundError, match="no such node"):
        client.shard_map("node9@127.0.0.1", "_users")


@pytest.mark.parametrize(
    "document",
    [
        {"shard_suffix": [46, 49], "by_node": {"n1": ["nonsense"]}},
        {"shard_suffix": [46, 200], "by_node": {}},
        {"shard_suffix": [46, 999], "by_node": {}},
        {"shard_suffix": ".é", "by_node": {}},
        {"shard_suffix": None, "by_node": {}},
        {"shard_suffix": [46, 49], "by_range": {"00000000-ffffffff": ["n1"]}},
    ],
    ids=["range", "suffix-not-ascii", "suffix-no-bytes", "suffix-odd-text", "suffix-null", "no-nodes"],
)
def test_a_shard_map_that_cannot_be_read_is_unexpected(document: dict[str, Any]) -> None:
    """A document of another shape is an ordinary error for the cluster watch."""
    with (
        _answered("GET", "/_node/_local/_dbs/_users", 200, document) as server,
        pytest.raises(errors.UnexpectedAnswerError),
    ):
        connect(server.url).shard_map("_local", "_users")


def test_a_shard_map_is_read_by_its_nodes() -> None:
    """CouchDB builds shards from `by_node`. `by_range` can differ, and an old map has no suffix."""
    whole = "00000000-ffffffff"
    document = {"by_node": {"n2": [whole], "n1": [whole]}, "by_range": {whole: ["n1"]}}
    with _answered("GET", "/_node/_local/_dbs/_users", 200, document) as server:
        found = connect(server.url).shard_map("_local", "_users")
    assert found is not None
    assert (found.suffix, list(found.hosts.values())) == ("", [("n1", "n2")])


def test_the_suffix_of_a_map_can_be_a_text() -> None:
    """CouchDB accepts a text too, which a person may write into a map."""
    document = {"by_node": {"n1": ["00000000-ffffffff"]}, "shard_suffix": ".1789"}
    with _answered("GET", "/_node/_local/_dbs/_users", 200, document) as server:
        found = connect(server.url).shard_map("_local", "_users")
    assert found is not None
    assert found.suffix == ".1789"


def test_databases_are_made_and_deleted(client: Client) -> None:
    """A database is made once, exists after that, and is deleted once. To delete a missing one succeeds."""
    name = "a/b+c"
    assert not client.database_exists(name)
    assert client.create_database(name, PLAIN) is Creation.CREATED
    assert client.database_exists(name)
    assert client.create_database(name, PLAIN) is Creation.EXISTED
    assert client.delete_database(name)
    assert not client.database_exists(name)
    assert client.delete_database(name)


def test_a_minority_accepts(cluster: SimClusterThread, client: Client) -> None:
    """With two of three nodes away, creating and deleting are only accepted."""
    cluster.stop_node(2)
    cluster.stop_node(3)
    assert client.create_database("some", PLAIN) is Creation.ACCEPTED
    assert not client.delete_database("some")


def test_a_database_is_made_as_asked() -> None:
    """Shards, copies, placement and partitioning are requested only if they are configured."""
    with _answered("PUT", "/some", 201, {"ok": True}) as server:
        client = connect(server.url)
        client.create_database("some", PLAIN)
        client.create_database("some", DatabasesConfig(q=8, n=2, placement="a:1,b:1", partitioned=True))
        paths = [request.path for request in server.requests]
    assert paths == ["/some?q=1", "/some?q=8&n=2&placement=a%3A1%2Cb%3A1&partitioned=true"]


def test_a_name_that_is_not_allowed_is_rejected(client: Client) -> None:
    """A security object that the server does not accept needs an operator."""
    with pytest.raises(errors.RejectedError, match="illegal_database_name"):
        client.create_database("Capital", PLAIN)


def test_security_objects_are_read_and_written(client: Client) -> None:
    """The object written is read again, unknown keys included."""
    client.create_database("some", PLAIN)
    assert client.security("some") == {"members": {"roles": ["_admin"]}, "admins": {"roles": ["_admin"]}}
    wanted = {"members": {"names": ["josé"]}, "x": [1, {"y": None}]}
    client.put_security("some", wanted)
    assert client.security("some") == wanted
    for missing in (lambda: client.security("none"), lambda: client.put_security("none", {})):
        with pytest.raises(errors.NotFoundError):
            missing()


def test_a_security_object_without_a_majority_is_not_written(cluster: SimClusterThread, client: Client) -> None:
    """The write succeeds only if most copies took it."""
    client.create_database("some", PLAIN)
    cluster.partition([[1], [2, 3]])
    with pytest.raises(errors.NoMajorityError):
        client.put_security("some", {})


def test_a_document_is_seen_by_its_name(cluster: SimClusterThread, client: Client) -> None:
    """A document with any name is found, and a missing one is no error."""
    cluster.add_user("a/ü", "x")
    assert client.document_exists("_users", user_document_id("a/ü"))
    assert not client.document_exists("_users", "never")


REVISIONS = ("POST", "/_node/_local/_dbs/_revs_diff")
LOOKED_UP = ("POST", "/_node/_local/_dbs/_all_docs")


def test_missing_databases_are_found_in_one_request(client: Client, cluster: SimClusterThread) -> None:
    """This holds if no map was changed, because a map that was only made is not deleted."""
    for name in ("userdb-61", "a/b+c"):
        client.create_database(name, PLAIN)
    cluster.clear_requests()
    assert client.missing_databases(["userdb-61", "userdb-63", "a/b+c"]) == {"userdb-63"}
    assert client.missing_databases(iter(["userdb-61"])) == set()
    assert cluster.requests() == {(cluster.node_names[0], "POST", "dbs_docs"): 2}


def test_databases_whose_maps_have_changed_are_looked_up(client: Client, cluster: SimClusterThread) -> None:
    """Changed maps may be deleted, made again, moved or split. One more request looks all of them up."""
    for name in ("userdb-61", "userdb-62", "userdb-63", "userdb-64"):
        client.create_database(name, PLAIN)
    for name in ("userdb-62", "userdb-63"):
        client.delete_database(name)
    client.create_database("userdb-63", PLAIN)
    cluster.split("userdb-64")
    cluster.clear_requests()
    asked = ["userdb-61", "userdb-62", "userdb-63", "userdb-64", "userdb-65"]
    assert client.missing_databases(asked) == {"userdb-62", "userdb-65"}
    assert cluster.requests() == {(cluster.node_names[0], "POST", "dbs_docs"): 2}


@pytest.mark.parametrize("status", [400, 403, 404, 405, 501])
def test_a_server_that_cannot_be_asked_for_many_databases_says_nothing_of_them(status: int) -> None:
    """If the list of shard maps is missing or closed, nothing is known about databases."""
    with _answered(*REVISIONS, status, {"error": "x", "reason": "y"}) as server:
        assert connect(server.url).missing_databases(["userdb-61"]) is None


CHANGED = {REVISIONS: (200, {"userdb-61": {"possible_ancestors": ["2-a"]}})}


@pytest.mark.parametrize("status", [400, 403, 405, 501])
def test_a_list_that_is_closed_to_one_of_two_questions_says_nothing_of_databases(status: int) -> None:
    """A proxy lets the revisions of shard maps pass and not their listing, for ever: no scan waits for that."""
    with TalkingServer(answering(CHANGED | {LOOKED_UP: (status, {})})) as server:
        assert connect(server.url).missing_databases(["userdb-61"]) is None
        assert connect(server.url).missing_databases(["userdb-61"], remade=True) == {"userdb-61"}


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ({REVISIONS: (500, {})}, errors.ServerError),
        ({REVISIONS: (200, {"userdb-61": 1})}, errors.UnexpectedAnswerError),
        (CHANGED | {LOOKED_UP: (500, {})}, errors.ServerError),
        (CHANGED | {LOOKED_UP: (404, {"error": "not_found", "reason": "missing"})}, errors.NotFoundError),
        (CHANGED | {LOOKED_UP: (200, {"rows": 1})}, errors.UnexpectedAnswerError),
    ],
)
def test_a_server_that_fails_to_say_what_is_missing_is_an_error(
    answers: dict[tuple[str, str], tuple[int, object]], error: type[Exception]
) -> None:
    """A failure must not look like another kind of server, nor like existing databases."""
    with TalkingServer(answering(answers)) as server, pytest.raises(error):
        connect(server.url).missing_databases(["userdb-61"])


@pytest.mark.parametrize(
    ("revisions", "missing"),
    [
        ({"missing": ["9-0"], "possible_ancestors": ["1-a"]}, False),
        ({"missing": ["9-0"], "possible_ancestors": ["3-b", "1-a"]}, False),
        ({"missing": ["9-0"]}, True),
    ],
)
def test_a_revision_of_the_first_generation_is_not_deleted(revisions: object, missing: bool) -> None:  # noqa: FBT001
    """A revision that is not deleted wins over deleted ones in conflict."""
    with _answered(*REVISIONS, 200, {"userdb-61": revisions}) as server:
        assert connect(server.url).missing_databases(["userdb-61"]) == ({"userdb-61"} if missing else set())
        assert len(server.requests) == 1


LEASE = Lease(
    "node1@127.0.0.1", "a1b2", 7, Role.ACTIVE, replaces="00", maintenance=True, version="1.0", address="127.0.0.1:9984"
)


def test_leases_are_read_as_they_were_written(cluster: SimClusterThread, client: Client) -> None:
    """One request to any node reads all leases with all fields, for any node names."""
    strange = Lease("n%41/ü@host", "c3", 1, Role.STANDBY, released=True)
    for lease in (LEASE, strange):
        client.put_lease("_users", lease)
    client.session.request("PUT", "/_users/_local/peruserd.identity", body={}).expect(201)
    cluster.clear_requests()
    for url in cluster.urls:
        assert connect(url).leases("_users") == (LEASE, strange)
    assert cluster.requests() == {(name, "GET", "local_docs"): 1 for name in cluster.node_names}


def test_more_leases_than_there_can_be_are_no_answer(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of leases in an answer is limited, and an instance beyond the limit would seem to be silent."""
    for number in range(4):
        client.put_lease("_users", Lease(f"n{number}", "i", 1))
    monkeypatch.setattr(client_module, "MAX_LEASES", 3)
    monkeypatch.setitem(client_module._ALL_LEASES, "limit", "4")
    with pytest.raises(errors.UnexpectedAnswerError, match="more than 3"):
        client.leases("_users")


def test_what_is_read_of_leases_is_bounded(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents with such names can have any content. They count as leases by their ids, and are deleted."""
    monkeypatch.setattr(client_module, "_LEASES_BYTES", 2_000)
    path = f"/_users/_local/peruserd.active.{LEASE.node}"
    client.session.request("PUT", path, body={"junk": "x" * 3_000}).expect(201)
    with pytest.raises(errors.TooLargeError):
        client.leases("_users")
    assert client.lease_ids("_users") == [f"_local/peruserd.active.{LEASE.node}"]


def test_a_lease_is_written_over_the_one_before(client: Client) -> None:
    """No revision is necessary, and another incarnation may write it. Each role of a node has its own lease."""
    other = msgspec.structs.replace(LEASE, incarnation="e5", counter=1)
    standby = msgspec.structs.replace(LEASE, role=Role.STANDBY)
    for lease in (LEASE, standby, other):
        client.put_lease("_users", lease)
    assert client.leases("_users") == (other, standby)


def test_a_lease_is_written_where_only_a_minority_can_be_reached(cluster: SimClusterThread, client: Client) -> None:
    """On its side of a cut an instance still writes its lease to the copies that it can reach."""
    cluster.stop_node(2)
    cluster.stop_node(3)
    client.put_lease("_users", LEASE)
    assert client.leases("_users") == (LEASE,)


def test_nodes_without_a_lease_have_none(client: Client) -> None:
    """Before the first lease is written the list is empty, without an error."""
    assert client.leases("_users") == ()


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"node": "node1@127.0.0.1"},
        {"node": "node1@127.0.0.1", "incarnation": "x", "counter": "many"},
        {"node": "node1@127.0.0.1", "incarnation": "x", "counter": 1, "role": "emperor"},
        {"node": None, "incarnation": "x", "counter": 1},
    ],
    ids=["empty", "cut", "counter", "role", "node"],
)
def test_what_is_no_lease_is_passed_over(client: Client, content: dict[str, Any]) -> None:
    """A document from another author or a later version does not hide other leases."""
    standby = msgspec.structs.replace(LEASE, role=Role.STANDBY)
    client.put_lease("_users", standby)
    client.session.request("PUT", f"/_users/_local/peruserd.active.{LEASE.node}", body=content).expect(201)
    assert client.leases("_users") == (standby,)


def test_a_lease_of_a_later_version_is_understood_as_far_as_it_is_known(client: Client) -> None:
    """The rest of the answer does not matter."""
    content = {"node": LEASE.node, "incarnation": "x", "counter": 1, "mood": "good"}
    client.session.request("PUT", f"/_users/_local/peruserd.active.{LEASE.node}", body=content).expect(201)
    assert client.leases("_users") == (Lease(LEASE.node, "x", 1),)


def test_rows_that_say_nothing_are_no_leases() -> None:
    """A row without a document, or with an empty one, is ignored."""
    rows = [{"key": "x", "error": "not_found"}, {"id": "y", "doc": None}, {"id": "z", "doc": "text"}]
    with _answered("GET", "/_users/_local_docs", 200, {"rows": rows}) as server:
        assert connect(server.url).leases("_users") == ()


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "missing"), (405, "Only GET,HEAD allowed"), (404, "no such page"), (404, "no_db_file")]
)
def test_an_answer_that_there_is_no_list_of_leases_is_no_empty_list(status: int, reason: str) -> None:
    """Each node with shards has that page. So a proxy has answered, or a node without the database."""
    with (
        _answered("GET", "/_users/_local_docs", status, {"error": "x", "reason": reason}) as server,
        pytest.raises(errors.CouchError, match=reason),
    ):
        connect(server.url).leases("_users")


def test_a_missing_database_has_neither_leases_nor_a_place_for_them(client: Client) -> None:
    """The answer does not mean another kind of server, because the database may exist in a moment."""
    with pytest.raises(errors.NotFoundError, match="Database does not exist"):
        client.leases("nothing")
    with pytest.raises(errors.NotFoundError, match="Database does not exist"):
        client.put_lease("nothing", LEASE)


def test_leases_that_cannot_be_read_or_written_are_an_error(cluster: SimClusterThread, client: Client) -> None:
    """A failure tells nothing about live instances."""
    cluster.fail(1, 500, path_regex="_local")
    with pytest.raises(errors.ServerError):
        client.leases("_users")
    with pytest.raises(errors.ServerError):
        client.put_lease("_users", LEASE)


def test_a_node_says_whether_it_is_in_maintenance(cluster: SimClusterThread, client: Client) -> None:
    """A node is taken out of service and back; other nodes are not affected."""
    assert not client.in_maintenance()
    cluster.maintenance(1, on=True)
    assert client.in_maintenance()
    assert not connect(cluster.urls[1]).in_maintenance()
    cluster.maintenance(1, on=False)
    assert not client.in_maintenance()


@pytest.mark.parametrize(
    ("status", "body"), [(404, {"error": "not_found", "reason": "missing"}), (404, {"status": "nolb"}), (200, {})]
)
def test_a_server_that_knows_no_maintenance_is_in_none(status: int, body: object) -> None:
    """A node without `_up`, or one that is only kept out of a load balancer, is in service."""
    with _answered("GET", "/_up", status, body) as server:
        assert not connect(server.url).in_maintenance()


def test_user_documents_are_counted(cluster: SimClusterThread, client: Client) -> None:
    """Design documents do not count as users, neither in the database nor in a copy."""
    cluster.seed_users(20)
    assert client.count_user_documents("_users") == 20
    shard_map = client.shard_map("_local", "_users")
    assert shard_map is not None
    counts = [
        client.count_copy_documents(Copy("_users", covered, cluster.node_names[2], shard_map.suffix))
        for covered in shard_map.hosts
    ]
    assert sum(counts) == 20


def test_counting_a_missing_copy_is_an_error(cluster: SimClusterThread, client: Client) -> None:
    """A missing copy is not an empty one."""
    with pytest.raises(errors.NotFoundError):
        client.count_copy_documents(Copy("_users", Range(0, 1), cluster.node_names[0], ".1"))


def test_databases_are_listed_in_pages(client: Client) -> None:
    """Names come in order, between two keys (inclusive), up to a limit."""
    for name in ("userdb-61", "userdb-62", "userdb-63", "other"):
        client.create_database(name, PLAIN)
    assert client.databases(start_key="userdb-", end_key="userdb-~", limit=2) == ["userdb-61", "userdb-62"]
    assert client.databases(start_key="userdb-62", end_key="userdb-63", limit=10) == ["userdb-62", "userdb-63"]


def test_wrong_credentials_are_refused(cluster: SimClusterThread) -> None:
    """A wrong password is an error that does not allow a quick retry."""
    with pytest.raises(errors.UnauthorizedError):
        connect(cluster.urls[0].replace("adm:pass", "adm:wrong")).membership()


def test_the_set_up_of_a_cluster_is_known_as_the_server_names_it(client: Client) -> None:
    """If a server or proxy does not answer, the setting is unknown."""
    assert client.setup_state() == "cluster_finished"
    for status in (401, 404, 405):
        with _answered("GET", "/_cluster_setup", status, {"error": "x", "reason": "y"}) as server:
            assert connect(server.url).setup_state() is None


def test_one_copy_can_be_asked_alone(cluster: SimClusterThread, client: Client) -> None:
    """The copy's security object, document and first write are its own; other copies may differ."""
    client.create_database("db", DatabasesConfig(q=1, n=3))
    shard_map = client.shard_map("_local", "db")
    assert shard_map is not None
    (covered,) = shard_map.hosts
    copies = [Copy("db", covered, node, shard_map.suffix) for node in cluster.node_names]
    assert all(client.copy_is_untouched(each) for each in copies)
    cluster.set_replication_delay(3600.0)
    assert client.put_document("db", "d", {"a": 1})
    found = [client.copy_document(each, "d") for each in copies]
    assert [document is not None for document in found] == [not client.copy_is_untouched(each) for each in copies]
    (only,) = [document for document in found if document is not None]
    assert only["a"] == 1
    assert client.copy_security(copies[0]) == client.security("db")
    with pytest.raises(errors.NotFoundError, match="no_db_file"):
        client.copy_document(Copy("db", covered, cluster.node_names[0], ".1"), "d")
    cluster.stop_node(3)
    with pytest.raises(errors.NodeDownError):
        client.copy_security(copies[2])


def test_an_answer_about_another_document_is_none() -> None:
    """A proxy's own JSON page must not count as a document, such as the marker."""
    copy = Copy("db", Range(0, 1), "n1", ".1")
    with (
        _answered("GET", f"{copy_path(copy)}/d", 200, {"status": "ok"}) as server,
        pytest.raises(errors.UnexpectedAnswerError, match="not the document"),
    ):
        connect(server.url).copy_document(copy, "d")


def test_a_document_that_is_there_is_not_written_over(cluster: SimClusterThread, client: Client) -> None:
    """Neither the same document nor a write that only a minority accepted is a success."""
    client.create_database("db", DatabasesConfig(q=1, n=3))
    assert client.put_document("db", "d", {"a": 1})
    assert not client.put_document("db", "d", {"a": 2})
    assert client.session.request("GET", "/db/d").expect(200).decode(dict[str, Any])["a"] == 1
    cluster.stop_node(2)
    cluster.stop_node(3)
    assert not client.put_document("db", "e", {})


def test_a_local_document_is_deleted_or_was_not_there(client: Client) -> None:
    """In both cases no document is left."""
    client.put_lease("_users", LEASE)
    for _ in range(2):
        client.delete_local("_users", f"_local/peruserd.active.{LEASE.node}")
        assert client.leases("_users") == ()
