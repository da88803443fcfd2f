"""Connected nodes that are no members of the cluster, and old shard maps without suffixes."""

import json
from collections.abc import Iterator

import pytest

from peruserd.core.cluster.views import Copy
from peruserd.couch.client import Client
from peruserd.couch.cluster_database import ClusterDatabase, Surroundings
from peruserd.couch.drop_facts import ShardDropFactsReader
from peruserd.couch.paths import copy_path
from peruserd.couch.shapes import Membership
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.couch.connecting import TalkingServer, answering, connect
from tests.proxies import Proxy

# Its name sorts before all others.
STRAY = "a-stray@10.0.0.9"
WHOLE = "00000000-ffffffff"
OF_THE_STRAY = {"shard_suffix": [46, 49], "by_node": {STRAY: [WHOLE]}}


@pytest.fixture
def pair() -> Iterator[SimClusterThread]:
    """Run a cluster of two nodes."""
    with SimClusterThread(ClusterOptions(nodes=2, q=1, n=2)) as running:
        yield running


@pytest.fixture
def client(pair: SimClusterThread) -> Iterator[Client]:
    """Make a client of the first node. A stray node is connected to it, with its own database `peruserd`."""

    def rewriting(path: str) -> str | int | bytes:
        if path == "/_membership":
            return json.dumps({"all_nodes": [STRAY, *pair.node_names], "cluster_nodes": pair.node_names}).encode()
        if path.startswith("/_node/a-stray%40"):
            return json.dumps(OF_THE_STRAY).encode() if path.endswith("/peruserd") else "/_node/_local/_dbs/never-made"
        return path

    with Proxy(pair.urls[0], rewriting) as proxy:
        yield connect(proxy.url)


def test_a_database_that_only_a_stray_knows_is_made(pair: SimClusterThread, client: Client) -> None:
    """That database is another cluster's, and must not delay the one of the leases for ever."""
    membership = client.membership()
    assert STRAY in membership.all_nodes
    database = ClusterDatabase(client, "peruserd", mend=True)
    seen = Surroundings(pair.node_names[0], membership.all_nodes, membership.cluster_nodes, auth_db_exists=True)
    state = database.check(seen, 0.0)
    assert state.usable, state
    assert state.hosts == tuple(pair.node_names)
    assert state.expected == 2


def test_a_second_opinion_on_a_database_is_a_members(pair: SimClusterThread, client: Client) -> None:
    """A stray does not know the database. If it counted, all deletions would wait until it is gone."""
    connect(pair.urls[0]).session.request("PUT", "/userdb-61").expect(201)
    facts = ShardDropFactsReader(client, "_users", "_users").read("org.couchdb.user:a", "userdb-61", with_dates=True)
    (suffix,) = facts.suffixes
    assert suffix is not None
    assert set(facts.dates) == set(pair.node_names)
    assert facts.nodes == 3, "with one more node there is no less to ask for"


def test_a_stray_is_no_part_of_a_majority() -> None:
    """A name that is listed twice counts once."""
    assert not Membership(("a", STRAY, "x"), ("a", "b", "c")).has_majority
    assert Membership(("a", "b"), ("a", "b", "c", "c")).has_majority


def test_a_shard_without_a_suffix_has_the_name_of_the_database_alone() -> None:
    """Old databases without suffixes are found where CouchDB has them."""
    page = ("GET", "/_node/_local/_dbs/_users")
    with TalkingServer(answering({page: (200, {"by_node": {"n1": [WHOLE]}})})) as server:
        shard_map = connect(server.url).shard_map("_local", "_users")
    assert shard_map is not None
    ((covered, hosts),) = shard_map.hosts.items()
    copy = Copy("_users", covered, hosts[0], shard_map.suffix)
    assert copy_path(copy) == f"/_node/n1/shards%2F{WHOLE}%2F_users"
