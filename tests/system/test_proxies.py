"""The daemon behind proxies that change paths."""

import json
from collections.abc import Callable

import requests

from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.proxies import Proxy, decoding, faithful
from tests.system.daemon import Daemon
from tests.waiting import eventually


def test_slashes_that_are_decoded_on_the_way_are_said_once_and_waited_for(make_daemon: Callable[..., Daemon]) -> None:
    """The instance says so in its log and on its page, makes nothing, and serves users once the proxy is mended."""
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


def test_with_the_database_feed_no_page_of_a_node_is_asked_for(make_daemon: Callable[..., Daemon]) -> None:
    """From the start to the end of a scan and of deletions, whatever such a page would answer."""
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
    """An authentication database that has been taken along since before there were suffixes."""
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
