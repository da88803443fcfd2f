"""The watcher and the lookout, on simulated clusters and on servers that are no cluster."""

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from peruserd.core.config import CouchDBConfig, FeedChoice
from peruserd.core.messages import Credentials, Secret
from peruserd.core.views import Feed, View
from peruserd.couch.client import Client
from peruserd.couch.errors import CouchError, UnauthorizedError, UnreachableError
from peruserd.couch.session import Session
from peruserd.simcluster import ClusterOptions, SimClusterThread
from peruserd.supervisor.watcher import Lookout, NoShardsError, Watcher

DEADLINE_SECONDS = 30.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[SimClusterThread]:
    """Run a cluster of three nodes."""
    with SimClusterThread(ClusterOptions(nodes=3, q=2, n=2)) as running:
        yield running


def lookout(url: str, feed: FeedChoice = FeedChoice.AUTO, password: str | None = None) -> Lookout:
    """Make a lookout on the server at `url`, which has credentials in it."""
    parts = urlsplit(url)
    couchdb = CouchDBConfig(url=f"http://{parts.hostname}:{parts.port}", feed=feed)
    credentials = Credentials(parts.username or "adm", Secret(password or parts.password or "pass"))
    return Lookout(Client(Session(couchdb, credentials)), couchdb)


class _NoNode(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"error":"not_found","reason":"missing"}'
        self.send_response(404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server_without_shards() -> Iterator[str]:
    """Run a server that answers every question with 404."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _NoNode)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://adm:pass@127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_lookout_attaches_to_the_node_that_answers(cluster: SimClusterThread) -> None:
    """With node `_local` the instance bears the name of the node at its URL."""
    assert [lookout(url).attach().node for url in cluster.urls] == cluster.node_names


def test_a_view_has_the_nodes_connected_and_the_shard_map(cluster: SimClusterThread) -> None:
    """A look shows what the cluster says of itself."""
    view = lookout(cluster.urls[1]).look()
    assert view.nodes == tuple(sorted(cluster.node_names))
    assert view.shard_map is not None
    assert view.shard_map.holes() == ()
    assert all(len(hosts) == 2 for hosts in view.shard_map.hosts.values())


def test_a_stopped_node_leaves_the_view_and_stays_in_the_shard_map(cluster: SimClusterThread) -> None:
    """Hosts are what the shard map says; whether they live is what membership says."""
    eye = lookout(cluster.urls[0])
    before = eye.look()
    cluster.stop_node(3)
    try:
        view = eye.look()
    finally:
        cluster.start_node(3)
    assert view.nodes == tuple(sorted(cluster.node_names))[:2]
    assert view.shard_map == before.shard_map


def test_a_missing_authentication_database_is_a_view_without_a_map(cluster: SimClusterThread) -> None:
    """That there is nobody to serve yet is no error."""
    parts = urlsplit(cluster.urls[0])
    couchdb = CouchDBConfig(url=f"http://{parts.hostname}:{parts.port}", auth_db="other_users")
    eye = Lookout(Client(Session(couchdb, Credentials("adm", Secret("pass")))), couchdb)
    view = eye.look()
    assert view.shard_map is None
    assert eye.plan(view).assignments == ()


def test_a_server_without_shards_is_read_by_its_own_feed(server_without_shards: str) -> None:
    """Where `/_node/_local` is missing, one listener follows the whole database."""
    eye = lookout(server_without_shards)
    assert eye.attach().feed is Feed.DATABASE
    (assignment,) = eye.plan(eye.look()).assignments
    assert assignment.copy.feed is Feed.DATABASE
    assert assignment.ownership.owner("org.couchdb.user:alice") == "_local"


def test_shards_that_are_asked_for_and_missing_are_an_error_for_the_operator(server_without_shards: str) -> None:
    """`feed = "shard"` on such a server says what to change."""
    with pytest.raises(NoShardsError, match=r"couchdb\.feed"):
        lookout(server_without_shards, FeedChoice.SHARD).attach()


def test_the_database_feed_can_be_asked_for_on_a_cluster(cluster: SimClusterThread) -> None:
    """`feed = "database"` is obeyed where there are shards."""
    assert lookout(cluster.urls[0], FeedChoice.DATABASE).attach().feed is Feed.DATABASE


def test_refused_credentials_are_told_apart(cluster: SimClusterThread) -> None:
    """A wrong password is not a server that is away."""
    with pytest.raises(UnauthorizedError):
        lookout(cluster.urls[0], password="wrong").attach()


class Eye:
    """Looks that are scripted: a view, or an error to raise."""

    def __init__(self, *script: View | CouchError) -> None:
        self._script = list(script)
        self.looks = 0

    def look(self) -> View:
        """Return or raise what comes next; the last one for ever."""
        self.looks += 1
        item = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(item, CouchError):
            raise item
        return item


def wait_for(happened: Callable[[], bool]) -> None:
    """Wait until something happened."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)


VIEW = View(nodes=("n1",), instances=("n1",), shard_map=None)


def test_a_watcher_passes_on_what_it_sees_after_failures() -> None:
    """A cluster that cannot be seen is looked at again; no view is made up meanwhile."""
    seen: list[View] = []
    eye = Eye(UnreachableError("away"), VIEW)
    watcher = Watcher(eye.look, interval_seconds=0.01, on_view=seen.append)
    watcher.start()
    wait_for(lambda: len(seen) >= 2)
    watcher.stop()
    assert set(map(id, seen)) == {id(VIEW)}
    assert watcher.failures == 0


def test_a_watcher_that_is_refused_does_not_hammer_the_server() -> None:
    """After refused credentials the next look is far off, so that the account is not locked."""
    eye = Eye(UnauthorizedError("no"))
    watcher = Watcher(eye.look, interval_seconds=0.001, on_view=lambda _view: None)
    watcher.start()
    wait_for(lambda: watcher.failures == 1)
    time.sleep(0.1)
    watcher.stop()
    assert eye.looks == 1
