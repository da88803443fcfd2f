"""The daemon behind proxies that change paths."""

import json
from collections.abc import Callable

import requests

from peruserd.core.common.names import database_name
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.proxies import Proxy, decoding, faithful
from tests.system.daemon import Daemon
from tests.system.target import PREFIX, Target, open_simulated
from tests.waiting import eventually, eventually_each


def test_slashes_that_are_decoded_on_the_way_are_said_once_and_waited_for(make_daemon: Callable[..., Daemon]) -> None:
    """The instance reports it in log and page, makes nothing, and serves users once the proxy is repaired."""
    with SimClusterThread(ClusterOptions(nodes=1, q=2, n=1)) as cluster:
        cluster.seed_users(3, "waiting")
        with Proxy(cluster.urls[0], decoding) as proxy:
            daemon = make_daemon(url=proxy.url, config={"couchdb": {"long_poll_timeout": 1}}).start()
            eventually(lambda: "decodes %2F" in daemon.get("/readyz").text, "the page says what is the matter")
            assert daemon.get("/readyz").status_code == 503
            assert daemon.get("/healthz").status_code == 200
            eventually(lambda: proxy.paths.count("/_node%2F_local") > 2, "it is looked at again")
            assert [line["kind"] for line in daemon.lines() if "%2F" in line.get("error", "")] == ["slashes_lost"]
            assert requests.head(f"{cluster.urls[0]}/peruserd", timeout=10).status_code == 404
            proxy.rewriting = faithful
            daemon.wait_until_ready()
            eventually(lambda: len(cluster.creations()) == 4, "all are served, and the database of the leases is made")
            proxy.rewriting = decoding
            eventually(lambda: "decodes %2F" in daemon.get("/readyz").text, "it is noticed later, too")
            proxy.rewriting = faithful
            daemon.wait_until_ready()
            assert daemon.stop() == 0


def test_nothing_is_lost_where_a_proxy_begins_to_decode(make_daemon: Callable[..., Daemon]) -> None:
    """Another instance takes over from the one behind the proxy, until the proxy is repaired.

    The instance behind the proxy reports the reason. Meanwhile users sign up, one is deleted, and somebody deletes the
    database of another one.
    """
    with open_simulated(ClusterOptions(nodes=2, q=2, n=2)) as target, Proxy(url_of(target, 1), faithful) as proxy:
        config = {"couchdb": {"long_poll_timeout": 1}, "cluster": {"lease_ttl": 1.5}}
        behind, beside = (make_daemon(url=url, config=config).start() for url in (proxy.url, url_of(target, 2)))
        two = [behind, beside]
        eventually(lambda: all(alive(each) == 2 and each.is_ready for each in two), "the two know each other")
        before, after = target.new_names(8), target.new_names(8)
        target.sign_up(before)
        eventually(lambda: not target.unserved(before), "all are served")
        proxy.rewriting = decoding
        eventually(lambda: "decodes %2F" in behind.get("/readyz").text, "the page says what is the matter")
        assert (behind.get("/readyz").status_code, behind.get("/healthz").status_code) == (503, 200)
        target.sign_up(after)
        target.delete_user(before[0])
        target.request("DELETE", f"/{database_name(PREFIX, before[1])}", node=2)
        eventually(lambda: alive(beside) == 1, "its lease is silent")
        eventually(lambda: not target.unserved([*before[1:], *after]), "the other one serves all of them")
        eventually(lambda: not names(target, before[0]), "and takes the access of the deleted one away")
        proxy.rewriting = faithful
        eventually(lambda: all(alive(each) == 2 and each.is_ready for each in two), "both serve again")
        eventually_each(two, lambda each: not each.metrics().total("peruserd_quarantined_users"), "nobody is left over")
        assert not target.unserved([*before[1:], *after])
        assert not names(target, before[0])
        assert [line["kind"] for line in behind.lines() if "decodes %2F" in line.get("error", "")] == ["slashes_lost"]
        assert [each.stop() for each in two] == [0, 0]


def alive(instance: Daemon) -> float:
    """Return how many instances count as alive."""
    return instance.gauge("peruserd_instances_alive") or 0.0


def url_of(target: Target, node: int) -> str:
    """Return the URL of a node with credentials."""
    return target.urls[node - 1].replace("://", f"://{target.username}:{target.password}@")


def names(target: Target, user: str) -> bool:
    """Say whether a user's database names the user."""
    return user in str(target.security(user))


def test_an_instance_that_cannot_ask_nodes_follows_shards_once_it_can(make_daemon: Callable[..., Daemon]) -> None:
    """A proxy that forbids the pages of nodes at first: users are served then and later, without a restart."""
    with SimClusterThread(ClusterOptions(nodes=1, q=2, n=1)) as cluster:
        cluster.seed_users(3, "before")
        with Proxy(cluster.urls[0], lambda path: 403 if path.startswith("/_node") else path) as proxy:
            daemon = make_daemon(url=proxy.url, config={"couchdb": {"long_poll_timeout": 1}}).start()
            daemon.wait_until_ready()
            eventually(lambda: len(cluster.creations()) == 3, "all are served by the feed of the database")
            proxy.rewriting = faithful
            eventually(lambda: len(daemon.listeners()) == 2, "both ranges have a listener")
            daemon.wait_until_ready()
            cluster.seed_users(3, "after")
            eventually(lambda: len(cluster.creations()) == 7, "all are served, and the database of the leases is made")
            assert [line["feed"] for line in daemon.lines("attached")] == ["database", "shard"]
            # The map of the authentication database is watched as well by now.
            eventually(lambda: any("/_dbs/_changes" in path for path in proxy.paths), "the shard map is watched")
            assert daemon.stop() == 0


def test_the_page_says_what_is_waited_for(make_daemon: Callable[..., Daemon]) -> None:
    """A proxy blocks a page that the instance needs; the output must name the page."""
    with (
        SimClusterThread(ClusterOptions(nodes=1, q=1, n=1)) as cluster,
        Proxy(cluster.urls[0], lambda path: 404 if path == "/_membership" else path) as proxy,
    ):
        daemon = make_daemon(url=proxy.url, config={"couchdb": {"long_poll_timeout": 1}}).start()
        eventually(lambda: "waiting for CouchDB: GET /_membership: 404" in daemon.get("/readyz").text)
        assert (daemon.get("/readyz").status_code, daemon.get("/healthz").status_code) == (503, 200)
        proxy.rewriting = faithful
        daemon.wait_until_ready()
        assert daemon.stop() == 0


def test_with_the_database_feed_no_page_of_a_node_is_asked_for(make_daemon: Callable[..., Daemon]) -> None:
    """This holds from the start to the end of a scan and of deletions, for any answer of such a page."""
    config = {"couchdb": {"feed": "database", "long_poll_timeout": 1}, "deletion": {"policy": "drop"}}
    with SimClusterThread(ClusterOptions(nodes=1, q=2, n=1)) as cluster:
        cluster.seed_users(3, "waiting")
        with Proxy(cluster.urls[0], lambda path: 401 if path.startswith("/_node") else path) as proxy:
            daemon = make_daemon(url=proxy.url, config=config).start()
            daemon.wait_until_ready()
            daemon.wait_until_scanned()
            eventually(lambda: len(cluster.creations()) == 4, "all are served, and the journal is made")
            assert daemon.stop() == 0
            assert not [path for path in proxy.paths if path.startswith("/_node")]


def test_users_are_served_by_a_shard_map_without_a_suffix(make_daemon: Callable[..., Daemon]) -> None:
    """An authentication database that is older than the suffixes of shards."""
    with SimClusterThread(ClusterOptions(nodes=1, q=1, n=1)) as cluster:
        cluster.seed_users(3, "before")
        page = f"/_node/{cluster.node_names[0].replace('@', '%40')}/_dbs/_users"
        shard_map = requests.get(cluster.urls[0] + page, timeout=10).json()
        shard = "%2F_users" + bytes(shard_map.pop("shard_suffix")).decode()

        def rewriting(path: str) -> str | bytes:
            assert shard not in path
            return json.dumps(shard_map).encode() if path == page else path.replace("%2F_users", shard)

        with Proxy(cluster.urls[0], rewriting) as proxy:
            daemon = make_daemon(url=proxy.url, config={"couchdb": {"long_poll_timeout": 1}}).start()
            daemon.wait_until_ready()
            cluster.seed_users(3, "after")
            eventually(lambda: len(cluster.creations()) == 7, "all are served, and the database of the leases is made")
            assert daemon.stop() == 0
