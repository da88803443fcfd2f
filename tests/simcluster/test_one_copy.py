"""The answers of one shard copy by itself, under `/_node/{name}/shards%2F…`."""

from collections.abc import Callable
from typing import Any

import pytest

from peruserd.simcluster import SimClusterThread
from tests.simcluster.conftest import Ask

Shard = Callable[[str, str], str]

WHOLE = "00000000-ffffffff"
ODD = "%E0%81%A1lice"


@pytest.fixture
def copy(ask: Ask, shard: Shard) -> Callable[..., str]:
    """Return the path of node `number`'s copy of a database of one range."""
    ask("PUT", "/db?q=1")
    path = shard("db", WHOLE)
    return lambda number=1: f"/_node/node{number}@127.0.0.1/{path}"


def test_documents_are_looked_up_by_keys(ask: Ask, copy: Callable[..., str]) -> None:
    """Each row has a revision, a mark for a deletion, or an error for a missing document, in the requested order."""
    made = ask("PUT", "/db/there", {"a": 1}).json()["rev"]
    rev = ask("PUT", "/db/gone", {}).json()["rev"]
    ended = ask("DELETE", f"/db/gone?rev={rev}").json()["rev"]
    answer = ask("POST", copy(2) + "/_all_docs", {"keys": ["gone", "never", "there"]}, node=3).json()
    assert answer == {
        "total_rows": 1,
        "offset": 0,
        "rows": [
            {"id": "gone", "key": "gone", "value": {"rev": ended, "deleted": True}},
            {"key": "never", "error": "not_found"},
            {"id": "there", "key": "there", "value": {"rev": made}},
        ],
    }


def test_revisions_that_a_copy_never_heard_of_are_named(ask: Ask, copy: Callable[..., str]) -> None:
    """Ancestors are known; a document whose revisions are all known is left out; older leaves may be ancestors."""
    first = ask("PUT", "/db/x", {}).json()["rev"]
    second = ask("PUT", f"/db/x?rev={first}", {"b": 1}).json()["rev"]
    asked = {"x": [first, second], "y": ["1-a"]}
    assert ask("POST", copy() + "/_revs_diff", asked).json() == {"y": {"missing": ["1-a"]}}
    newer = ask("POST", copy() + "/_revs_diff", {"x": ["999999-b", first]}).json()
    assert newer == {"x": {"missing": ["999999-b"], "possible_ancestors": [second]}}


@pytest.mark.parametrize(("body", "reason"), [({"x": ["y"]}, "Invalid rev format"), ({"x": 1}, "Invalid list of rev")])
def test_what_is_no_revision_is_refused(ask: Ask, copy: Callable[..., str], body: Any, reason: str) -> None:
    """400, as CouchDB words it."""
    answer = ask("POST", copy() + "/_revs_diff", body)
    assert answer.status_code == 400
    assert answer.json()["reason"].startswith(reason)


def test_one_copy_is_secured_alone(ask: Ask, copy: Callable[..., str], cluster: SimClusterThread) -> None:
    """The others keep theirs, the order of keys is kept, and a clustered read takes the copy of the node asked."""
    security = {"z": 1, "admins": {"names": ["q"]}, "a": 2}
    assert ask("PUT", copy(2) + "/_security", security, node=3).json() == {"ok": True}
    assert list(ask("GET", copy(2) + "/_security").json()) == ["z", "admins", "a"]
    assert ask("GET", "/db/_security", node=2).json() == security
    assert ask("GET", "/db/_security", node=1).json() == ask("GET", copy(3) + "/_security").json() != security
    assert cluster.snapshot_security("db")["node2@127.0.0.1"] == {WHOLE: security}


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ([], 400, ""),
        ({"admins": {"names": "x"}}, 500, "names must be a JSON list of strings"),
        ({"members": {"roles": [1]}}, 500, "roles must be a JSON list of strings"),
        ({"readers": {"names": [1]}}, 500, "names must be a JSON list of strings"),
        ({"admins": []}, 500, "admins or members must be a JSON list of strings"),
    ],
)
def test_a_malformed_security_object_is_refused_by_a_copy(
    ask: Ask, copy: Callable[..., str], body: Any, status: int, reason: str
) -> None:
    """A copy names the fault, while a clustered write only says that there is no majority."""
    answer = ask("PUT", copy() + "/_security", body)
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)
    assert ask("PUT", "/db/_security", body).json()["reason"] == "no_majority"


def test_readers_are_not_looked_at_beside_members(ask: Ask, copy: Callable[..., str]) -> None:
    """Then they can have any shape."""
    assert ask("PUT", copy() + "/_security", {"readers": {"names": [1]}, "members": {}}).status_code == 200


def test_a_copy_that_is_not_reached_or_not_there(ask: Ask, copy: Callable[..., str], cluster: SimClusterThread) -> None:
    """412 for a node that is down, 404 for an unknown node and for a range with other limits."""
    for method, under, body in (("GET", "_security", None), ("POST", "_all_docs", {"keys": []})):
        nowhere = copy().replace(WHOLE, "00000000-0fffffff")
        assert ask(method, f"{nowhere}/{under}", body).json()["reason"] == "no_db_file"
        assert ask(method, f"{copy(9)}/{under}", body).status_code == 404
    cluster.stop_node(3)
    answer = ask("POST", copy(3) + "/_all_docs", {"keys": ["x"]})
    assert (answer.status_code, answer.json()["error"]) == (412, "nodedown")


def test_one_copy_is_for_server_admins(ask: Ask, copy: Callable[..., str]) -> None:
    """401 for anybody else, also who may read the database."""
    ask("PUT", "/_users/org.couchdb.user:u", {"name": "u", "type": "user", "roles": [], "password": "x"})
    ask("PUT", "/db/_security", {})
    for more in ({"auth": ("u", "x")}, {"nobody": True}):
        assert ask("POST", copy() + "/_all_docs", {"keys": []}, **more).status_code == 401


def test_a_document_with_odd_bytes_is_shown_as_another_and_never_reached_by_that_id(
    ask: Ask, copy: Callable[..., str]
) -> None:
    """Two rows of one feed have one id; keys and revisions asked for by it are those of the one really called so."""
    odd = ask("PUT", f"/db/{ODD}", {"odd": True}).json()
    assert odd["id"] == "alice"
    feed = ask("GET", copy() + "/_changes").json()["results"]
    assert ask("POST", copy() + "/_all_docs", {"keys": ["alice"]}).json()["rows"][0]["error"] == "not_found"
    real = ask("PUT", "/db/alice", {}).json()
    rows = ask("GET", copy() + "/_changes").json()["results"]
    assert feed == rows[:1]
    assert [(row["id"], row["changes"][0]["rev"]) for row in rows] == [("alice", odd["rev"]), ("alice", real["rev"])]
    found = ask("POST", copy() + "/_all_docs", {"keys": ["alice"]}).json()["rows"]
    assert found == [{"id": "alice", "key": "alice", "value": {"rev": real["rev"]}}]
    difference = ask("POST", copy() + "/_revs_diff", {"alice": [odd["rev"], real["rev"]]}).json()
    assert difference["alice"]["missing"] == [odd["rev"]]
    assert ask("GET", copy() + f"/{ODD}").json() == {"_id": "alice", "_rev": odd["rev"], "odd": True}
    assert ask("GET", copy() + "/alice").json() == {"_id": "alice", "_rev": real["rev"]}
    assert ask("DELETE", f"/db/{ODD}?rev={odd['rev']}").json()["id"] == "alice"
    assert ask("GET", "/db/alice").status_code == 200
    assert [row.get("deleted") for row in ask("GET", "/db/_changes").json()["results"]] == [None, True]


def test_a_document_with_odd_bytes_lies_where_its_own_bytes_hash_to(ask: Ask) -> None:
    """This range can be another one than the range of the shown id."""
    shown, odd = (ask("GET", f"/_users/_shards/{each}").json()["range"] for each in ("zoe", "%E0%81%BAoe"))
    assert (shown, odd) == ("00000000-7fffffff", "80000000-ffffffff")


@pytest.mark.parametrize("document_id", ["%FFx", "%C1%A1lice", "_odd"])
def test_an_id_that_couchdb_refuses_is_refused(ask: Ask, document_id: str) -> None:
    """400 `illegal_docid`."""
    ask("PUT", "/db")
    answer = ask("PUT", f"/db/{document_id}", {})
    assert (answer.status_code, answer.json()["error"]) == (400, "illegal_docid")


def test_who_reads_is_said_by_readers_where_there_are_no_members(ask: Ask) -> None:
    """A database from before CouchDB 1.0 has them; members, even empty ones, make them count for nothing."""
    ask("PUT", "/db")
    for name in ("u", "v"):
        ask("PUT", f"/_users/org.couchdb.user:{name}", {"name": name, "type": "user", "roles": [], "password": "x"})

    def statuses(security: dict[str, Any]) -> list[int]:
        assert ask("PUT", "/db/_security", security).status_code == 200
        return [
            ask("GET", "/db", **who).status_code
            for who in ({"nobody": True}, {"auth": ("u", "x")}, {"auth": ("v", "x")})
        ]

    assert statuses({"readers": {"names": ["u"]}}) == [401, 200, 403]
    assert statuses({"members": {}, "readers": {"names": ["u"]}}) == [200, 200, 200]
    assert statuses({"members": {"names": ["v"]}, "readers": {"names": ["u"]}}) == [401, 403, 200]
    assert statuses({"readers": {"names": [], "roles": []}}) == [200, 200, 200]


def test_who_is_no_admin_of_a_database_is_refused_by_each_of_its_copies(ask: Ask) -> None:
    """A member who writes the security object gets the answer that there is no majority. Others are refused."""
    ask("PUT", "/db")
    for name in ("u", "v"):
        body: dict[str, object] = {"name": name, "type": "user", "roles": [], "password": "x"}
        ask("PUT", f"/_users/org.couchdb.user:{name}", body)
    ask("PUT", "/db/_security", {"members": {"names": ["u"]}})
    answer = ask("PUT", "/db/_security", {}, auth=("u", "x"))
    assert (answer.status_code, answer.json()["reason"]) == (500, "no_majority")
    assert ask("PUT", "/db/_security", {}, auth=("v", "x")).status_code == 403
    assert ask("PUT", "/db/_security", {}, nobody=True).status_code == 401
    assert ask("PUT", "/db/_design/x", {}, auth=("u", "x")).status_code == 403
    assert ask("GET", "/db/_security").json() == {"members": {"names": ["u"]}}
