"""The cluster over HTTP: nodes that come and go, quorums, credentials, and faults."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import enumerate as all_threads
from urllib.parse import quote

import pytest
import requests

from peruserd.simcluster import ClusterOptions, SimClusterThread

Ask = Callable[..., requests.Response]
SECURITY = {"admins": {"names": ["u"]}, "members": {"names": ["u"]}}


def _user(name: str) -> dict[str, object]:
    return {"name": name, "type": "user", "roles": [], "password": "secret"}


def test_a_stopped_node_comes_back_with_what_it_missed(cluster: SimClusterThread, ask: Ask) -> None:
    """Its port is closed, then open again at the same number; documents and databases catch up."""
    cluster.stop_node(3)
    with pytest.raises(requests.ConnectionError):
        ask("GET", "/", node=3)
    assert ask("GET", "/_membership").json()["all_nodes"] == cluster.node_names[:2]
    assert ask("PUT", "/db?q=1").status_code == 201
    assert ask("PUT", "/db/x", {}).status_code == 201
    cluster.start_node(3)
    cluster.replicate()
    assert ask("GET", "/db/x", node=3).status_code == 200
    copies = cluster.snapshot_copies("db")
    assert len({str(each["00000000-ffffffff"]["revs"]) for each in copies.values()}) == 1
    assert len({each["00000000-ffffffff"]["uuid"] for each in copies.values()}) == 3


def test_sides_of_a_partition_go_their_own_way_and_agree_after_it(cluster: SimClusterThread, ask: Ask) -> None:
    """Each side answers, the smaller with 202, and both accept edits of one document."""
    ask("PUT", "/db?q=1")
    rev = ask("PUT", "/db/x", {}).json()["rev"]
    cluster.partition([[1], [2, 3]])
    assert ask("GET", "/_membership").json()["all_nodes"] == cluster.node_names[:1]
    assert ask("GET", "/_membership", node=3).json()["all_nodes"] == cluster.node_names[1:]
    assert ask("PUT", "/db/x", {"_rev": rev, "side": 1}).status_code == 202
    assert ask("PUT", "/db/x", {"_rev": rev, "side": 2}, node=2).status_code == 201
    assert ask("GET", "/_node/node2@127.0.0.1/_dbs/db").status_code == 412
    cluster.heal()
    cluster.replicate()
    read = [ask("GET", "/db/x?conflicts=true", node=node).json() for node in (1, 2, 3)]
    assert read[0] == read[1] == read[2]
    assert len(read[0]["_conflicts"]) == 1


def test_a_security_object_that_a_minority_took_is_undone(cluster: SimClusterThread, ask: Ask) -> None:
    """A 500 in the minority changes what it reaches, a read shows it, and it is gone once the nodes meet again."""
    cluster.stop_node(2)
    cluster.stop_node(3)
    assert ask("PUT", "/db?q=1").status_code == 202
    assert ask("PUT", "/db?q=1").status_code == 412
    refused = ask("PUT", "/db/_security", SECURITY)
    assert (refused.status_code, refused.json()) == (500, {"error": "error", "reason": "no_majority"})
    assert ask("GET", "/db/_security").json() == SECURITY
    cluster.start_node(2)
    cluster.start_node(3)
    cluster.replicate()
    objects = [each["00000000-ffffffff"] for each in cluster.snapshot_security("db").values()]
    assert SECURITY not in objects
    assert ask("GET", "/db/_security").json() != SECURITY
    assert ask("PUT", "/db/_security", SECURITY, node=2).status_code == 200
    objects = [each["00000000-ffffffff"] for each in cluster.snapshot_security("db").values()]
    assert objects == [SECURITY] * 3


def test_local_documents_flip_and_come_back(cluster: SimClusterThread, ask: Ask) -> None:
    """A node never gets the write or the deletion of a local document that it missed."""
    ask("PUT", "/_users/_local/beat", {"beat": 2})
    cluster.stop_node(2)
    ask("PUT", "/_users/_local/beat", {"beat": 6})
    cluster.start_node(2)
    cluster.replicate()
    seen = {ask("GET", "/_users/_local/beat", node=1 + turn % 3).json()["beat"] for turn in range(60)}
    assert seen == {2, 6}
    cluster.stop_node(3)
    assert ask("DELETE", "/_users/_local/beat").status_code == 200
    cluster.start_node(3)
    cluster.replicate()
    found = [len(ask("GET", "/_users/_local_docs?include_docs=true").json()["rows"]) for _ in range(60)]
    assert set(found) == {0, 1}


def test_local_documents_are_listed_by_name(ask: Ask) -> None:
    """The rows come in the order asked, each with its content; what is not there is an error of its row only."""
    for name in ("a", "b", "c"):
        assert ask("PUT", f"/_users/_local/{name}", {"v": name}).status_code == 201
    keys = {"keys": ["_local/c", "_local/none", "_local/a"]}
    for answer in (
        ask("POST", "/_users/_local_docs?include_docs=true", keys),
        ask("GET", '/_users/_local_docs?include_docs=true&keys=["_local/c","_local/none","_local/a"]'),
    ):
        listed = answer.json()
        assert (listed["total_rows"], listed["offset"]) == (None, None)
        first, second, third = listed["rows"]
        assert (first["id"], first["key"], first["doc"]["_id"], first["doc"]["v"]) == (*["_local/c"] * 3, "c")
        assert first["value"]["rev"] == first["doc"]["_rev"]
        assert second == {"key": "_local/none", "error": "not_found"}
        assert third["doc"]["v"] == "a"
    assert "doc" not in ask("POST", "/_users/_local_docs", keys).json()["rows"][0]


def test_local_documents_are_listed_between_keys(ask: Ask) -> None:
    """Both ends included, in order; without ends all of them, also where a POST names none."""
    for name in ("c", "a", "b"):
        ask("PUT", f"/_users/_local/{name}", {})

    def names(method: str, query: str = "", body: object = None) -> list[str]:
        rows = ask(method, f"/_users/_local_docs{query}", body).json()["rows"]
        return [row["id"].removeprefix("_local/") for row in rows]

    assert names("GET") == names("POST", "", {}) == ["a", "b", "c"]
    assert names("GET", '?start_key="_local/b"') == ["b", "c"]
    assert names("GET", '?end_key="_local/b"') == ["a", "b"]
    assert names("GET", '?startkey="_local/b"&endkey="_local/b"') == ["b"]
    assert names("POST", '?start_key="_local/b"', {}) == ["b", "c"]
    assert names("GET", '?start_key="_local/d"') == []


def test_local_documents_are_listed_only_where_there_is_a_database(ask: Ask) -> None:
    """A missing database is told from documents that are not there; what is no JSON object is refused."""
    for answer in (ask("POST", "/none/_local_docs", {"keys": ["_local/a"]}), ask("GET", "/none/_local_docs")):
        assert (answer.status_code, answer.json()["reason"]) == (404, "Database does not exist.")
    assert ask("POST", "/_users/_local_docs", []).status_code == 400
    assert ask("PUT", "/_users/_local_docs", {}).status_code == 405
    assert ask("POST", "/_users/_local_docs", {"keys": []}, auth=("nobody", "x")).status_code == 401


def test_local_documents_asked_for_by_name_flip_as_single_ones_do(cluster: SimClusterThread, ask: Ask) -> None:
    """A copy that was away shows what it knows, whichever way it is asked."""
    ask("PUT", "/_users/_local/beat", {"beat": 2})
    cluster.stop_node(2)
    ask("PUT", "/_users/_local/beat", {"beat": 6})
    cluster.start_node(2)
    cluster.replicate()
    keys = {"keys": ["_local/beat"]}
    seen = {
        ask("POST", "/_users/_local_docs?include_docs=true", keys, node=1 + turn % 3).json()["rows"][0]["doc"]["beat"]
        for turn in range(60)
    }
    assert seen == {2, 6}


def test_a_user_reads_only_what_its_security_object_allows(ask: Ask) -> None:
    """401 for nobody, 403 for the wrong user, by basic credentials and by cookie."""
    for name in ("u", "other"):
        assert ask("PUT", f"/_users/org.couchdb.user:{name}", _user(name)).status_code == 201
    ask("PUT", "/db")
    ask("PUT", "/db/_security", SECURITY)

    def read(**more: object) -> int:
        return ask("GET", "/db", **more).status_code

    assert read(auth=("u", "secret")) == 200
    assert read(auth=("other", "secret")) == 403
    assert read(auth=("u", "wrong")) == 401
    assert ask("PUT", "/db/x", {}, auth=("u", "secret")).status_code == 201
    assert ask("PUT", "/db/_security", {}, auth=("other", "secret")).status_code == 403
    assert ask("GET", "/_all_dbs", auth=("u", "secret")).status_code == 401
    session = ask("POST", "/_session", {"name": "u", "password": "secret"})
    cookie = {"Authorization": "", "Cookie": session.headers["Set-Cookie"].split(";")[0]}
    base = session.url.removesuffix("/_session")
    for path, status in (("/db", 200), ("/_membership", 401)):
        address = f"http://{base.rpartition('@')[2].removeprefix('http://')}{path}"
        assert requests.get(address, headers=cookie, timeout=60).status_code == status


def test_user_documents_are_held_to_rules(ask: Ask) -> None:
    """The id must be the name's, the roles a list, the type `user`; the password is never kept."""
    for document_id, body in (
        ("org.couchdb.user:a", _user("b")),
        ("a", _user("a")),
        ("org.couchdb.user:a", {**_user("a"), "type": "robot"}),
        ("org.couchdb.user:a", {**_user("a"), "roles": "none"}),
        ("org.couchdb.user:a", {**_user("a"), "roles": ["_admin"]}),
    ):
        assert ask("PUT", f"/_users/{document_id}", body).status_code == 403
    name = "gr\u00fc\u00df/e \u20ac"
    path = f"/_users/{quote('org.couchdb.user:' + name, safe='')}"
    assert ask("PUT", path, _user(name)).status_code == 201
    stored = ask("GET", path).json()
    assert stored["name"] == name
    assert "password" not in stored


def test_lists_of_databases_and_documents(ask: Ask) -> None:
    """Between keys, backwards, a part at a time, and by name."""
    for name in ("c", "a", "b", "d%2Fe"):
        ask("PUT", f"/{name}")

    def names(query: str) -> list[str]:
        found: list[str] = ask("GET", f"/_all_dbs?{query}").json()
        return found

    assert names("") == ["_users", "a", "b", "c", "d/e"]
    assert names('start_key="b"&end_key="c"') == ["b", "c"]
    assert names("descending=true&limit=2&skip=1") == ["c", "b"]
    for each in "zyx":
        ask("PUT", f"/a/{each}", {"v": each})
    listed = ask("GET", '/a/_all_docs?start_key="y"&include_docs=true').json()
    assert [row["doc"]["v"] for row in listed["rows"]] == ["y", "z"]
    assert (listed["total_rows"], listed["offset"]) == (3, 1)
    backwards = ask("GET", "/a/_all_docs?descending=true&limit=1").json()
    assert [row["id"] for row in backwards["rows"]] == ["z"]
    by_name = ask("POST", "/a/_all_docs", {"keys": ["x", "none"]}).json()["rows"]
    assert by_name[1] == {"key": "none", "error": "not_found"}


def test_numbers_that_are_too_near_to_zero_are_zero(ask: Ask) -> None:
    """As on a real node (measured); all others come back as they are."""
    numbers = [-0.0, 5e-324, -1e-310, 1e300, 2.5e-7, 1.0, 18446744073709551615, -0]
    ask("PUT", "/x")
    ask("PUT", "/x/a", {"of": {"these": numbers}})
    found = ask("GET", "/x/a").json()["of"]["these"]
    assert list(map(repr, found)) == ["0.0", "0.0", "0.0", *map(repr, numbers[3:])]


def test_a_node_can_be_made_to_fail(cluster: SimClusterThread, ask: Ask) -> None:
    """By status, for so many requests, on these paths and methods only."""
    cluster.fail(1, 503, count=2, path_regex=r"^/db\b", method="PUT")
    assert ask("GET", "/db").status_code == 404
    assert [ask("PUT", "/db").status_code for _ in range(3)] == [503, 503, 201]
    cluster.fail(2, 500, probability=0.5)
    answers = {ask("GET", "/_up", node=2).status_code for _ in range(60)}
    assert answers == {200, 500}
    cluster.clear_faults()
    assert {ask("GET", "/_up", node=2).status_code for _ in range(20)} == {200}


@pytest.mark.parametrize(("kind", "status"), [("cut", 404), ("cut-after", 200), ("cut-mid", 200)])
def test_an_answer_can_be_cut(cluster: SimClusterThread, ask: Ask, kind: str, status: int) -> None:
    """Before the request is acted on, after it, or within the answer; the client cannot tell which."""
    cluster.fail(1, kind, count=1, method="PUT")
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        ask("PUT", "/db")
    assert ask("GET", "/db").status_code == status
    assert cluster.creations() == ({"db": 1} if status == 200 else {})


def test_an_answer_that_never_comes_ends_when_faults_are_cleared(
    cluster: SimClusterThread,
    ask: Ask,
    background: ThreadPoolExecutor,
    until_asked: Callable[[str, int], None],
) -> None:
    """The connection is cut then; until then a client has only its own time-out."""
    cluster.fail(1, "hang", path_regex="_up")
    waiting = background.submit(ask, "GET", "/_up")
    until_asked("up", 1)
    cluster.clear_faults()
    with pytest.raises(requests.ConnectionError):
        waiting.result()
    assert ask("GET", "/_up").status_code == 200


def test_slow_answers_come_all_the_same(cluster: SimClusterThread, ask: Ask) -> None:
    """A delay is of one node and of some paths, and can be ended."""
    cluster.set_delay(1, 0.02, "_up")
    assert ask("GET", "/_up").status_code == 200
    cluster.set_delay(1, 0, "_up")
    assert ask("GET", "/_up").status_code == 200


def test_maintenance_takes_a_node_out_of_service_but_not_out_of_the_cluster(
    cluster: SimClusterThread, ask: Ask
) -> None:
    """Only its own `/_up` tells."""
    cluster.maintenance(2, on=True)
    assert ask("GET", "/_up", node=2).status_code == 404
    assert ask("GET", "/_membership", node=2).json()["all_nodes"] == cluster.node_names
    assert ask("GET", "/_users", node=2).status_code == 200
    cluster.maintenance(2, on=False)
    assert ask("GET", "/_up", node=2).status_code == 200


def test_requests_and_creations_are_counted(cluster: SimClusterThread, ask: Ask) -> None:
    """By node, method and kind of path; a 412 makes no database."""
    for _ in range(2):
        ask("PUT", "/db", node=2)
    ask("GET", "/db/_security")
    ask("DELETE", "/db")
    assert cluster.requests() == {
        ("node1@127.0.0.1", "DELETE", "database"): 1,
        ("node1@127.0.0.1", "GET", "security"): 1,
        ("node2@127.0.0.1", "PUT", "database"): 2,
    }
    assert (cluster.creations(), cluster.deletions()) == ({"db": 1}, {"db": 1})
    cluster.clear_requests()
    assert cluster.requests() == {}


def test_users_can_be_seeded_with_their_databases(cluster: SimClusterThread, ask: Ask) -> None:
    """Without a request for each, and they can log in."""
    assert cluster.seed_users(3, "u", provisioned_prefix="userdb-") == ["u000000", "u000001", "u000002"]
    cluster.seed_users(2, "v")
    assert ask("GET", "/_users").json()["doc_count"] == 6
    assert len(cluster.databases()) == 4
    assert ask("GET", f"/userdb-{b'u000001'.hex()}", auth=("u000001", "x")).status_code == 200
    assert cluster.creations() == {}


def test_a_control_that_makes_no_sense_is_refused(cluster: SimClusterThread) -> None:
    """A missing subject is a LookupError, and an impossible wish a ValueError."""
    with pytest.raises(LookupError):
        cluster.stop_node(4)
    with pytest.raises(LookupError):
        cluster.split("nothing")
    with pytest.raises(ValueError, match="HTTP error status"):
        cluster.fail(1, 200)
    with pytest.raises(ValueError, match="regular expression"):
        cluster.fail(1, 500, path_regex="(")


def test_requests_that_no_page_is_for(ask: Ask) -> None:
    """An unknown method, an unknown node, a word for a number, a body without an object."""
    assert ask("DELETE", "/_membership").status_code == 405
    assert ask("POST", "/_node/_local/_config").status_code == 405
    assert ask("GET", "/_node/nobody/_dbs/_users").status_code == 404
    assert ask("GET", "/_users/_changes?limit=x").status_code == 400
    assert ask("PUT", "/_users/x", []).status_code == 400
    assert ask("POST", "/_reshard/jobs", {"type": "merge", "db": "_users"}).status_code == 400
    assert ask("HEAD", "/_users").content == b""


def test_leaving_leaves_no_thread_behind() -> None:
    """Also with a client still connected, and where a port is taken."""
    before = set(all_threads())
    with requests.Session() as session, SimClusterThread(ClusterOptions(nodes=1)) as cluster:
        assert session.get(cluster.urls[0] + "/_up", timeout=60).status_code == 200
        port = int(cluster.urls[0].rpartition(":")[2])
        with pytest.raises(OSError, match="in use"), SimClusterThread(ClusterOptions(nodes=1, port=port)):
            pass
    assert set(all_threads()) == before


def test_configuration_can_be_read_written_and_removed(ask: Ask) -> None:
    """On any node through any node; a value that is not there is refused."""
    path = "/_node/node2@127.0.0.1/_config/couch_peruser/enable"
    assert ask("GET", path).status_code == 404
    assert ask("PUT", path, "true").json() == ""
    assert ask("GET", "/_node/_local/_config/couch_peruser", node=2).json() == {"enable": "true"}
    assert ask("DELETE", path, node=3).json() == "true"
    assert ask("GET", "/_node/_local/_config", node=2).json()["couch_peruser"] == {}


def test_a_local_document_can_be_named_with_its_slash_encoded(ask: Ask) -> None:
    """As in the address that a write of it gives."""
    location = ask("PUT", "/_users/_local/x", {"v": 1}).headers["Location"]
    assert location.endswith("/_users/_local%2Fx")
    assert ask("GET", "/_users/_local%2Fx").json()["v"] == 1
    assert ask("GET", "/_users/_local/x").json()["v"] == 1


def test_writes_can_be_made_as_slow_as_real_ones() -> None:
    """Every clustered write takes at least `request_seconds`; what it does is the same."""
    with SimClusterThread(ClusterOptions(nodes=1, request_seconds=0.001)) as cluster:
        assert requests.put(cluster.urls[0] + "/db", timeout=60).status_code == 201
        assert requests.get(cluster.urls[0] + "/db", timeout=60).status_code == 200


def test_sessions_end_when_they_are_given_back(ask: Ask) -> None:
    """The cookie says who asks until then."""
    assert ask("GET", "/_session").json()["userCtx"] == {"name": "adm", "roles": ["_admin"]}
    given_back = ask("DELETE", "/_session")
    assert given_back.headers["Set-Cookie"].startswith("AuthSession=;")


def test_the_set_up_is_finished_once_the_authentication_database_is_there(ask: Ask) -> None:
    """A server admin can ask how far it is."""
    assert ask("GET", "/_cluster_setup").json() == {"state": "cluster_finished"}
    assert ask("DELETE", "/_users").status_code == 200
    assert ask("GET", "/_cluster_setup").json() == {"state": "cluster_enabled"}


def test_so_many_local_documents_are_listed_as_asked_for(ask: Ask) -> None:
    """The first in the order of their ids."""
    for name in "bac":
        assert ask("PUT", f"/_users/_local/{name}", {}).status_code == 201
    rows = ask("GET", "/_users/_local_docs?limit=2").json()["rows"]
    assert [row["id"] for row in rows] == ["_local/a", "_local/b"]
