"""Answers of 404 that are not CouchDB's, or not about the requested database."""

from collections.abc import Iterator

import pytest

from peruserd.core.configuration.config import DatabasesConfig
from peruserd.couch.client import Client, Removal
from peruserd.couch.copies import SingleLayout
from peruserd.couch.errors import NotFoundError, UnexpectedAnswerError
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.couch.connecting import connect
from tests.proxies import Proxy, decoding, faithful

SLASHED = "user/db-616c696365"
PLAIN = "userdb-616c696365"


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """Run a cluster of one node with both databases, behind a proxy that changes nothing at first."""
    with SimClusterThread(ClusterOptions(nodes=1, q=1, n=1)) as cluster, Proxy(cluster.urls[0], faithful) as running:
        client = connect(cluster.urls[0])
        for each in (SLASHED, PLAIN):
            client.create_database(each, DatabasesConfig())
        yield running


@pytest.fixture
def client(proxy: Proxy) -> Client:
    """Return a client behind the proxy."""
    return connect(proxy.url)


def test_a_database_is_there_behind_a_proxy_that_decodes(proxy: Proxy, client: Client) -> None:
    """CouchDB says in its own words that another database is missing. The user must not keep access because of that."""
    proxy.rewriting = decoding
    layout = SingleLayout(client, "server", "_users")
    for ask in (
        lambda: client.security(SLASHED),
        lambda: client.database_exists(SLASHED),
        lambda: client.drop_database(SLASHED),
        lambda: layout.of_database(SLASHED),
    ):
        with pytest.raises(UnexpectedAnswerError):
            ask()
    # CouchDB takes the rest of the path for an attachment of another database's map.
    proxy.rewriting = lambda path: "/_node/_local/_dbs/user" if "/_dbs/" in path else path
    with pytest.raises(UnexpectedAnswerError):
        client.shard_map("_local", SLASHED)


@pytest.mark.parametrize("database", [SLASHED, PLAIN])
def test_a_proxys_own_words_say_nothing_of_a_database(proxy: Proxy, client: Client, database: str) -> None:
    """A page that the proxy does not find tells nothing about the database."""
    proxy.rewriting = lambda _path: 404
    for ask in (
        lambda: client.security(database),
        lambda: client.database_exists(database),
        lambda: client.drop_database(database),
    ):
        with pytest.raises(UnexpectedAnswerError):
            ask()


def test_a_database_with_a_slash_that_is_missing_is_missing(proxy: Proxy, client: Client) -> None:
    """The list of names shows the missing database, even while a proxy decodes slashes."""
    for proxy.rewriting in (faithful, decoding):
        with pytest.raises(NotFoundError):
            client.security("user/db-ff")
        assert not client.database_exists("user/db-ff")
        assert client.shard_map("_local", "user/db-ff") is None
    proxy.rewriting = faithful
    assert client.database_exists(SLASHED)
    assert client.drop_database(SLASHED) is Removal.DELETED
    assert client.drop_database(SLASHED) is Removal.ABSENT
