"""Copies that are behind, have lost documents or were restored, and clustered reads of them."""

from typing import Any

import pytest

from peruserd.simcluster import DEFAULT_SECURITY, SimClusterThread
from tests.simcluster.conftest import Ask

WHOLE = "00000000-ffffffff"
SECURED = {"admins": {"names": ["u"], "roles": []}, "members": {"names": ["u"], "roles": []}}


def node(number: int) -> str:
    """Return the name of a node."""
    return f"node{number}@127.0.0.1"


def revs(cluster: SimClusterThread, database: str = "db") -> list[dict[str, str]]:
    """Return what the nodes' copies of a database of one range have, in the order of the nodes."""
    copies = cluster.snapshot_copies(database)
    return [copies[node(number)][WHOLE]["revs"] for number in (1, 2, 3)]


def gone(ask: Ask, cluster: SimClusterThread, *, behind: int) -> tuple[str, str]:
    """Make a document, and delete it while one node is kept behind; return both revisions."""
    ask("PUT", "/db?q=1")
    made = ask("PUT", "/db/x", {}).json()["rev"]
    cluster.pause_replication(behind, "db")
    ended = ask("DELETE", f"/db/x?rev={made}").json()["rev"]
    return made, ended


def test_a_copy_that_is_kept_behind_gets_nothing_until_it_is_let_go(ask: Ask, cluster: SimClusterThread) -> None:
    """Any node can be asked to write; replication passes the copy by; the others are served at once."""
    made, ended = gone(ask, cluster, behind=3)
    ask("PUT", "/db/y", {}, node=3)
    cluster.replicate()
    ahead = {"x": ended, "y": ask("GET", "/db/y").json()["_rev"]}
    assert revs(cluster) == [ahead, ahead, {"x": made}]
    cluster.resume_replication(3, "db")
    cluster.replicate()
    assert revs(cluster) == [ahead] * 3


def test_only_the_database_named_is_kept_behind(ask: Ask, cluster: SimClusterThread) -> None:
    """Another one replicates as ever."""
    gone(ask, cluster, behind=3)
    ask("PUT", "/other?q=1")
    ask("PUT", "/other/x", {})
    assert len({str(each) for each in revs(cluster, "other")}) == 1


def test_a_read_of_all_copies_prefers_the_one_that_is_behind(ask: Ask, cluster: SimClusterThread) -> None:
    """A majority of copies has the deletion. With a higher `r` the living document wins."""
    made, _ = gone(ask, cluster, behind=3)
    assert all(ask("GET", "/db/x", node=number).status_code == 404 for number in (1, 2, 3) for _ in range(5))
    assert ask("GET", "/db/x?r=10").json()["_rev"] == made


def test_without_a_majority_that_agrees_a_deleted_document_reads_as_live(ask: Ask, cluster: SimClusterThread) -> None:
    """One of two copies that can be reached is behind."""
    made, _ = gone(ask, cluster, behind=3)
    cluster.stop_node(2)
    assert ask("GET", "/db/x").json()["_rev"] == made


def test_each_copy_says_what_it_has_all_the_same(ask: Ask, cluster: SimClusterThread) -> None:
    """Asked one by one, two of three know of the deletion."""
    _, ended = gone(ask, cluster, behind=3)
    document = ask("GET", "/_node/_local/_dbs/db").json()
    shard = f"shards%2F{WHOLE}%2Fdb{''.join(map(chr, document['shard_suffix']))}"
    rows = [
        ask("POST", f"/_node/{node(number)}/{shard}/_all_docs", {"keys": ["x"]}).json()["rows"][0]
        for number in (1, 2, 3)
    ]
    assert [row["value"].get("deleted", False) for row in rows] == [True, True, False]
    asked = ask("POST", f"/_node/{node(3)}/{shard}/_revs_diff", {"x": [ended]}).json()
    assert asked["x"]["missing"] == [ended]


def test_a_read_repairs_the_copies_that_differ(ask: Ask, cluster: SimClusterThread) -> None:
    """Unless they are kept behind."""
    ask("PUT", "/db?q=1")
    made = ask("PUT", "/db/x", {}).json()["rev"]
    cluster.forget_documents(2, "db", ["x"])
    assert revs(cluster)[1] == {}
    assert all(ask("GET", "/db/x?r=3").json()["_rev"] == made for _ in range(3))
    assert revs(cluster)[1] == {"x": made}


def test_a_document_that_a_copy_lost_stays_lost(ask: Ask, cluster: SimClusterThread) -> None:
    """No row tells of it, counts are right, replication does not bring it back; another write does."""
    ask("PUT", "/db?q=1")
    made = ask("PUT", "/db/x", {}).json()["rev"]
    ask("PUT", "/db/y", {})
    cluster.forget_documents(1, "db", ["x"])
    cluster.replicate()
    assert [row["id"] for row in ask("GET", "/db/_changes").json()["results"]] == ["y"]
    assert ask("GET", "/db").json()["doc_count"] == 1
    ask("PUT", f"/db/x?rev={made}", {"a": 1})
    assert [row["id"] for row in ask("GET", "/db/_changes").json()["results"]] == ["y", "x"]


def test_a_document_nobody_has_cannot_be_lost(ask: Ask, cluster: SimClusterThread) -> None:
    """LookupError, as for a database that is not there."""
    ask("PUT", "/db")
    for database in ("db", "other"):
        with pytest.raises(LookupError):
            cluster.forget_documents(1, database, ["x"])


def test_a_restored_copy_has_its_old_name_and_another_history(ask: Ask, cluster: SimClusterThread) -> None:
    """The same uuid, the sequence of then; what is written next gets numbers that were given before."""
    ask("PUT", "/db?q=1")
    made = ask("PUT", "/db/x", {}).json()["rev"]
    backup = cluster.back_up_copies(1, "db")
    ask("DELETE", f"/db/x?rev={made}")
    ask("PUT", "/db/y", {})
    before = cluster.snapshot_copies("db")[node(1)][WHOLE]
    cluster.pause_replication(1, "db")
    cluster.restore_copies(backup)
    after = cluster.snapshot_copies("db")[node(1)][WHOLE]
    assert (after["uuid"], after["revs"]) == (before["uuid"], {"x": made})
    assert after["update_seq"] < before["update_seq"]
    assert ask("GET", "/db/_changes").json()["results"][0]["changes"] == [{"rev": made}]
    cluster.resume_replication(1, "db")
    cluster.replicate()
    copies = revs(cluster)
    assert copies[0] == copies[1] == copies[2]
    assert cluster.snapshot_copies("db")[node(1)][WHOLE]["update_seq"] == before["update_seq"]


def test_a_backup_brings_local_documents_and_security_back(ask: Ask, cluster: SimClusterThread) -> None:
    """All of it is in the same file."""
    ask("PUT", "/db?q=1")
    ask("PUT", "/db/_local/a", {"n": 1})
    backup = cluster.back_up_copies(2, "db")
    ask("PUT", "/db/_local/a", {"n": 2})
    ask("PUT", "/db/_security", SECURED)
    cluster.restore_copies(backup)
    assert {ask("GET", "/db/_local/a").json()["n"] for _ in range(30)} == {1, 2}
    assert ask("GET", "/db/_security", node=2).json() == DEFAULT_SECURITY


def test_there_is_nothing_to_restore_without_a_backup(cluster: SimClusterThread) -> None:
    """LookupError."""
    with pytest.raises(LookupError, match="no backup 0"):
        cluster.restore_copies(0)


@pytest.mark.parametrize("security", [None, DEFAULT_SECURITY, {"z": 1, "admins": {"names": ["v"]}}])
def test_one_copy_has_another_security_object(
    ask: Ask, cluster: SimClusterThread, security: dict[str, Any] | None
) -> None:
    """A request of that node sees it, and a majority wins again when a document of the database is written."""
    ask("PUT", "/db?q=1")
    ask("PUT", "/db/_security", SECURED)
    cluster.set_copy_security(2, "db", security)
    assert [ask("GET", "/db/_security", node=number).json() for number in (1, 2, 3)] == [
        SECURED,
        security or {},
        SECURED,
    ]
    cluster.replicate()
    assert ask("GET", "/db/_security", node=2).json() == (security or {})
    ask("PUT", "/db/x", {})
    cluster.replicate()
    assert ask("GET", "/db/_security", node=2).json() == SECURED


def test_two_of_three_copies_win_over_the_last_that_is_right(ask: Ask, cluster: SimClusterThread) -> None:
    """A revocation that reached one copy alone is undone when a node returns."""
    ask("PUT", "/db?q=1")
    ask("PUT", "/db/_security", SECURED)
    cluster.set_copy_security(1, "db", {"admins": {"names": [], "roles": []}})
    cluster.stop_node(3)
    cluster.start_node(3)
    cluster.replicate()
    assert ask("GET", "/db/_security", node=1).json() == SECURED


def test_another_order_of_keys_is_another_object(ask: Ask, cluster: SimClusterThread) -> None:
    """Three copies with three orders have no majority, though a program would call them equal."""
    ask("PUT", "/db?q=1")
    one, other = {"names": ["u"], "roles": []}, {"roles": [], "names": ["u"]}
    cluster.set_copy_security(1, "db", {"admins": one, "members": one})
    cluster.set_copy_security(2, "db", {"members": one, "admins": one})
    cluster.set_copy_security(3, "db", {"members": other, "admins": other})
    ask("PUT", "/db/x", {})
    cluster.replicate()
    orders = [list(ask("GET", "/db/_security", node=number).json()) for number in (1, 2, 3)]
    assert orders == [["admins", "members"], ["members", "admins"], ["members", "admins"]]


def test_one_range_alone_can_lose_its_security(ask: Ask, cluster: SimClusterThread) -> None:
    """The node's copy of the other range keeps it."""
    ask("PUT", "/db?q=2")
    ask("PUT", "/db/_security", SECURED)
    low, high = "00000000-7fffffff", "80000000-ffffffff"
    cluster.set_copy_security(3, "db", covered=low)
    assert cluster.snapshot_security("db")[node(3)] == {low: {}, high: SECURED}
