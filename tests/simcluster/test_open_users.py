"""The acts of anybody on a `_users` that is open to sign-up."""

from typing import Any

import pytest

from peruserd.simcluster import SimClusterProcess, SimClusterThread
from tests.simcluster.conftest import Ask

USERS = "/_users/org.couchdb.user:"
ODD = "%E0%81%A1lice"
CHOSEN = "999999-0123456789abcdef0123456789abcdef"


def user(name: str, **more: Any) -> dict[str, Any]:
    """Return a user document."""
    return {"name": name, "type": "user", "roles": [], "password": "x", **more}


@pytest.fixture(autouse=True)
def _open(cluster: SimClusterThread) -> None:
    """Let anybody sign up."""
    cluster.open_users()


def test_anybody_signs_up_and_is_then_somebody(ask: Ask) -> None:
    """The new user reads, edits and deletes the own document, and nobody else's."""
    rev = ask("PUT", USERS + "alice", user("alice"), nobody=True).json()["rev"]
    ask("PUT", USERS + "bob", user("bob"), nobody=True)
    assert ask("GET", USERS + "alice", nobody=True).status_code == 404
    assert ask("GET", USERS + "alice", auth=("alice", "x")).json()["_rev"] == rev
    assert ask("DELETE", f"{USERS}alice?rev={rev}", auth=("bob", "x")).status_code == 404
    assert ask("DELETE", f"{USERS}alice?rev={rev}", auth=("alice", "x")).status_code == 200
    assert ask("GET", "/_session", auth=("alice", "x")).status_code == 401


def test_nobody_may_list_or_follow_users(ask: Ask) -> None:
    """These are for server admins, whatever the security object says."""
    for path in ("/_users/_all_docs", "/_users/_changes"):
        assert ask("GET", path, nobody=True).status_code == 401
    assert ask("GET", "/_users", nobody=True).status_code == 200


def test_anybody_forges_local_documents(ask: Ask) -> None:
    """They are written, read, listed and deleted without a password; a user who is somebody may not even write one."""
    path = "/_users/_local/peruserd.active.node1@127.0.0.1"
    assert ask("PUT", path, {"counter": 10**9}, nobody=True).status_code == 201
    assert ask("GET", path, nobody=True, node=2).json()["counter"] == 10**9
    assert len(ask("GET", "/_users/_local_docs", nobody=True).json()["rows"]) == 1
    ask("PUT", USERS + "bob", user("bob"), nobody=True)
    assert ask("PUT", path, {}, auth=("bob", "x")).status_code == 404
    assert ask("DELETE", path, nobody=True).status_code == 200
    assert ask("GET", path).status_code == 404


def test_who_has_odd_bytes_makes_and_deletes_a_document_shown_as_another(ask: Ask) -> None:
    """The feed then shows the deletion of a user who is there."""
    real = ask("PUT", USERS + "alice", user("alice")).json()["rev"]
    made = ask("PUT", USERS + ODD, user("alice"), nobody=True).json()
    assert made["id"] == "org.couchdb.user:alice"
    assert ask("DELETE", f"{USERS}{ODD}?rev={made['rev']}", auth=("alice", "x")).status_code == 404
    assert ask("DELETE", f"{USERS}{ODD}?rev={made['rev']}", auth=(b"\xe0\x81\xa1lice", "x")).status_code == 200
    rows = [row for row in ask("GET", "/_users/_changes").json()["results"] if row["id"].endswith("alice")]
    assert [row.get("deleted", False) for row in rows] == [False, True]
    assert ask("GET", USERS + "alice").json()["_rev"] == real


def test_who_has_odd_bytes_is_not_whom_a_database_names(ask: Ask) -> None:
    """The name is shown alike, and access is by the bytes."""
    ask("PUT", USERS + ODD, user("alice"), nobody=True)
    ask("PUT", "/db")
    ask("PUT", "/db/_security", {"members": {"names": ["alice"]}})
    odd = (b"\xe0\x81\xa1lice", "x")
    assert ask("GET", "/_session", auth=odd).json()["userCtx"]["name"] == "alice"
    assert ask("GET", "/db", auth=odd).status_code == 403


def test_revisions_can_have_any_number(ask: Ask) -> None:
    """The next edit goes on from there."""
    body = user("eve", _rev=CHOSEN)
    assert ask("PUT", USERS + "eve?new_edits=false", body, nobody=True).json()["rev"] == CHOSEN
    made = ask("PUT", f"{USERS}eve?rev={CHOSEN}", user("eve"), auth=("eve", "x")).json()["rev"]
    assert made.startswith("1000000-")


def test_anybody_writes_a_branch_of_somebodys_document(ask: Ask) -> None:
    """It wins by its number, and who it is about cannot log in until the conflict is resolved."""
    rev = ask("PUT", USERS + "bob", user("bob")).json()["rev"]
    ask(
        "POST",
        "/_users/_bulk_docs",
        {"new_edits": False, "docs": [user("bob", _id="org.couchdb.user:bob", _rev=CHOSEN)]},
        nobody=True,
    )
    found = ask("GET", USERS + "bob?conflicts=true").json()
    assert (found["_rev"], found["_conflicts"]) == (CHOSEN, [rev])
    answer = ask("GET", "/_session", auth=("bob", "x"))
    assert (answer.status_code, answer.json()["reason"][:23]) == (401, "User document conflicts")


def test_a_live_branch_wins_over_a_tombstone_of_any_number(ask: Ask) -> None:
    """A user who was deleted is there again, with a lower revision; when that is deleted, the higher one wins."""
    made = ask("PUT", USERS + "kim", user("kim"), nobody=True).json()["rev"]
    path = {"start": 999_999, "ids": ["d" * 32, made.partition("-")[2]]}
    document = {"_deleted": True, "_revisions": path}
    ask("PUT", USERS + "kim?new_edits=false", document)
    assert ask("GET", USERS + "kim").json()["_rev"] == made
    low = "1-" + "a" * 32
    rev = ask("DELETE", f"{USERS}kim?rev={made}").json()["rev"]
    assert ask("GET", USERS + "kim").status_code == 404
    row = ask("POST", "/_users/_all_docs", {"keys": ["org.couchdb.user:kim"]}).json()["rows"][0]
    assert row["value"] == {"rev": f"999999-{'d' * 32}", "deleted": True}
    ask("PUT", USERS + "kim?new_edits=false", user("kim", _rev=low), nobody=True)
    assert ask("GET", USERS + "kim").json()["_rev"] == low
    assert rev.startswith("2-")


def test_nobody_forges_a_deletion(ask: Ask) -> None:
    """A forged deletion with a revision of choice is refused, and so is a plain one."""
    rev = ask("PUT", USERS + "bob", user("bob")).json()["rev"]
    path = {"start": 2, "ids": ["c" * 32, rev.partition("-")[2]]}
    for document in ({"_deleted": True, "_rev": CHOSEN}, {"_deleted": True, "_revisions": path}):
        assert ask("PUT", USERS + "bob?new_edits=false", document, nobody=True).status_code == 500
    assert ask("DELETE", f"{USERS}bob?rev={rev}", nobody=True).status_code == 404
    assert ask("GET", USERS + "bob").json()["_rev"] == rev


def test_accounts_are_locked_by_address_and_node(ask: Ask, cluster: SimClusterThread) -> None:
    """After five wrong passwords the right one is refused too, until the time is over; elsewhere it is not."""
    ask("PUT", USERS + "bob", user("bob"))
    right, wrong = {"auth": ("bob", "x")}, {"auth": ("bob", "no")}
    assert [ask("GET", "/_session", **wrong).status_code for _ in range(6)] == [401] * 5 + [403]
    locked = ask("GET", "/_session", **right)
    assert (locked.status_code, locked.json()["reason"]) == (
        403,
        "Account is temporarily locked due to multiple authentication failures",
    )
    assert ask("GET", "/_session", node=2, **right).status_code == 200
    assert ask("GET", "/_session", headers={"X-Forwarded-For": "10.1.2.3"}, **right).status_code == 200
    cluster.clear_lockouts()
    assert ask("GET", "/_session", **right).status_code == 200


def test_a_lock_ends_by_itself(ask: Ask, cluster: SimClusterThread) -> None:
    """So long after the first wrong password; the time and the number can be set."""
    cluster.set_lockout(1, 0.0)
    assert ask("GET", "/_session", auth=("adm", "no")).status_code == 401
    assert ask("GET", "/_session").status_code == 200
    cluster.set_lockout(1, 300.0)
    assert ask("GET", "/_session", auth=("adm", "no")).status_code == 401
    assert ask("GET", "/_session").status_code == 403


def test_the_admin_is_locked_as_anybody(ask: Ask) -> None:
    """Also where the right password was just taken; a session cookie holds all the same, and a refused one is free."""
    session = ask("POST", "/_session", {"name": "adm", "password": "pass"}, nobody=True)
    cookie = {"Cookie": session.headers["Set-Cookie"].partition(";")[0]}
    assert ask("GET", "/_all_dbs").status_code == 200
    for _ in range(5):
        ask("POST", "/_session", {"name": "adm", "password": "no"}, nobody=True)
        spoilt = {"Cookie": cookie["Cookie"][:-3] + "xyz"}
        assert ask("GET", "/_all_dbs", nobody=True, headers=spoilt).status_code == 401
    assert ask("GET", "/_all_dbs").status_code == 403
    assert ask("GET", "/_all_dbs", nobody=True, headers=cookie).status_code == 200
    assert ask("GET", "/_session", node=2, nobody=True, headers=spoilt).json()["userCtx"]["name"] is None


def test_the_password_of_the_admin_is_changed_at_run_time(ask: Ask, cluster: SimClusterThread) -> None:
    """The old one and its sessions are refused at once; a lock ends with the password it was for."""
    session = ask("POST", "/_session", {"name": "adm", "password": "pass"}, nobody=True)
    cookie = {"Cookie": session.headers["Set-Cookie"].partition(";")[0]}
    assert ask("GET", "/_all_dbs").status_code == 200
    assert ask("GET", "/_all_dbs", nobody=True, headers=cookie).status_code == 200
    cluster.set_admin_password("other")
    assert [ask("GET", "/_all_dbs").status_code for _ in range(6)] == [401] * 5 + [403]
    assert ask("GET", "/_all_dbs", nobody=True, headers=cookie).status_code == 401
    assert ask("GET", "/_all_dbs", auth=("adm", "other")).status_code == 403
    assert ask("GET", "/_all_dbs", auth=("adm", "other"), node=2).status_code == 200
    cluster.set_admin_password("pass")
    assert ask("GET", "/_all_dbs").status_code == 200


def test_nodes_can_have_different_passwords(ask: Ask, cluster: SimClusterThread) -> None:
    """A relayed request then dies on the other node, save for those of its configuration."""
    cluster.set_admin_password("other", node=3)
    assert [ask("GET", "/_all_dbs", node=number).status_code for number in (1, 2, 3)] == [200, 200, 401]
    answer = ask("GET", "/_node/node3@127.0.0.1/_dbs/_users")
    assert (answer.status_code, answer.json()["reason"]) == (500, "function_clause")
    assert ask("GET", "/_node/node3@127.0.0.1/_config/couch_peruser").status_code == 200


def test_controls_against_accounts_travel_to_another_process() -> None:
    """They go over the control port as all others."""
    with SimClusterProcess() as cluster:
        cluster.open_users()
        cluster.set_admin_password("other")
        cluster.set_lockout(3, 1.0)
        cluster.clear_lockouts()
        assert cluster.snapshot_security("_users")["node1@127.0.0.1"]["00000000-7fffffff"]["members"]["names"] == []
