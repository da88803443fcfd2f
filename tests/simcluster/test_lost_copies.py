"""Copies whose files are gone while the shard map names them: what CouchDB answers, and what makes them again.

Measured on CouchDB 3.5.2.
"""

from typing import Any

import pytest

from peruserd.simcluster import DEFAULT_SECURITY, SimClusterThread
from tests.simcluster.conftest import Ask

SECURED = {"admins": {"names": ["u"], "roles": []}, "members": {"names": ["u"], "roles": []}}


@pytest.fixture
def copies(ask: Ask, cluster: SimClusterThread) -> list[str]:
    """The paths of the copies of a secured database with one document, of which two are lost."""
    ask("PUT", "/db?q=1")
    ask("PUT", "/db/_security", SECURED)
    ask("PUT", "/db/x", {})
    suffix = "".join(map(chr, ask("GET", "/_node/_local/_dbs/db").json()["shard_suffix"]))
    for number in (2, 3):
        cluster.lose_copy(number, "db")
    return [f"/_node/node{number}@127.0.0.1/shards%2F00000000-ffffffff%2Fdb{suffix}" for number in (1, 2, 3)]


def objects(ask: Ask, copies: list[str]) -> list[Any]:
    """Return the security object of each copy, or why there is none."""
    answers = [ask("GET", f"{each}/_security").json() for each in copies]
    return [each.get("reason", each) for each in answers]


def test_a_lost_copy_is_not_made_by_waiting(ask: Ask, cluster: SimClusterThread, copies: list[str]) -> None:
    """A read of this copy alone does not make it either, and neither does a request to make the database."""
    cluster.replicate()
    assert ask("PUT", "/db?q=1").status_code == 412
    assert objects(ask, copies) == [SECURED, "no_db_file", "no_db_file"]


def test_a_write_of_the_security_object_makes_all_copies(ask: Ask, copies: list[str]) -> None:
    """They have that object at once, and not the documents."""
    assert ask("PUT", "/db/_security", SECURED).status_code == 200
    assert objects(ask, copies) == [SECURED] * 3
    assert [ask("GET", each).json()["doc_count"] for each in copies] == [1, 0, 0]


def test_a_clustered_read_makes_the_copy_of_the_node_that_is_asked(ask: Ask, copies: list[str]) -> None:
    """It shows the object of a new database then."""
    assert ask("GET", "/db/_security", node=2).json() == DEFAULT_SECURITY
    assert objects(ask, copies) == [SECURED, DEFAULT_SECURITY, "no_db_file"]


def test_copies_that_are_replicated_to_have_the_documents(
    ask: Ask, cluster: SimClusterThread, copies: list[str]
) -> None:
    """Once all have one security object, that stays. Before, the object of the new ones wins, because they are more."""
    ask("PUT", "/db/_security", SECURED)
    assert ask("POST", "/db/_sync_shards", {}).status_code == 202
    cluster.replicate()
    assert [ask("GET", each).json()["doc_count"] for each in copies] == [1, 1, 1]
    assert objects(ask, copies) == [SECURED] * 3
    for number in (2, 3):
        cluster.lose_copy(number, "db")
    ask("POST", "/db/_sync_shards", {})
    cluster.replicate()
    assert objects(ask, copies) == [DEFAULT_SECURITY] * 3
