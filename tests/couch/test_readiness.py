"""The readiness of users, on a simulated cluster and on a server without shards."""

from typing import Any

import pytest

from peruserd.core.cluster.views import Feed
from peruserd.core.common.names import database_name, user_document_id
from peruserd.core.configuration.config import Config
from peruserd.core.users.readiness import UserState
from peruserd.core.users.security import first
from peruserd.couch.client import Client
from peruserd.couch.errors import CouchError
from peruserd.couch.readiness import ReadinessReader, open_reader
from peruserd.simcluster import SimClusterThread

DATABASE = database_name("userdb-", "alice")


@pytest.fixture
def reader(client: Client) -> ReadinessReader:
    """Make a reader for the copies of a cluster."""
    return open_reader(client, Feed.SHARD, "node1@127.0.0.1", Config())


def _state(reader: ReadinessReader, number: int = 0) -> UserState | None:
    found = reader.look("alice", number)
    return None if found is None else found.state


def _sign_up(client: Client) -> str:
    body = {"name": "alice", "type": "user", "roles": [], "password": "x"}
    answer = client.session.request("PUT", f"/_users/{user_document_id('alice')}", body=body).expect(201)
    return str(answer.decode(dict[str, Any])["rev"])


@pytest.mark.parametrize("feed", [Feed.SHARD, Feed.DATABASE])
def test_a_user_is_followed_from_the_sign_up_to_the_deletion(client: Client, feed: Feed) -> None:
    """A user is unknown, then in progress (no database, or a blank one), served, and unknown again with access left."""
    reader = open_reader(client, feed, "node1@127.0.0.1", Config())
    states = [_state(reader)]
    rev = _sign_up(client)
    states.append(_state(reader))
    client.create_database(DATABASE, Config().databases)
    states.append(_state(reader))
    client.put_security(DATABASE, first("alice"))
    states.append(_state(reader))
    client.session.request("DELETE", f"/_users/{user_document_id('alice')}", params={"rev": rev}).expect(200)
    states.append(_state(reader))
    assert [each and each.value for each in states] == ["unknown", "in_progress", "in_progress", "served", "unknown"]


def test_a_small_look_is_one_request_and_a_whole_one_follows_where_the_user_seems_served(
    cluster: SimClusterThread, client: Client, reader: ReadinessReader
) -> None:
    """A wait is cheap while nothing happens, and one copy alone does not make a user served."""
    _sign_up(client)
    cluster.clear_requests()
    assert _state(reader, 1) is None
    assert sum(cluster.requests().values()) == 1
    client.create_database(DATABASE, Config().databases)
    assert _state(reader, 2) is None
    client.put_security(DATABASE, first("alice"))
    assert _state(reader, 3) is UserState.SERVED
    cluster.set_copy_security(2, DATABASE, {})
    assert _state(reader, 4) is UserState.IN_PROGRESS


def test_nodes_that_are_away_leave_the_state_unclear_only_without_a_majority(
    cluster: SimClusterThread, client: Client, reader: ReadinessReader
) -> None:
    """With one of three nodes away a user is still served; with two away the state is unclear."""
    _sign_up(client)
    client.create_database(DATABASE, Config().databases)
    client.put_security(DATABASE, first("alice"))
    cluster.stop_node(3)
    assert _state(reader) is UserState.SERVED
    cluster.stop_node(2)
    assert _state(reader) is UserState.UNCLEAR


def test_a_server_that_is_away_is_an_error(cluster: SimClusterThread, reader: ReadinessReader) -> None:
    """The caller decides what the error means."""
    cluster.stop_node(1)
    with pytest.raises(CouchError):
        reader.look("alice")


@pytest.mark.parametrize("name", ["", "a" * 200, "\ud800"])
def test_a_name_without_a_database_is_not_asked_for(
    cluster: SimClusterThread, reader: ReadinessReader, name: str
) -> None:
    """For such a name the rules of names are enough, without a request."""
    cluster.clear_requests()
    found = reader.look(name)
    assert found is not None
    assert found.state is UserState.UNSERVABLE
    assert sum(cluster.requests().values()) == 0
