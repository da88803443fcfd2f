"""Validation functions and options of users' databases, as a real cluster has them."""

from typing import Any

import pytest
import requests

from peruserd.simcluster import SimClusterThread
from peruserd.simcluster.model import validation_functions
from peruserd.simcluster.model.errors import RefusalError

GUARD = "function (doc, old, user, sec) { throw({forbidden: 'no'}); }"


def call(url: str, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Make one request; return the status and the JSON of the answer."""
    answer = requests.request(method, url + path, json=body, timeout=30)
    return answer.status_code, answer.json()


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (GUARD, "forbidden"),
        ('function(n){throw {unauthorized:"x y"}}', "unauthorized"),
        ("function (doc) {}", None),
        ("function (doc) { if (doc.a) throw({forbidden: 'no'}); }", None),
        ("not even a function", None),
    ],
)
def test_a_function_that_refuses_everything_is_obeyed(source: str, error: str | None) -> None:
    """Any other one would have to be run."""
    designs: list[dict[str, Any]] = [{}, {"validate_doc_update": 7}, {"validate_doc_update": source}]
    if error is None:
        validation_functions.require_allowed(designs)
        return
    with pytest.raises(RefusalError) as caught:
        validation_functions.require_allowed(designs)
    assert caught.value.error == error


def test_a_guarded_database_refuses_documents_one_by_one(cluster: SimClusterThread) -> None:
    """Design documents pass, and so do documents in the same request as the function."""
    url = cluster.urls[0]
    call(url, "PUT", "/db")
    design = {"_id": "_design/guard", "validate_doc_update": GUARD}
    status, rows = call(url, "POST", "/db/_bulk_docs", {"docs": [{"_id": "before"}, design]})
    assert (status, [row.get("error") for row in rows]) == (201, [None, None])
    status, rows = call(url, "POST", "/db/_bulk_docs", {"docs": [{"_id": "a"}, {"_id": "_design/b"}]})
    assert status == 201
    assert rows[0] == {"id": "a", "error": "forbidden", "reason": "no"}
    assert rows[1]["ok"]
    assert call(url, "PUT", "/db/a", {}) == (403, {"error": "forbidden", "reason": "no"})
    call(url, "PUT", "/other")
    assert call(url, "PUT", "/other/a", {})[0] == 201
    rev = call(url, "GET", "/db/_design/guard")[1]["_rev"]
    assert call(url, "DELETE", f"/db/_design/guard?rev={rev}")[0] == 200
    assert call(url, "PUT", "/db/a", {})[0] == 201


def test_options_of_a_database_are_numbers(cluster: SimClusterThread) -> None:
    """They have the server's defaults; what CouchDB does not take is refused in its words."""
    url = cluster.urls[0]
    call(url, "PUT", "/db")
    assert call(url, "GET", "/db/_revs_limit") == (200, 1000)
    assert call(url, "PUT", "/db/_revs_limit", 7) == (200, {"ok": True})
    assert call(url, "GET", "/db/_revs_limit") == (200, 7)
    assert call(url, "PUT", "/db/_revs_limit", 0)[0] == 500
    assert call(url, "PUT", "/db/_revs_limit", "x")[0] == 400


def test_an_option_waits_for_each_copy(cluster: SimClusterThread) -> None:
    """Where one is away there is no answer for a minute, which the simulation does not wait; the others have it."""
    url = cluster.urls[0]
    call(url, "PUT", "/db?q=1")
    cluster.stop_node(3)
    assert call(url, "PUT", "/db/_revs_limit", 7)[0] == 500
    assert call(url, "GET", "/db/_revs_limit") == (200, 7)
    by_node = call(url, "GET", "/_node/_local/_dbs/db")[1]
    suffix = bytes(by_node["shard_suffix"]).decode()
    copy = f"/_node/node2@127.0.0.1/shards%2F00000000-ffffffff%2Fdb{suffix}/_revs_limit"
    assert call(url, "PUT", copy, 9) == (200, {"ok": True})
    assert call(url, "GET", copy) == (200, 9)
    assert call(url, "PUT", copy, "x")[0] == 400
    assert call(url, "GET", copy.replace("node2", "node3"))[0] == 412
