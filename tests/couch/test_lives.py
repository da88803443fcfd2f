"""The life of a database's name that has ended, by a node's list of databases."""

from peruserd.core.configuration.config import DatabasesConfig
from peruserd.couch.client import Client
from peruserd.couch.lives import ended_life
from peruserd.simcluster import SimClusterThread
from tests.couch.connecting import connect

NAME = "userdb-616e6e"


def suffix_of(client: Client) -> str:
    """Return the suffix of the existing database."""
    shard_map = client.shard_map("_local", NAME)
    assert shard_map is not None
    return shard_map.suffix


def test_the_life_that_ended_last_is_told(cluster: SimClusterThread, client: Client) -> None:
    """Each node returns None for a database that exists or never did, and after each deletion the last suffix."""
    other = connect(cluster.urls[1])
    assert ended_life(client, NAME) is None
    lives = []
    for _ in range(2):
        client.create_database(NAME, DatabasesConfig())
        assert ended_life(client, NAME) is None
        lives.append(suffix_of(client))
        client.delete_database(NAME)
        assert (ended_life(client, NAME), ended_life(other, NAME)) == (lives[-1], lives[-1])
    assert len(set(lives)) == 2


def test_without_a_list_of_databases_nothing_is_told(cluster: SimClusterThread) -> None:
    """Without a list of databases no page of a node is requested."""
    client = Client(connect(cluster.urls[0]).session, directory=False)
    client.create_database(NAME, DatabasesConfig())
    client.delete_database(NAME)
    cluster.clear_requests()
    assert ended_life(client, NAME) is None
    assert cluster.requests() == {}
