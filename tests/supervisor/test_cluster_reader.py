"""The cluster reader, on simulated clusters and on other servers."""

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import msgspec
import pytest
import requests
from structlog.testing import capture_logs

from peruserd.core.cluster.leases import Lease
from peruserd.core.cluster.stable_view import StableView
from peruserd.core.cluster.views import Feed
from peruserd.core.common.backoff import Backoff
from peruserd.core.common.secret import Secret
from peruserd.core.configuration.choices import FeedChoice
from peruserd.core.configuration.config import CouchDBConfig
from peruserd.core.processes.messages import Credentials
from peruserd.couch.client import Client
from peruserd.couch.cluster_database import ClusterDatabase, ForeignDatabaseError
from peruserd.couch.errors import (
    CouchError,
    ForbiddenError,
    NotFoundError,
    UnauthorizedError,
    UnexpectedAnswerError,
)
from peruserd.couch.session import Session, quoted
from peruserd.couch.tokens import Tokens, basic_token
from peruserd.simcluster import ClusterOptions, SimClusterThread
from peruserd.supervisor import attaching
from peruserd.supervisor import cluster_reader as cluster_reader_module
from peruserd.supervisor.attaching import Attaching, Attachment, HiddenNodesError, NoShardsError
from peruserd.supervisor.cluster_reader import ClusterReader
from peruserd.supervisor.membership import LeaseObserver, LeaseTracker, Member
from peruserd.supervisor.peruser_watch import PeruserWatch
from tests.couch.connecting import TalkingServer, answering, make_lease_database
from tests.proxies import Proxy, faithful

LEASES = "peruserd"


@pytest.fixture(autouse=True)
def _quick_to_be_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pause before the second request."""
    monkeypatch.setattr(attaching, "_SURE_SECONDS", 0.01)


@pytest.fixture(scope="module")
def cluster() -> Iterator[SimClusterThread]:
    """Run a cluster of three nodes."""
    with SimClusterThread(ClusterOptions(nodes=3, q=2, n=2)) as running:
        yield running


@pytest.fixture
def team() -> Iterator[SimClusterThread]:
    """Run a cluster of three nodes in which no lease was written yet."""
    with SimClusterThread(ClusterOptions(nodes=3, q=2, n=2)) as running:
        make_lease_database(client_of(running.urls[0]))
        yield running


class Clock:
    """A clock in place of the module `time`; it stands still until the test puts it forward."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def ticks(self, seconds: float) -> Iterator[float]:
        """Put the clock forward by so many seconds, a quarter of a second at a time."""
        for _ in range(round(seconds * 4)):
            self.now += 0.25
            yield self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let cluster readers use a clock that the test puts forward."""
    made = Clock()
    monkeypatch.setattr(cluster_reader_module, "time", made)
    return made


def readings_until_alone(reader: ClusterReader, clock: Clock) -> int:
    """Return the number of readings, a quarter of a second apart, until no instance is seen any more."""
    for number, _ in enumerate(clock.ticks(60.0)):
        if reader.read().instances == ():
            return number
    pytest.fail("somebody is seen for ever")


def member(incarnation: str = "me") -> Member:
    """Make an instance that has not read the leases yet."""
    return Member(incarnation=incarnation, replaces=None, ttl_seconds=3600.0, version="1.0")


def client_of(url: str) -> Client:
    """Make a client of a node, given its URL with credentials."""
    parts = urlsplit(url)
    couchdb = CouchDBConfig(url=f"http://{parts.hostname}:{parts.port}")
    credentials = Credentials(parts.username or "adm", Secret(parts.password or "pass"))
    return Client(Session(couchdb, Tokens(basic_token(credentials))))


def cluster_reader(
    url: str,
    feed: FeedChoice = FeedChoice.AUTO,
    password: str | None = None,
    observer: LeaseTracker | None = None,
    auth_db: str = "_users",
    peruser_watch: PeruserWatch | None = None,
) -> ClusterReader:
    """Make a reader on the server at `url`, which has credentials in it; for an instance of its own unless given."""
    parts = urlsplit(url)
    couchdb = CouchDBConfig(url=f"http://{parts.hostname}:{parts.port}", feed=feed, auth_db=auth_db)
    credentials = Credentials(parts.username or "adm", Secret(password or parts.password or "pass"))
    client = Client(Session(couchdb, Tokens(basic_token(credentials))))
    database = ClusterDatabase(client, LEASES, mend=True)
    return ClusterReader(client, couchdb, observer or member(), database, peruser_watch)


class _NoNode(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body, status = b'{"error":"not_found","reason":"missing"}', 404
        if self.path == "/":
            body, status = b'{"express-pouchdb":"Welcome!","version":"4.2.0"}', 200
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server_without_shards() -> Iterator[str]:
    """Run a server that says what it is, and answers every other request with 404."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _NoNode)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://adm:pass@127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_cluster_reader_attaches_to_the_node_that_answers(cluster: SimClusterThread) -> None:
    """With node `_local` the instance gets the name of the node at its URL."""
    assert [cluster_reader(url).attach().node for url in cluster.urls] == cluster.node_names


def test_a_view_has_the_nodes_connected_and_the_shard_map(cluster: SimClusterThread) -> None:
    """A view has the facts that the cluster reports."""
    view = cluster_reader(cluster.urls[1]).read()
    assert view.nodes == tuple(sorted(cluster.node_names))
    assert view.shard_map is not None
    assert view.shard_map.holes() == ()
    assert all(len(hosts) == 2 for hosts in view.shard_map.hosts.values())


def test_a_stopped_node_leaves_the_view_and_stays_in_the_shard_map(cluster: SimClusterThread) -> None:
    """The shard map names the hosts, and the membership says whether they are connected."""
    reader = cluster_reader(cluster.urls[0])
    before = reader.read()
    cluster.stop_node(3)
    try:
        view = reader.read()
    finally:
        cluster.start_node(3)
    assert view.nodes == tuple(sorted(cluster.node_names))[:2]
    assert view.away == (cluster.node_names[2],)
    assert view.shard_map == before.shard_map


def test_a_missing_authentication_database_is_a_view_without_a_map(cluster: SimClusterThread) -> None:
    """A missing authentication database is no error."""
    reader = cluster_reader(cluster.urls[0], auth_db="other_users")
    view = reader.read()
    assert view.shard_map is None
    assert reader.plan(view, view).assignments == ()


def test_only_nodes_with_a_lease_have_an_instance(team: SimClusterThread) -> None:
    """A connected node without a live instance must not own anything. The own instance counts as alive."""
    reader = cluster_reader(team.urls[0])
    client_of(team.urls[1]).put_lease(LEASES, Lease(team.node_names[1], "other", 1))
    view = reader.read()
    assert view.nodes == tuple(team.node_names)
    assert view.instances == tuple(team.node_names[:2])
    assert not view.standby


def test_a_lease_that_appears_later_is_a_newcomers_until_it_grows(team: SimClusterThread) -> None:
    """The view names newcomers, but does not count them as alive."""
    reader = cluster_reader(team.urls[0])
    client = client_of(team.urls[1])
    reader.read()
    for counter, seen in ((1, ((), team.node_names[1:2])), (2, (team.node_names[1:2], ()))):
        client.put_lease(LEASES, Lease(team.node_names[1], "other", counter))
        view = reader.read()
        assert (view.instances, view.newcomers) == ((team.node_names[0], *seen[0]), tuple(seen[1]))


def test_nobody_is_about_to_show_beside_a_node_that_is_away(team: SimClusterThread) -> None:
    """The instance of such a node acts on its own side of the cut, so nothing here waits for it."""
    reader = cluster_reader(team.urls[0])
    reader.read()
    client_of(team.urls[0]).put_lease(LEASES, Lease(team.node_names[2], "other", 1))
    assert reader.read().newcomers == (team.node_names[2],)
    team.stop_node(3)
    assert reader.read().newcomers == ()


def test_a_lease_whose_node_is_away_is_no_instance(team: SimClusterThread) -> None:
    """An instance beside a node that is cut off acts on its side of the cut, however fresh its lease is."""
    for name in team.node_names:
        client_of(team.urls[0]).put_lease(LEASES, Lease(name, name, 1))
    reader = cluster_reader(team.urls[0], observer=LeaseObserver(3600.0))
    assert reader.read().instances == tuple(team.node_names)
    team.stop_node(3)
    assert reader.read().instances == tuple(team.node_names[:2])
    team.start_node(3)
    assert reader.read().instances == tuple(team.node_names), "it was not forgotten"


def test_one_that_only_asks_is_no_instance(team: SimClusterThread) -> None:
    """A command beside a node does not make an instance of it."""
    client_of(team.urls[0]).put_lease(LEASES, Lease(team.node_names[2], "other", 1))
    assert cluster_reader(team.urls[0], observer=LeaseObserver(3600.0)).read().instances == (team.node_names[2],)


def test_a_second_instance_beside_a_node_stands_by(team: SimClusterThread) -> None:
    """The view says that it stands by, and its plan is empty until the first instance has gone."""
    first, second = member("first"), member("second")
    active, standing_by = (cluster_reader(team.urls[0], observer=each) for each in (first, second))
    client = client_of(team.urls[0])
    active.read()
    client.put_lease(LEASES, first.next_lease(team.node_names[0]))
    view = standing_by.read()
    assert (view.standby, view.instances) == (True, (team.node_names[0],))
    assert standing_by.plan(view, view).assignments == ()
    assert not active.read().standby
    client.put_lease(LEASES, first.next_lease(team.node_names[0], released=True))
    view = standing_by.read()
    assert (view.standby, view.instances) == (False, (team.node_names[0],))
    assert standing_by.plan(view, view).assignments


def test_while_the_database_of_leases_is_missing_nobody_is_taken_for_dead(team: SimClusterThread, clock: Clock) -> None:
    """The leases are deleted too. Live instances count as alive until leases can be read again."""
    client = client_of(team.urls[0])
    client.put_lease(LEASES, Lease(team.node_names[1], "other", 1))
    reader = cluster_reader(team.urls[0], observer=LeaseObserver(0.5))
    before = reader.read()
    assert before.leases_readable
    assert client.delete_database("_users")
    assert client.delete_database(LEASES)
    for _ in clock.ticks(1.5):
        view = reader.read()
        assert (view.shard_map, view.instances, view.leases_readable) == (None, before.instances, False)
    client.session.request("PUT", "/_users").expect(201)
    assert reader.read().leases_readable
    assert readings_until_alone(reader, clock) > 0, "the silence counts from here"


@pytest.mark.parametrize("fault", [500, "cut", 404, 405])
def test_while_leases_cannot_be_read_nobody_is_taken_for_dead(
    team: SimClusterThread, clock: Clock, fault: int | str
) -> None:
    """The view says that leases are not readable, so that nothing irreversible is done."""
    client_of(team.urls[0]).put_lease(LEASES, Lease(team.node_names[1], "other", 1))
    reader = cluster_reader(team.urls[0], observer=LeaseObserver(0.5))
    before = reader.read()
    team.fail(1, fault, path_regex="_local_docs")
    for _ in clock.ticks(1.5):
        view = reader.read()
        assert (view.instances, view.leases_readable) == (before.instances, False)
    team.clear_faults()
    assert readings_until_alone(reader, clock) > 0, "the silence counts from here"


@pytest.mark.parametrize("status", [404, 405])
def test_an_instance_that_never_read_the_leases_does_not_take_itself_for_the_only_one(
    team: SimClusterThread, status: int
) -> None:
    """A proxy's answer shows no instance. Expected instances are still awaited."""
    client_of(team.urls[0]).put_lease(LEASES, Lease(team.node_names[1], "other", 1))
    team.fail(1, status, path_regex="_local_docs")
    me = member("me")
    reader = cluster_reader(team.urls[0], observer=me)
    stable_view = StableView(quiet_seconds=1.0, newcomer_seconds=1.0)
    for now in range(0, 1000, 100):
        stable_view = stable_view.observe(reader.read(), float(now)).advance(float(now))
        assert not stable_view.certain
    assert not me.has_read_leases
    team.clear_faults()
    assert team.node_names[1] in reader.read().instances


def test_while_the_node_does_not_answer_nobody_is_taken_for_dead(team: SimClusterThread, clock: Clock) -> None:
    """The time of failed readings does not count as silence either."""
    client_of(team.urls[0]).put_lease(LEASES, Lease(team.node_names[1], "other", 1))
    reader = cluster_reader(team.urls[0], observer=LeaseObserver(1.0))
    before = reader.read()
    team.fail(1, 503, path_regex="_membership")
    for _ in clock.ticks(2.0):
        with pytest.raises(CouchError):
            reader.read()
    team.clear_faults()
    assert reader.read().instances == before.instances


def test_a_database_of_leases_that_is_somebody_elses_ends_the_preparation(team: SimClusterThread) -> None:
    """An operator has to choose another name. No document there counts as a lease."""
    client = client_of(team.urls[0])
    assert client.delete_database(LEASES)
    client.session.request("PUT", f"/{LEASES}").expect(201)
    client.session.request("PUT", f"/{LEASES}/recipe", body={}).expect(201)
    client.put_lease(LEASES, Lease(team.node_names[1], "other", 1))
    reader = cluster_reader(team.urls[0])
    with pytest.raises(ForeignDatabaseError, match=r"cluster\.database"):
        reader.prepare()
    view = reader.read()
    assert (view.instances, view.leases_readable) == ((team.node_names[0],), False)


def test_leases_in_an_authentication_database_open_to_all_are_nobodys_word(team: SimClusterThread) -> None:
    """Any user can write local documents into the authentication database, so leases are elsewhere."""
    team_url = team.urls[0].replace("adm:pass@", "")
    team.open_users()
    for node in team.node_names:
        for counter in (1, 2, 3):
            path = f"/_users/_local/peruserd.active.{node}"
            lie = msgspec.json.encode(Lease(node, f"lie-{node}", counter))
            assert requests.put(team_url + path, data=lie, timeout=10).status_code == 201
    reader = cluster_reader(team.urls[0])
    for _ in range(2):
        view = reader.read()
        assert (view.instances, view.standby, view.newcomers) == ((team.node_names[0],), False, ())


@pytest.mark.parametrize("auth", [None, ("mallory", "m")], ids=["anonymous", "a-user"])
def test_only_server_admins_can_write_leases(team: SimClusterThread, auth: tuple[str, str] | None) -> None:
    """Neither anonymous clients nor users can read, write or delete a local document there."""
    team.add_user("mallory", "m")
    client_of(team.urls[0]).put_lease(LEASES, Lease(team.node_names[1], "other", 1))
    url = team.urls[0].replace("adm:pass@", "") + f"/{LEASES}"
    document = f"{url}/_local/peruserd.active.{team.node_names[1]}"
    for method, path in (("PUT", document), ("DELETE", document), ("GET", document), ("GET", f"{url}/_local_docs")):
        answer = requests.request(method, path, json={}, auth=auth, timeout=10)
        assert answer.status_code == (401 if auth is None else 403)


def test_what_is_coming_is_planned_by_the_view_seen_last(team: SimClusterThread) -> None:
    """The plan uses both views. If another instance is about to come, its documents are to be left alone."""
    reader = cluster_reader(team.urls[0])
    settled = reader.read()
    settled_plan = reader.plan(settled, settled)
    seen = msgspec.structs.replace(settled, instances=tuple(team.node_names[:2]))
    warned = reader.plan(settled, seen)
    assert warned.without_upcoming == settled_plan.without_upcoming
    assert any(each.upcoming is not None for each in warned.assignments)


def test_a_server_without_shards_is_read_by_its_own_feed(server_without_shards: str) -> None:
    """Without `/_node/_local` one listener follows the whole database."""
    reader = cluster_reader(server_without_shards)
    assert reader.attach().feed is Feed.DATABASE
    view = reader.read()
    (assignment,) = reader.plan(view, view).assignments
    assert assignment.copy.feed is Feed.DATABASE
    assert assignment.ownership.owner("org.couchdb.user:alice") == "_local"


def test_shards_that_are_asked_for_and_missing_are_an_error_for_the_operator(server_without_shards: str) -> None:
    """`feed = "shard"` on such a server says what to change."""
    with pytest.raises(NoShardsError, match=r"couchdb\.feed"):
        cluster_reader(server_without_shards, FeedChoice.SHARD).attach()


@pytest.mark.parametrize("feed", [FeedChoice.AUTO, FeedChoice.SHARD])
def test_a_proxy_without_a_server_is_no_server_without_shards(team: SimClusterThread, feed: FeedChoice) -> None:
    """A proxy answers every path with 404 for a while. The instance waits, and does not own everything meanwhile."""
    team.fail(1, 404)
    reader = cluster_reader(team.urls[0], feed)
    with pytest.raises(NotFoundError):
        reader.attach()
    team.clear_faults()
    assert reader.attach().feed is Feed.SHARD


NODE_PAGES = "^/_node/"
NODE_NAME = ("GET", "/_node/_local")


@pytest.mark.parametrize("status", [400, 404, 405, 501])
@pytest.mark.parametrize("version", ["1.7.2", "2.3.1", "Couchbase Sync Gateway/3.1"])
def test_a_server_that_does_not_know_the_pages_of_nodes_has_no_shards(status: int, version: str) -> None:
    """CouchDB 1.x and 2.x answer 400. If the configuration asks for shards, it has to be changed."""
    pages = {NODE_NAME: (status, {"error": "e"}), ("GET", "/"): (200, {"couchdb": "Welcome", "version": version})}
    with TalkingServer(answering(pages)) as server:
        assert cluster_reader(server.url).attach() == Attachment("_local", Feed.DATABASE)
        with pytest.raises(NoShardsError, match=r"couchdb\.feed"):
            cluster_reader(server.url, FeedChoice.SHARD).attach()


@pytest.mark.parametrize("status", [400, 404, 405, 501])
def test_a_proxy_that_hides_the_pages_of_nodes_is_no_server_without_shards(team: SimClusterThread, status: int) -> None:
    """CouchDB 3 has them. Users are served; if the configuration asks for shards, the instance waits for them."""
    team.fail(1, status, path_regex=NODE_PAGES)
    assert cluster_reader(team.urls[0]).attach() == Attachment("_local", Feed.DATABASE)
    reader = cluster_reader(team.urls[0], FeedChoice.SHARD)
    with pytest.raises(HiddenNodesError, match=r"hides that page.*couchdb\.feed"):
        reader.attach()
    team.clear_faults()
    assert reader.attach().feed is Feed.SHARD


@pytest.mark.parametrize("feed", [FeedChoice.AUTO, FeedChoice.SHARD])
def test_a_page_for_everything_is_no_server_without_shards(feed: FeedChoice) -> None:
    """A proxy has such a page while its server is away. The instance waits for a server that says what it is."""
    with (
        TalkingServer(answering({("GET", "/"): (200, {"status": "starting"})})) as server,
        pytest.raises(UnexpectedAnswerError, match="what server this is"),
    ):
        cluster_reader(server.url, feed).attach()


@pytest.mark.parametrize("status", [400, 403, 404, 405, 501])
def test_one_answer_of_a_proxy_that_starts_decides_nothing(team: SimClusterThread, status: int) -> None:
    """An answer that would decide for the database's feed must come twice."""
    team.fail(1, status, path_regex=NODE_PAGES, count=1)
    assert cluster_reader(team.urls[0]).attach() == Attachment(team.node_names[0], Feed.SHARD)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_an_answer_of_the_moment_decides_nothing(team: SimClusterThread, status: int) -> None:
    """Such a failure says nothing about shards, however often it comes."""
    team.fail(1, status, path_regex=NODE_PAGES)
    reader = cluster_reader(team.urls[0])
    for _ in range(2):
        with pytest.raises(CouchError):
            reader.read()
    team.clear_faults()
    assert reader.read().shard_map is not None


@pytest.mark.parametrize("status", [400, 403, 404])
def test_shards_are_followed_as_soon_as_their_pages_open(
    team: SimClusterThread, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a proxy is set up in two steps the daemon needs no restart, because it asks again and again."""
    monkeypatch.setattr(attaching, "_ASKING_AGAIN", Backoff(initial_seconds=0.01, max_seconds=0.02))
    team.fail(1, status, path_regex=NODE_PAGES)
    reader = cluster_reader(team.urls[0])
    for _ in range(3):
        assert reader.read().shard_map is None
        time.sleep(0.03)
    assert reader.shard_node() is None
    team.clear_faults()
    view = reader.read()
    assert reader.attach() == Attachment(team.node_names[0], Feed.SHARD)
    assert reader.shard_node() == team.node_names[0]
    assert {each.copy.feed for each in reader.plan(view, view).assignments} == {Feed.SHARD}


def test_a_server_without_shards_is_asked_for_them_more_and_more_seldom(team: SimClusterThread) -> None:
    """Otherwise a reading of such a server costs no request."""
    team.fail(1, 403, path_regex=NODE_PAGES)
    client = client_of(team.urls[0])
    made = Attaching(client, CouchDBConfig(url=team.urls[0]))
    made.attach()
    team.clear_requests()
    for second in range(1000, 1600):
        made.review(float(second))
    asked = team.requests()[team.node_names[0], "GET", "node"]
    assert 12 <= asked <= 16, asked


def test_a_node_that_was_renamed_is_asked_for_its_name() -> None:
    """A node without a name at first may get one later. No request to its old name would work."""
    pages: dict[tuple[str, str], tuple[int, object]] = {}

    def name(known_as: str) -> None:
        pages[NODE_NAME] = (200, {"name": known_as})
        pages["GET", "/_membership"] = (200, {"all_nodes": [known_as], "cluster_nodes": [known_as]})
        pages["GET", f"/_node/{quoted(known_as)}/_dbs/_users"] = (200, {"by_node": {known_as: ["00000000-ffffffff"]}})

    with TalkingServer(answering(pages)) as server:
        reader = cluster_reader(server.url)
        for known_as in ("nonode@nohost", "couchdb@10.0.0.1", "couchdb@10.0.0.2"):
            name(known_as)
            view = reader.read()
            assert view.nodes == view.instances == (known_as,)
            assert reader.shard_node() == known_as
            (assignment,) = reader.plan(view, view).assignments
            assert assignment.copy.node == known_as
        asked = [each.path for each in server.requests].count("/_node/_local")
        reader.read()
        assert [each.path for each in server.requests].count("/_node/_local") == asked == 3


def test_a_proxy_that_lets_at_databases_alone_is_a_server_without_shards(team: SimClusterThread) -> None:
    """The proxy forbids `/` as well as `/_node`. The log warns that instances cannot know of each other."""
    team.fail(1, 403, path_regex=r"^/(_(?!users\b).*)?$")
    with capture_logs() as logged:
        reader = cluster_reader(team.urls[0])
        assert reader.attach() == Attachment("_local", Feed.DATABASE)
    assert [line["log_level"] for line in logged if "one instance" in line.get("advice", "")] == ["warning"]
    view = reader.read()
    assert [each.copy.feed for each in reader.plan(view, view).assignments] == [Feed.DATABASE]


def _proxy_page(status: int) -> Callable[[str], int | bytes]:
    return lambda _path: b"<html>hello</html>" if status == 200 else status


@pytest.mark.parametrize(
    ("pages", "status"),
    [
        *(("/_node/", status) for status in (200, 302, 401, 403)),
        *((f"/_node/node1%40127.0.0.1{page}", status) for page in ("", "/_dbs") for status in (401, 403)),
        *(("/_membership", status) for status in (401, 403)),
    ],
)
def test_a_proxy_that_keeps_a_page_that_shards_need_makes_a_server_without_shards(
    team: SimClusterThread, pages: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users are served for any answer of the proxy. Shards are followed once all these pages are open."""
    monkeypatch.setattr(attaching, "_ASKING_AGAIN", Backoff(initial_seconds=0.01, max_seconds=0.02))
    own = _proxy_page(status)
    with Proxy(team.urls[0], lambda path: own(path) if path.startswith(pages) else path) as proxy:
        reader = cluster_reader(proxy.url)
        for _ in range(3):
            assert reader.read().shard_map is None
            time.sleep(0.03)
        proxy.rewriting = faithful
        reader.read()
        assert reader.attach() == Attachment(team.node_names[0], Feed.SHARD)


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_proxy_that_lets_at_nothing_is_waited_for(team: SimClusterThread, status: int) -> None:
    """The proxy may open everything in a moment, and an instance attaches only once."""
    team.fail(1, status)
    reader = cluster_reader(team.urls[0])
    with pytest.raises(CouchError):
        reader.attach()
    team.clear_faults()
    assert reader.attach() == Attachment(team.node_names[0], Feed.SHARD)


def test_an_account_that_is_no_server_admin_is_no_proxy(team: SimClusterThread) -> None:
    """CouchDB answers 401 for the pages of nodes to such an account, and serving users would fail too."""
    team.fail(1, 401, path_regex=NODE_PAGES)
    with pytest.raises(UnauthorizedError):
        cluster_reader(team.urls[0]).attach()


def test_shards_that_are_asked_for_and_forbidden_are_waited_for(team: SimClusterThread) -> None:
    """Either the proxy or the configuration can be changed, so the error names both."""
    team.fail(1, 403, path_regex=NODE_PAGES)
    reader = cluster_reader(team.urls[0], FeedChoice.SHARD)
    with pytest.raises(ForbiddenError, match=r"/_node.*couchdb\.feed"):
        reader.attach()
    team.clear_faults()
    assert reader.attach().feed is Feed.SHARD


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_the_database_feed_needs_no_page_of_a_node(team: SimClusterThread, status: int) -> None:
    """`feed = "database"` is obeyed behind a proxy without these pages, and no request checks that."""
    team.fail(1, status)
    team.clear_requests()
    reader = cluster_reader(team.urls[0], FeedChoice.DATABASE)
    for _ in range(3):
        view = reader.read()
    assert reader.attach() == Attachment("_local", Feed.DATABASE)
    assert [each.copy.feed for each in reader.plan(view, view).assignments] == [Feed.DATABASE]
    assert not team.requests()


def test_the_database_feed_can_be_asked_for_on_a_cluster(cluster: SimClusterThread) -> None:
    """`feed = "database"` is obeyed on a server with shards, and stays."""
    reader = cluster_reader(cluster.urls[0], FeedChoice.DATABASE)
    for _ in range(3):
        assert reader.read().shard_map is None
    assert reader.attach().feed is Feed.DATABASE


def test_refused_credentials_are_told_apart(cluster: SimClusterThread) -> None:
    """A wrong password has another error than a server that is away."""
    with pytest.raises(UnauthorizedError):
        cluster_reader(cluster.urls[0], password="wrong").attach()


def test_a_look_finds_couch_peruser_on_the_own_node(team: SimClusterThread) -> None:
    """The first reading logs it. If the node does not answer this request, the reading succeeds all the same."""
    client = client_of(team.urls[0])
    own = f"/_node/{team.node_names[0]}/_config/couch_peruser/enable"
    client.session.request("PUT", own, body="true").expect(200)
    peruser_watch = PeruserWatch(client)
    reader = cluster_reader(team.urls[0], peruser_watch=peruser_watch)
    with capture_logs() as logged:
        for _ in range(3):
            reader.read()
    assert peruser_watch.is_on
    warnings = [line for line in logged if line["log_level"] == "warning"]
    assert [(line["event"], line["node"]) for line in warnings] == [
        ("couch_peruser is on beside this instance", team.node_names[0])
    ]
    team.fail(1, 403, path_regex="_config")
    hidden = PeruserWatch(client)
    assert cluster_reader(team.urls[0], peruser_watch=hidden).read().nodes == tuple(team.node_names)
    assert hidden.is_on is None


def test_no_second_writer_is_looked_for_where_there_are_no_shards(team: SimClusterThread) -> None:
    """Such a server has no couch_peruser, and its node's name may be a placeholder."""
    peruser_watch = PeruserWatch(client_of(team.urls[0]))
    team.clear_requests()
    cluster_reader(team.urls[0], FeedChoice.DATABASE, peruser_watch=peruser_watch).read()
    assert peruser_watch.is_on is None
    assert "config" not in {kind for _, _, kind in team.requests()}
