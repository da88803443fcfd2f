"""The watcher and the cluster reader, on simulated clusters and on servers that are no cluster."""

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
from peruserd.core.cluster.views import Feed, View
from peruserd.core.common.backoff import Backoff
from peruserd.core.common.secret import Secret
from peruserd.core.configuration.config import CouchDBConfig, FeedChoice
from peruserd.core.processes.messages import Credentials
from peruserd.couch.client import Client
from peruserd.couch.cluster_database import ClusterDatabase, ForeignDatabaseError
from peruserd.couch.errors import (
    CouchError,
    ForbiddenError,
    NotFoundError,
    RefusedError,
    RejectedError,
    UnauthorizedError,
    UnexpectedAnswerError,
    UnreachableError,
)
from peruserd.couch.session import Session, quoted
from peruserd.couch.tokens import Tokens, basic_token
from peruserd.simcluster import ClusterOptions, SimClusterThread
from peruserd.supervisor import attaching, pausing, watcher
from peruserd.supervisor.attaching import Attaching, Attachment, HiddenNodesError, NoShardsError
from peruserd.supervisor.membership import LeaseObserver, Member
from peruserd.supervisor.second_writer import SecondWriter
from peruserd.supervisor.watcher import ClusterReader, Watcher
from tests.couch.connecting import TalkingServer, answering, make_lease_database
from tests.proxies import Proxy, faithful
from tests.waiting import PATIENCE_SECONDS, eventually, eventually_at_least

LEASES = "peruserd"


@pytest.fixture(autouse=True)
def _quick_to_be_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask at once for a second time for what is asked for twice."""
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
    """A clock for lookouts in place of the module `time`: it stands still unless it is put forward."""

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
    """Let lookouts go by a clock that the test puts forward."""
    made = Clock()
    monkeypatch.setattr(watcher, "time", made)
    return made


def looks_until_alone(eye: ClusterReader, clock: Clock) -> int:
    """Return how many looks, a quarter of a second apart, it takes until nobody is seen any more."""
    for number, _ in enumerate(clock.ticks(60.0)):
        if eye.look().instances == ():
            return number
    pytest.fail("somebody is seen for ever")


def member(incarnation: str = "me") -> Member:
    """Make an instance that has not looked round yet."""
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
    observer: LeaseObserver | None = None,
    auth_db: str = "_users",
    second_writer: SecondWriter | None = None,
) -> ClusterReader:
    """Make a reader on the server at `url`, which has credentials in it; for an instance of its own unless given."""
    parts = urlsplit(url)
    couchdb = CouchDBConfig(url=f"http://{parts.hostname}:{parts.port}", feed=feed, auth_db=auth_db)
    credentials = Credentials(parts.username or "adm", Secret(password or parts.password or "pass"))
    client = Client(Session(couchdb, Tokens(basic_token(credentials))))
    database = ClusterDatabase(client, LEASES, mend=True)
    return ClusterReader(client, couchdb, observer or member(), database, second_writer)


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
    """Run a server that says what it is, and answers every other question with 404."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _NoNode)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://adm:pass@127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_lookout_attaches_to_the_node_that_answers(cluster: SimClusterThread) -> None:
    """With node `_local` the instance bears the name of the node at its URL."""
    assert [cluster_reader(url).attach().node for url in cluster.urls] == cluster.node_names


def test_a_view_has_the_nodes_connected_and_the_shard_map(cluster: SimClusterThread) -> None:
    """A look shows what the cluster says of itself."""
    view = cluster_reader(cluster.urls[1]).look()
    assert view.nodes == tuple(sorted(cluster.node_names))
    assert view.shard_map is not None
    assert view.shard_map.holes() == ()
    assert all(len(hosts) == 2 for hosts in view.shard_map.hosts.values())


def test_a_stopped_node_leaves_the_view_and_stays_in_the_shard_map(cluster: SimClusterThread) -> None:
    """Hosts are what the shard map says; whether they live is what membership says."""
    eye = cluster_reader(cluster.urls[0])
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
    eye = cluster_reader(cluster.urls[0], auth_db="other_users")
    view = eye.look()
    assert view.shard_map is None
    assert eye.plan(view, view).assignments == ()


def test_only_nodes_with_a_lease_have_an_instance(team: SimClusterThread) -> None:
    """A connected node whose peruserd is dead or was never there must not own anything; the own one is there."""
    eye = cluster_reader(team.urls[0])
    client_of(team.urls[1]).put_lease(LEASES, Lease(team.node_names[1], "other", 1))
    view = eye.look()
    assert view.nodes == tuple(team.node_names)
    assert view.instances == tuple(team.node_names[:2])
    assert not view.standby


def test_a_lease_that_appears_later_is_a_newcomers_until_it_grows(team: SimClusterThread) -> None:
    """The view says who is about to show, which is no reason to believe in anybody."""
    eye = cluster_reader(team.urls[0])
    client = client_of(team.urls[1])
    eye.look()
    for counter, seen in ((1, ((), team.node_names[1:2])), (2, (team.node_names[1:2], ()))):
        client.put_lease(LEASES, Lease(team.node_names[1], "other", counter))
        view = eye.look()
        assert (view.instances, view.newcomers) == ((team.node_names[0], *seen[0]), tuple(seen[1]))


def test_nobody_is_about_to_show_beside_a_node_that_is_away(team: SimClusterThread) -> None:
    """Its instance acts on its side of the cut, so its documents need not wait for it."""
    eye = cluster_reader(team.urls[0])
    eye.look()
    client_of(team.urls[0]).put_lease(LEASES, Lease(team.node_names[2], "other", 1))
    assert eye.look().newcomers == (team.node_names[2],)
    team.stop_node(3)
    assert eye.look().newcomers == ()


def test_a_lease_whose_node_is_away_is_no_instance(team: SimClusterThread) -> None:
    """An instance beside a node that is cut off acts on its side of the cut, however fresh its lease is."""
    for name in team.node_names:
        client_of(team.urls[0]).put_lease(LEASES, Lease(name, name, 1))
    eye = cluster_reader(team.urls[0], observer=LeaseObserver(3600.0))
    assert eye.look().instances == tuple(team.node_names)
    team.stop_node(3)
    assert eye.look().instances == tuple(team.node_names[:2])
    team.start_node(3)
    assert eye.look().instances == tuple(team.node_names), "it was not forgotten"


def test_one_that_only_asks_is_no_instance(team: SimClusterThread) -> None:
    """A command beside a node does not make an instance of it."""
    client_of(team.urls[0]).put_lease(LEASES, Lease(team.node_names[2], "other", 1))
    assert cluster_reader(team.urls[0], observer=LeaseObserver(3600.0)).look().instances == (team.node_names[2],)


def test_a_second_instance_beside_a_node_stands_by(team: SimClusterThread) -> None:
    """The view says so, and its plan is empty until the first one has gone."""
    first, second = member("first"), member("second")
    active, standing_by = (cluster_reader(team.urls[0], observer=each) for each in (first, second))
    client = client_of(team.urls[0])
    active.look()
    client.put_lease(LEASES, first.sign(team.node_names[0]))
    view = standing_by.look()
    assert (view.standby, view.instances) == (True, (team.node_names[0],))
    assert standing_by.plan(view, view).assignments == ()
    assert not active.look().standby
    client.put_lease(LEASES, first.sign(team.node_names[0], released=True))
    view = standing_by.look()
    assert (view.standby, view.instances) == (False, (team.node_names[0],))
    assert standing_by.plan(view, view).assignments


def test_while_the_database_of_leases_is_missing_nobody_is_taken_for_dead(team: SimClusterThread, clock: Clock) -> None:
    """Leases go with it; the instances that were alive are alive until leases can be read again."""
    client = client_of(team.urls[0])
    client.put_lease(LEASES, Lease(team.node_names[1], "other", 1))
    eye = cluster_reader(team.urls[0], observer=LeaseObserver(0.5))
    before = eye.look()
    assert before.leases_readable
    assert client.delete_database("_users")
    assert client.delete_database(LEASES)
    for _ in clock.ticks(1.5):
        view = eye.look()
        assert (view.shard_map, view.instances, view.leases_readable) == (None, before.instances, False)
    client.session.request("PUT", "/_users").expect(201)
    assert eye.look().leases_readable
    assert looks_until_alone(eye, clock) > 0, "the silence counts from here"


@pytest.mark.parametrize("fault", [500, "cut", 404, 405])
def test_while_leases_cannot_be_read_nobody_is_taken_for_dead(
    team: SimClusterThread, clock: Clock, fault: int | str
) -> None:
    """The view says that silence says nothing, for those who would do what cannot be undone."""
    client_of(team.urls[0]).put_lease(LEASES, Lease(team.node_names[1], "other", 1))
    eye = cluster_reader(team.urls[0], observer=LeaseObserver(0.5))
    before = eye.look()
    team.fail(1, fault, path_regex="_local_docs")
    for _ in clock.ticks(1.5):
        view = eye.look()
        assert (view.instances, view.leases_readable) == (before.instances, False)
    team.clear_faults()
    assert looks_until_alone(eye, clock) > 0, "the silence counts from here"


@pytest.mark.parametrize("status", [404, 405])
def test_an_instance_that_never_read_the_leases_does_not_take_itself_for_the_only_one(
    team: SimClusterThread, status: int
) -> None:
    """A proxy's answer for a page that every node has shows nobody; whoever can be there is awaited still."""
    client_of(team.urls[0]).put_lease(LEASES, Lease(team.node_names[1], "other", 1))
    team.fail(1, status, path_regex="_local_docs")
    me = member("me")
    eye = cluster_reader(team.urls[0], observer=me)
    stable_view = StableView(quiet_seconds=1.0, newcomer_seconds=1.0)
    for now in range(0, 1000, 100):
        stable_view = stable_view.see(eye.look(), float(now)).advance(float(now))
        assert not stable_view.certain
    assert not me.has_looked
    team.clear_faults()
    assert team.node_names[1] in eye.look().instances


def test_while_the_node_does_not_answer_nobody_is_taken_for_dead(team: SimClusterThread, clock: Clock) -> None:
    """The time in which nothing was seen at all does not count as silence either."""
    client_of(team.urls[0]).put_lease(LEASES, Lease(team.node_names[1], "other", 1))
    eye = cluster_reader(team.urls[0], observer=LeaseObserver(1.0))
    before = eye.look()
    team.fail(1, 503, path_regex="_membership")
    for _ in clock.ticks(2.0):
        with pytest.raises(CouchError):
            eye.look()
    team.clear_faults()
    assert eye.look().instances == before.instances


def test_a_database_of_leases_that_is_somebody_elses_ends_the_preparation(team: SimClusterThread) -> None:
    """A person has to choose another name; nothing of it is read as a lease."""
    client = client_of(team.urls[0])
    assert client.delete_database(LEASES)
    client.session.request("PUT", f"/{LEASES}").expect(201)
    client.session.request("PUT", f"/{LEASES}/recipe", body={}).expect(201)
    client.put_lease(LEASES, Lease(team.node_names[1], "other", 1))
    eye = cluster_reader(team.urls[0])
    with pytest.raises(ForeignDatabaseError, match=r"cluster\.database"):
        eye.prepare()
    view = eye.look()
    assert (view.instances, view.leases_readable) == ((team.node_names[0],), False)


def test_leases_in_an_authentication_database_open_to_all_are_nobodys_word(team: SimClusterThread) -> None:
    """Anybody can write local documents there; the instance looks for its fellows elsewhere."""
    team_url = team.urls[0].replace("adm:pass@", "")
    team.open_users()
    for node in team.node_names:
        for counter in (1, 2, 3):
            path = f"/_users/_local/peruserd.active.{node}"
            lie = msgspec.json.encode(Lease(node, f"lie-{node}", counter))
            assert requests.put(team_url + path, data=lie, timeout=10).status_code == 201
    eye = cluster_reader(team.urls[0])
    for _ in range(2):
        view = eye.look()
        assert (view.instances, view.standby, view.newcomers) == ((team.node_names[0],), False, ())


@pytest.mark.parametrize("auth", [None, ("mallory", "m")], ids=["anonymous", "a-user"])
def test_only_server_admins_can_write_leases(team: SimClusterThread, auth: tuple[str, str] | None) -> None:
    """Neither anybody nor somebody with an account can read, write or delete a local document there."""
    team.add_user("mallory", "m")
    client_of(team.urls[0]).put_lease(LEASES, Lease(team.node_names[1], "other", 1))
    url = team.urls[0].replace("adm:pass@", "") + f"/{LEASES}"
    document = f"{url}/_local/peruserd.active.{team.node_names[1]}"
    for method, path in (("PUT", document), ("DELETE", document), ("GET", document), ("GET", f"{url}/_local_docs")):
        answer = requests.request(method, path, json={}, auth=auth, timeout=10)
        assert answer.status_code == (401 if auth is None else 403)


def test_what_is_coming_is_planned_by_the_view_seen_last(team: SimClusterThread) -> None:
    """A plan is made by both views: with another instance to come, its documents are named to be left alone."""
    eye = cluster_reader(team.urls[0])
    settled = eye.look()
    settled_plan = eye.plan(settled, settled)
    seen = msgspec.structs.replace(settled, instances=tuple(team.node_names[:2]))
    warned = eye.plan(settled, seen)
    assert warned.in_force == settled_plan.in_force
    assert any(each.upcoming is not None for each in warned.assignments)


def test_a_server_without_shards_is_read_by_its_own_feed(server_without_shards: str) -> None:
    """Where `/_node/_local` is missing, one listener follows the whole database."""
    eye = cluster_reader(server_without_shards)
    assert eye.attach().feed is Feed.DATABASE
    view = eye.look()
    (assignment,) = eye.plan(view, view).assignments
    assert assignment.copy.feed is Feed.DATABASE
    assert assignment.ownership.owner("org.couchdb.user:alice") == "_local"


def test_shards_that_are_asked_for_and_missing_are_an_error_for_the_operator(server_without_shards: str) -> None:
    """`feed = "shard"` on such a server says what to change."""
    with pytest.raises(NoShardsError, match=r"couchdb\.feed"):
        cluster_reader(server_without_shards, FeedChoice.SHARD).attach()


@pytest.mark.parametrize("feed", [FeedChoice.AUTO, FeedChoice.SHARD])
def test_a_proxy_without_a_server_is_no_server_without_shards(team: SimClusterThread, feed: FeedChoice) -> None:
    """It answers every path with 404 for a while: the instance waits, and does not take everything for its own."""
    team.fail(1, 404)
    eye = cluster_reader(team.urls[0], feed)
    with pytest.raises(NotFoundError):
        eye.attach()
    team.clear_faults()
    assert eye.attach().feed is Feed.SHARD


NODE_PAGES = "^/_node/"
NODE_NAME = ("GET", "/_node/_local")


@pytest.mark.parametrize("status", [400, 404, 405, 501])
@pytest.mark.parametrize("version", ["1.7.2", "2.3.1", "Couchbase Sync Gateway/3.1"])
def test_a_server_that_does_not_know_the_pages_of_nodes_has_no_shards(status: int, version: str) -> None:
    """CouchDB 1.x and 2.x answer 400; where shards are asked for, another configuration is needed."""
    pages = {NODE_NAME: (status, {"error": "e"}), ("GET", "/"): (200, {"couchdb": "Welcome", "version": version})}
    with TalkingServer(answering(pages)) as server:
        assert cluster_reader(server.url).attach() == Attachment("_local", Feed.DATABASE)
        with pytest.raises(NoShardsError, match=r"couchdb\.feed"):
            cluster_reader(server.url, FeedChoice.SHARD).attach()


@pytest.mark.parametrize("status", [400, 404, 405, 501])
def test_a_proxy_that_hides_the_pages_of_nodes_is_no_server_without_shards(team: SimClusterThread, status: int) -> None:
    """CouchDB 3 has them. Users are served; where shards are asked for, they are waited for, and nobody gives up."""
    team.fail(1, status, path_regex=NODE_PAGES)
    assert cluster_reader(team.urls[0]).attach() == Attachment("_local", Feed.DATABASE)
    eye = cluster_reader(team.urls[0], FeedChoice.SHARD)
    with pytest.raises(HiddenNodesError, match=r"hides that page.*couchdb\.feed"):
        eye.attach()
    team.clear_faults()
    assert eye.attach().feed is Feed.SHARD


@pytest.mark.parametrize("feed", [FeedChoice.AUTO, FeedChoice.SHARD])
def test_a_page_for_everything_is_no_server_without_shards(feed: FeedChoice) -> None:
    """A proxy has it while its server is not there; the instance waits for one that says what it is."""
    with (
        TalkingServer(answering({("GET", "/"): (200, {"status": "starting"})})) as server,
        pytest.raises(UnexpectedAnswerError, match="what server this is"),
    ):
        cluster_reader(server.url, feed).attach()


@pytest.mark.parametrize("status", [400, 403, 404, 405, 501])
def test_one_answer_of_a_proxy_that_starts_decides_nothing(team: SimClusterThread, status: int) -> None:
    """What would decide for the database's feed is asked for twice."""
    team.fail(1, status, path_regex=NODE_PAGES, count=1)
    assert cluster_reader(team.urls[0]).attach() == Attachment(team.node_names[0], Feed.SHARD)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_an_answer_of_the_moment_decides_nothing(team: SimClusterThread, status: int) -> None:
    """It says nothing of shards, however often it comes."""
    team.fail(1, status, path_regex=NODE_PAGES)
    eye = cluster_reader(team.urls[0])
    for _ in range(2):
        with pytest.raises(CouchError):
            eye.look()
    team.clear_faults()
    assert eye.look().shard_map is not None


@pytest.mark.parametrize("status", [400, 403, 404])
def test_shards_are_followed_as_soon_as_their_pages_open(
    team: SimClusterThread, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that was set up in two steps needs no restart of the daemon, which looks again and again."""
    monkeypatch.setattr(attaching, "_ASKING_AGAIN", Backoff(initial_seconds=0.01, max_seconds=0.02))
    team.fail(1, status, path_regex=NODE_PAGES)
    eye = cluster_reader(team.urls[0])
    for _ in range(3):
        assert eye.look().shard_map is None
        time.sleep(0.03)
    assert eye.shard_node() is None
    team.clear_faults()
    view = eye.look()
    assert eye.attach() == Attachment(team.node_names[0], Feed.SHARD)
    assert eye.shard_node() == team.node_names[0]
    assert {each.copy.feed for each in eye.plan(view, view).assignments} == {Feed.SHARD}


def test_a_server_without_shards_is_asked_for_them_more_and_more_seldom(team: SimClusterThread) -> None:
    """Looks at such a server are free otherwise."""
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
    """A node that had no name at first bears one later; the old one is nobody's, so nothing could be asked of it."""
    pages: dict[tuple[str, str], tuple[int, object]] = {}

    def name(known_as: str) -> None:
        pages[NODE_NAME] = (200, {"name": known_as})
        pages["GET", "/_membership"] = (200, {"all_nodes": [known_as], "cluster_nodes": [known_as]})
        pages["GET", f"/_node/{quoted(known_as)}/_dbs/_users"] = (200, {"by_node": {known_as: ["00000000-ffffffff"]}})

    with TalkingServer(answering(pages)) as server:
        eye = cluster_reader(server.url)
        for known_as in ("nonode@nohost", "couchdb@10.0.0.1", "couchdb@10.0.0.2"):
            name(known_as)
            view = eye.look()
            assert view.nodes == view.instances == (known_as,)
            assert eye.shard_node() == known_as
            (assignment,) = eye.plan(view, view).assignments
            assert assignment.copy.node == known_as
        asked = [each.path for each in server.requests].count("/_node/_local")
        eye.look()
        assert [each.path for each in server.requests].count("/_node/_local") == asked == 3


def test_a_proxy_that_lets_at_databases_alone_is_a_server_without_shards(team: SimClusterThread) -> None:
    """It forbids `/` as well as `/_node`; the log says what follows, because nobody hears of other instances then."""
    team.fail(1, 403, path_regex=r"^/(_(?!users\b).*)?$")
    with capture_logs() as logged:
        eye = cluster_reader(team.urls[0])
        assert eye.attach() == Attachment("_local", Feed.DATABASE)
    assert [line["log_level"] for line in logged if "one instance" in line.get("advice", "")] == ["warning"]
    view = eye.look()
    assert [each.copy.feed for each in eye.plan(view, view).assignments] == [Feed.DATABASE]


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
    """Whatever it answers in words of its own, users are served; shards are followed once all these pages are open."""
    monkeypatch.setattr(attaching, "_ASKING_AGAIN", Backoff(initial_seconds=0.01, max_seconds=0.02))
    own = _proxy_page(status)
    with Proxy(team.urls[0], lambda path: own(path) if path.startswith(pages) else path) as proxy:
        eye = cluster_reader(proxy.url)
        for _ in range(3):
            assert eye.look().shard_map is None
            time.sleep(0.03)
        proxy.rewriting = faithful
        eye.look()
        assert eye.attach() == Attachment(team.node_names[0], Feed.SHARD)


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_proxy_that_lets_at_nothing_is_waited_for(team: SimClusterThread, status: int) -> None:
    """It may let at everything in a moment, and an instance attaches once for its whole life."""
    team.fail(1, status)
    eye = cluster_reader(team.urls[0])
    with pytest.raises(CouchError):
        eye.attach()
    team.clear_faults()
    assert eye.attach() == Attachment(team.node_names[0], Feed.SHARD)


def test_an_account_that_is_no_server_admin_is_no_proxy(team: SimClusterThread) -> None:
    """CouchDB answers 401 for the pages of nodes then, and serving users would fail as well."""
    team.fail(1, 401, path_regex=NODE_PAGES)
    with pytest.raises(UnauthorizedError):
        cluster_reader(team.urls[0]).attach()


def test_shards_that_are_asked_for_and_forbidden_are_waited_for(team: SimClusterThread) -> None:
    """The proxy may be changed as well as the configuration, so the error names both."""
    team.fail(1, 403, path_regex=NODE_PAGES)
    eye = cluster_reader(team.urls[0], FeedChoice.SHARD)
    with pytest.raises(ForbiddenError, match=r"/_node.*couchdb\.feed"):
        eye.attach()
    team.clear_faults()
    assert eye.attach().feed is Feed.SHARD


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_the_database_feed_needs_no_page_of_a_node(team: SimClusterThread, status: int) -> None:
    """`feed = "database"` is obeyed behind a proxy that has none, and nothing is asked to find out."""
    team.fail(1, status)
    team.clear_requests()
    eye = cluster_reader(team.urls[0], FeedChoice.DATABASE)
    for _ in range(3):
        view = eye.look()
    assert eye.attach() == Attachment("_local", Feed.DATABASE)
    assert [each.copy.feed for each in eye.plan(view, view).assignments] == [Feed.DATABASE]
    assert not team.requests()


def test_the_database_feed_can_be_asked_for_on_a_cluster(cluster: SimClusterThread) -> None:
    """`feed = "database"` is obeyed where there are shards, and stays."""
    eye = cluster_reader(cluster.urls[0], FeedChoice.DATABASE)
    for _ in range(3):
        assert eye.look().shard_map is None
    assert eye.attach().feed is Feed.DATABASE


def test_refused_credentials_are_told_apart(cluster: SimClusterThread) -> None:
    """A wrong password is not a server that is away."""
    with pytest.raises(UnauthorizedError):
        cluster_reader(cluster.urls[0], password="wrong").attach()


def test_a_look_finds_couch_peruser_on_the_own_node(team: SimClusterThread) -> None:
    """It is said at the first look, and a node that does not answer the question spoils no look."""
    client = client_of(team.urls[0])
    own = f"/_node/{team.node_names[0]}/_config/couch_peruser/enable"
    client.session.request("PUT", own, body="true").expect(200)
    second_writer = SecondWriter(client)
    eye = cluster_reader(team.urls[0], second_writer=second_writer)
    with capture_logs() as logged:
        for _ in range(3):
            eye.look()
    assert second_writer.is_on
    warnings = [line for line in logged if line["log_level"] == "warning"]
    assert [(line["event"], line["node"]) for line in warnings] == [
        ("couch_peruser is on beside this instance", team.node_names[0])
    ]
    team.fail(1, 403, path_regex="_config")
    hidden = SecondWriter(client)
    assert cluster_reader(team.urls[0], second_writer=hidden).look().nodes == tuple(team.node_names)
    assert hidden.is_on is None


def test_no_second_writer_is_looked_for_where_there_are_no_shards(team: SimClusterThread) -> None:
    """Such a server has no couch_peruser, and the node's name may be made up."""
    second_writer = SecondWriter(client_of(team.urls[0]))
    team.clear_requests()
    cluster_reader(team.urls[0], FeedChoice.DATABASE, second_writer=second_writer).look()
    assert second_writer.is_on is None
    assert "config" not in {kind for _, _, kind in team.requests()}


class Eye:
    """Looks that are scripted: a view, or an error to raise."""

    def __init__(self, *script: View | Exception) -> None:
        self._script = list(script)
        self.looks = 0

    def look(self) -> View:
        """Return or raise what comes next; the last one for ever."""
        self.looks += 1
        item = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(item, Exception):
            raise item
        return item


VIEW = View(nodes=("n1",), instances=("n1",), shard_map=None)


def watcher_of(eye: Eye, seen: list[View | None], interval_seconds: float = 0.01) -> Watcher:
    """Make a watcher that notes each view, and None for each look that has shown nothing."""
    return Watcher(
        eye.look, interval_seconds=interval_seconds, on_view=seen.append, on_failure=lambda: seen.append(None)
    )


@pytest.mark.parametrize("error", [UnreachableError("away"), ValueError("what nobody foresaw")], ids=repr)
def test_a_watcher_passes_on_what_it_sees_after_failures(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that cannot be seen is looked at again, whatever the reason; no view is made up meanwhile."""
    monkeypatch.setattr(pausing, "_BACKOFF", Backoff(initial_seconds=0.01, max_seconds=0.01))
    seen: list[View | None] = []
    watcher = watcher_of(Eye(error, VIEW), seen)
    watcher.start()
    eventually(lambda: len(seen) >= 3)
    watcher.stop()
    assert [each is VIEW for each in seen[:3]] == [False, True, True]
    assert watcher.failures == 0
    assert watcher.trouble is None


@pytest.mark.parametrize("error", [UnauthorizedError("no"), RejectedError("no")], ids=repr)
def test_a_page_that_was_closed_for_a_moment_is_asked_for_again_soon(error: Exception) -> None:
    """A proxy that is reloaded can refuse once; one that keeps a page closed is asked ever more seldom."""
    pauses = [pausing.pause_after(error, failures) for failures in range(1, 10)]
    assert pauses[0] <= 1
    assert sum(pauses[:4]) <= 15
    assert pauses == sorted(pauses)
    assert pauses[-1] == 15


def test_a_watcher_that_is_refused_does_not_hammer_the_server() -> None:
    """A path that is closed to the account is opened by a person, as a rule, so the next look is not at once."""
    eye = Eye(UnauthorizedError("no"))
    watcher = watcher_of(eye, [], 0.001)
    assert watcher.trouble is None
    watcher.start()
    eventually(lambda: watcher.failures == 1)
    assert watcher.trouble == "no"
    time.sleep(0.1)
    watcher.stop()
    assert eye.looks == 1


def test_a_watcher_that_is_not_let_in_looks_soon_whether_it_is() -> None:
    """Nothing is sent meanwhile, so it may; what is seen then is passed on."""
    seen: list[View | None] = []
    watcher = watcher_of(Eye(RefusedError("no"), VIEW), seen, 0.001)
    watcher.start()
    eventually(lambda: VIEW in seen)
    watcher.stop()
    assert pausing.pause_after(RefusedError("no"), 1000) == 1.0
    assert pausing.pause_after(UnauthorizedError("401 for a while"), 1000) == 15.0


def test_a_look_that_is_asked_for_does_not_wait_for_the_interval() -> None:
    """Something has changed that a look would show, long before the next one is due."""
    seen: list[View | None] = []
    watcher = watcher_of(Eye(VIEW), seen, 3600.0)
    watcher.start()
    for looks in (1, 2, 3):
        eventually_at_least(looks, lambda: len(seen))
        assert len(seen) == looks
        watcher.look_soon()
    eventually(lambda: len(seen) == 4)
    watcher.stop()
    watcher._thread.join(PATIENCE_SECONDS)
    assert not watcher._thread.is_alive()


def test_looks_that_fail_are_not_asked_for_sooner() -> None:
    """Listeners lose their copies also where the server refuses us; to ask it again at once would lock the account."""
    watcher = watcher_of(Eye(VIEW), [], 1.0)
    watcher._failed("unauthorized", UnauthorizedError("no"))
    watcher.look_soon()
    assert not watcher._wanted.is_set()
