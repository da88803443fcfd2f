"""Feeds over HTTP: no row is lost, each waiting reader is woken, and edge cases are as on a real server."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from peruserd.core.ownership.hashing import document_hash
from peruserd.simcluster import SimClusterThread

Ask = Callable[..., requests.Response]
LOW, HIGH = "00000000-7fffffff", "80000000-ffffffff"
WHOLE = "00000000-ffffffff"


def _follow(ask: Ask, path: str, node: int, last: str) -> list[str]:
    """Follow a feed by long polls, from its start until a document is listed; return the ids as they came."""
    since, seen = 0, []
    while last not in seen:
        page = ask("GET", f"{path}/_changes?feed=longpoll&since={since}&timeout=60000&limit=7", node=node).json()
        seen += [row["id"] for row in page["results"]]
        since = page["last_seq"]
    return seen


@pytest.mark.parametrize("relayed_by", [1, 2])
def test_no_change_is_lost_under_concurrent_writes(
    cluster: SimClusterThread,
    ask: Ask,
    shard: Callable[[str, str], str],
    background: ThreadPoolExecutor,
    relayed_by: int,
) -> None:
    """A follower of each copy sees every document, while writers use every node and copies replicate late."""
    cluster.set_replication_delay(0.01)
    ask("PUT", "/db?q=1")
    path = shard("db", WHOLE)
    followers = [
        background.submit(_follow, ask, f"/_node/{name}/{path}", relayed_by, "last") for name in cluster.node_names
    ]

    def write(node: int) -> list[str]:
        ids = [f"{node}-{number}" for number in range(40)]
        assert all(ask("PUT", f"/db/{each}", {}, node=node).status_code == 201 for each in ids)
        return ids

    written = [each for ids in background.map(write, (1, 2, 3)) for each in ids]
    ask("PUT", "/db/last", {})
    # A document that is late must be listed too, so the last one is followed by one more read of the rest.
    for name, follower in zip(cluster.node_names, followers, strict=True):
        seen = follower.result()
        cluster.replicate()
        rest = ask("GET", f"/_node/{name}/{path}/_changes").json()["results"]
        assert {row["id"] for row in rest} == {*written, "last"}
        assert [row["id"] for row in rest][: len(seen)] == seen


def test_a_long_poll_of_a_shard_is_woken_by_a_change(
    ask: Ask,
    shard: Callable[[str, str], str],
    background: ThreadPoolExecutor,
    until_asked: Callable[[str, int], None],
) -> None:
    """It returns with the change, not at its time-out, and last_seq is the change's."""
    ask("PUT", "/db?q=1")
    path = f"/_node/node2@127.0.0.1/{shard('db', WHOLE)}/_changes?feed=longpoll&since=0&timeout=60000"
    waiting = background.submit(ask, "GET", path)
    until_asked("shard_changes", 1)
    rev = ask("PUT", "/db/x", {}, node=3).json()["rev"]
    assert waiting.result().json() == {
        "results": [{"seq": 1, "id": "x", "changes": [{"rev": rev}]}],
        "last_seq": 1,
    }


@pytest.mark.parametrize("how", ["split", "deleted"])
def test_a_long_poll_of_a_shard_that_goes_ends_with_an_empty_200(
    cluster: SimClusterThread,
    ask: Ask,
    shard: Callable[[str, str], str],
    background: ThreadPoolExecutor,
    until_asked: Callable[[str, int], None],
    how: str,
) -> None:
    """The next one is told that there is no such file."""
    cluster.set_split_delay(None)
    path = f"/_node/_local/{shard('_users', LOW)}/_changes?feed=longpoll&since=5&timeout=60000"
    waiting = background.submit(ask, "GET", path)
    until_asked("shard_changes", 1)
    if how == "split":
        assert len(cluster.split("_users", LOW)) == 3
        assert cluster.release_splits() == 3
    else:
        ask("DELETE", "/_users")
    ended = waiting.result()
    assert (ended.status_code, ended.json()) == (200, {"results": [], "last_seq": 5})
    after = ask("GET", path)
    assert (after.status_code, after.json()["reason"]) == (404, "no_db_file")


@pytest.mark.parametrize("how", ["stop", "partition"])
def test_a_relayed_long_poll_ends_when_the_far_node_is_out_of_reach(
    cluster: SimClusterThread,
    ask: Ask,
    shard: Callable[[str, str], str],
    background: ThreadPoolExecutor,
    until_asked: Callable[[str, int], None],
    how: str,
) -> None:
    """The relaying node says that the other is down."""
    path = f"/_node/node3@127.0.0.1/{shard('_users', HIGH)}/_changes?feed=longpoll&timeout=60000"
    waiting = background.submit(ask, "GET", path)
    until_asked("shard_changes", 1)
    if how == "stop":
        cluster.stop_node(3)
    else:
        cluster.partition([[1, 2], [3]])
    ended = waiting.result()
    assert (ended.status_code, ended.json()["error"]) == (412, "nodedown")


def test_a_long_poll_is_cut_when_its_own_node_is_stopped(
    cluster: SimClusterThread,
    ask: Ask,
    shard: Callable[[str, str], str],
    background: ThreadPoolExecutor,
    until_asked: Callable[[str, int], None],
) -> None:
    """As by SIGKILL: no answer at all."""
    waiting = background.submit(
        ask, "GET", f"/_node/_local/{shard('_users', HIGH)}/_changes?feed=longpoll&timeout=60000", node=3
    )
    until_asked("shard_changes", 1)
    cluster.stop_node(3)
    with pytest.raises(requests.ConnectionError):
        waiting.result()


def test_a_split_under_load_loses_nothing(
    cluster: SimClusterThread, ask: Ask, shard: Callable[[str, str], str], background: ThreadPoolExecutor
) -> None:
    """Every document is in exactly one half's feed on every node, whichever moment each node split at."""
    ask("PUT", "/db?q=1")
    cluster.set_split_delay(None)
    cluster.split("db", WHOLE)

    def write(node: int) -> None:
        for number in range(60):
            assert ask("PUT", f"/db/{node}-{number}", {}, node=node).status_code == 201
            if number == 20:
                cluster.release_splits([node])

    list(background.map(write, (1, 2, 3)))
    wanted = {f"{node}-{number}" for node in (1, 2, 3) for number in range(60)}
    for name in cluster.node_names:
        listed = []
        for half in (LOW, HIGH):
            rows = ask("GET", f"/_node/{name}/{shard('db', half)}/_changes").json()["results"]
            low, high = (int(end, 16) for end in half.split("-"))
            assert all(low <= document_hash(row["id"]) <= high for row in rows)
            listed += [row["id"] for row in rows]
        assert sorted(listed) == sorted(wanted)
    assert ask("GET", f"/_node/_local/{shard('db', WHOLE)}").status_code == 404
    assert set(ask("GET", "/db/_shards").json()["shards"]) == {LOW, HIGH}


def test_while_a_range_is_split_the_map_holds_both(cluster: SimClusterThread, ask: Ask) -> None:
    """Some nodes have the whole range, and one node has its halves."""
    cluster.set_split_delay(None)
    cluster.split("_users", HIGH)
    cluster.release_splits([2])
    first, second, third = cluster.node_names
    assert ask("GET", "/_users/_shards").json()["shards"] == {
        LOW: [third, second, first],
        HIGH: [third, first],
        "80000000-bfffffff": [second],
        "c0000000-ffffffff": [second],
    }
    jobs = ask("GET", "/_reshard/jobs").json()["jobs"]
    assert sorted(job["job_state"] for job in jobs) == ["completed", "running", "running"]


def test_a_rebuilt_copy_has_another_uuid_and_other_sequences(
    cluster: SimClusterThread, ask: Ask, shard: Callable[[str, str], str]
) -> None:
    """The same documents, and a checkpoint of the old copy means nothing."""
    ask("PUT", "/db?q=1")
    for number in range(30):
        ask("PUT", f"/db/{number}", {})
    path = f"/_node/_local/{shard('db', WHOLE)}"
    before, rows = ask("GET", path).json(), ask("GET", f"{path}/_changes").json()["results"]
    cluster.rebuild_copy(1, "db", WHOLE)
    after, new = ask("GET", path).json(), ask("GET", f"{path}/_changes").json()["results"]
    assert before["uuid"] != after["uuid"]
    assert [row["id"] for row in rows] != [row["id"] for row in new]
    assert sorted(row["id"] for row in rows) == sorted(row["id"] for row in new)


def test_what_was_split_can_be_read_until_it_is_removed(
    cluster: SimClusterThread,
    ask: Ask,
    shard: Callable[[str, str], str],
    background: ThreadPoolExecutor,
    until_asked: Callable[[str, int], None],
) -> None:
    """Once the map names the halves, new documents go there alone; a long poll on the old copy ends when that goes."""
    cluster.set_split_delay(None)
    whole = f"/_node/_local/{shard('_users', LOW)}"
    end = ask("GET", whole).json()["update_seq"]
    cluster.split("_users", LOW)
    assert cluster.release_splits(remove=False) == 3
    assert {job["split_state"] for job in ask("GET", "/_reshard/jobs").json()["jobs"]} == {"wait_source_close"}
    assert LOW not in ask("GET", "/_users/_shards").json()["shards"]
    waiting = background.submit(ask, "GET", f"{whole}/_changes?feed=longpoll&since={end}&timeout=30000")
    until_asked("shard_changes", 1)
    for number in range(20):
        cluster.add_user(f"late{number}", "x")
    assert ask("GET", whole).json()["update_seq"] == end
    assert cluster.release_splits() == 3
    assert waiting.result().json()["results"] == []
    assert ask("GET", whole).status_code == 404
    assert {job["split_state"] for job in ask("GET", "/_reshard/jobs").json()["jobs"]} == {"completed"}


def test_a_continuous_feed_of_a_database_goes_on_over_splits_and_deaths(cluster: SimClusterThread, ask: Ask) -> None:
    """Rows arrive as they are written, heartbeats between them, and it ends when the database does."""
    ask("PUT", "/db?q=1")
    with ask("GET", "/db/_changes?feed=continuous&heartbeat=50", stream=True) as answer:
        lines = answer.iter_lines(chunk_size=1)

        def row() -> dict[str, object]:
            found: dict[str, object] = json.loads(next(line for line in lines if line))
            return found

        assert next(lines) == b""
        ask("PUT", "/db/one", {}, node=2)
        assert row()["id"] == "one"
        cluster.set_split_delay(0)
        ask("POST", "/_reshard/jobs", {"type": "split", "db": "db"})
        ask("PUT", "/db/two", {}, node=3)
        assert row()["id"] == "two"
        ask("DELETE", "/db")
        assert "last_seq" in row()


def test_a_long_poll_of_a_database_returns_with_the_next_change(
    ask: Ask, background: ThreadPoolExecutor, until_asked: Callable[[str, int], None]
) -> None:
    """Its opaque sequence leads on from there."""
    since = ask("GET", "/_users/_changes?since=now").json()["last_seq"]
    waiting = background.submit(ask, "GET", f"/_users/_changes?feed=longpoll&since={since}&include_docs=true")
    until_asked("changes", 2)
    ask("PUT", "/_users/org.couchdb.user:bob", {"name": "bob", "type": "user", "roles": [], "password": "x"})
    page = waiting.result().json()
    assert [row["doc"]["name"] for row in page["results"]] == ["bob"]
    assert ask("GET", f"/_users/_changes?since={page['last_seq']}").json()["results"] == []


@pytest.mark.parametrize("since", ["abc", "5-", "7-AAAA", "x-" + "A" * 22])
def test_a_malformed_sequence_of_a_database_is_refused(ask: Ask, since: str) -> None:
    """It is a bad request, where a shard answers with a 500."""
    assert ask("GET", f"/_users/_changes?since={since}").status_code == 400


def test_a_changed_document_moves_to_the_end(ask: Ask, shard: Callable[[str, str], str]) -> None:
    """Only the newest revision is listed, flagged where it is a deletion."""
    ask("PUT", "/db?q=1")
    revs = [ask("PUT", f"/db/{each}", {}).json()["rev"] for each in "abc"]
    ask("PUT", "/db/a", {"_rev": revs[0]})
    ask("DELETE", f"/db/b?rev={revs[1]}")
    rows = ask("GET", f"/_node/_local/{shard('db', WHOLE)}/_changes").json()["results"]
    assert [(row["seq"], row["id"], row.get("deleted")) for row in rows] == [
        (3, "c", None),
        (4, "a", None),
        (5, "b", True),
    ]


def test_the_feed_of_a_node_s_shard_maps_tells_of_databases_made_and_deleted(
    ask: Ask, background: ThreadPoolExecutor, until_asked: Callable[[str, int], None]
) -> None:
    """`/_node/…/_dbs/_changes` lists databases in the order in which the node heard of them; a long poll waits."""
    for name in ("b", "a"):
        ask("PUT", f"/{name}")
    page = ask("GET", "/_node/_local/_dbs/_changes", node=2).json()
    assert [row["id"] for row in page["results"]] == ["_users", "b", "a"]
    query = f"feed=longpoll&since={page['last_seq']}&timeout=30000"
    waiting = background.submit(ask, "GET", f"/_node/_local/_dbs/_changes?{query}", node=2)
    until_asked("dbs_changes", 2)
    ask("DELETE", "/b")
    (row,) = waiting.result().json()["results"]
    assert (row["id"], row["deleted"]) == ("b", True)
