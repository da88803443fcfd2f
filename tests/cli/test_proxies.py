"""`peruserd check` behind proxies that change paths."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.cli.running import peruserd
from tests.proxies import Proxy, decoding, faithful

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def cluster() -> Iterator[SimClusterThread]:
    """Run a cluster with a few users."""
    with SimClusterThread(ClusterOptions(nodes=3, q=2, n=3)) as running:
        running.seed_users(3, "waiting")
        yield running


@pytest.fixture
def proxy(cluster: SimClusterThread) -> Iterator[Proxy]:
    """Run a proxy before the first node; it passes paths on unchanged until a test changes that."""
    with Proxy(cluster.urls[0], faithful) as running:
        yield running


@pytest.fixture
def config(proxy: Proxy, tmp_path: Path) -> str:
    """Write a configuration for the proxy."""
    path = tmp_path / "peruserd.toml"
    path.write_text(f'[couchdb]\nurl = "{proxy.url}"\n[state]\ndirectory = "{tmp_path}/state"\n')
    return str(path)


def test_a_proxy_that_passes_paths_on_stands_in_nobodys_way(config: str) -> None:
    """Nothing is said of paths then."""
    checked = peruserd("check", "--config", config)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "%2F" not in checked.stdout


def test_a_proxy_that_decodes_slashes_is_named_once_and_is_1(config: str, proxy: Proxy) -> None:
    """All ranges are unreadable then, and one sentence gives the cause and the remedy."""
    proxy.rewriting = decoding
    checked = peruserd("check", "--config", config)
    assert checked.returncode == 1, checked.stdout + checked.stderr
    (said,) = [line for line in checked.stdout.splitlines() if line.startswith("paths:")]
    assert "decodes %2F in paths" in said
    assert "nginx: proxy_pass without a path part" in said
    followed = [line for line in checked.stdout.splitlines() if line.startswith("would follow:")]
    assert followed
    assert all("cannot be read now" in line for line in followed)


def test_a_proxy_that_decodes_plus_signs_is_named_and_is_1(config: str, proxy: Proxy) -> None:
    """CouchDB takes such a plus for a space, so a prefix or a template with one would be another name."""
    proxy.rewriting = lambda path: path.replace("%2B", "+")
    checked = peruserd("check", "--config", config)
    assert checked.returncode == 1, checked.stdout + checked.stderr
    (said,) = [line for line in checked.stdout.splitlines() if line.startswith("paths:")]
    assert "decodes %2B in paths" in said
    assert "let the proxy pass paths on as they are" in said
    assert "cannot be read now" not in checked.stdout


def test_a_proxy_that_refuses_slashes_is_1(config: str, proxy: Proxy) -> None:
    """Apache answers such paths itself unless it is told otherwise."""
    proxy.rewriting = lambda path: 404 if "%2F" in path.partition("?")[0] else path
    checked = peruserd("check", "--config", config)
    assert checked.returncode == 1, checked.stdout + checked.stderr
    assert "does not let paths with %2F pass" in checked.stdout


def test_a_copy_that_cannot_be_read_is_1(config: str, proxy: Proxy) -> None:
    """The reason may be any other; the daemon would wait in vain."""
    proxy.rewriting = lambda path: 503 if "%2F_users" in path else path
    checked = peruserd("check", "--config", config)
    assert checked.returncode == 1, checked.stdout + checked.stderr
    assert "cannot be read now" in checked.stdout
    assert "paths:" not in checked.stdout


def test_a_node_that_is_connected_and_no_member_is_named(config: str, proxy: Proxy, cluster: SimClusterThread) -> None:
    """The stray node is not counted as a member; otherwise more members would be connected than exist."""
    names = cluster.node_names
    said = json.dumps({"all_nodes": [*names, "stray@10.0.0.9"], "cluster_nodes": names}).encode()
    proxy.rewriting = lambda path: said if path == "/_membership" else path
    checked = peruserd("check", "--config", config)
    assert "; 3 of 3 nodes are connected, and stray@10.0.0.9, which does not belong to the cluster" in checked.stdout
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("status", [401, 403])
def test_a_page_that_a_proxy_keeps_is_not_blamed_on_the_account(cluster: SimClusterThread, status: int) -> None:
    """The refusal is not in CouchDB's words, and another password would change nothing."""
    with Proxy(cluster.urls[0], lambda path: status if path.startswith("/_all_dbs") else path) as proxy:
        ran = peruserd("check", environment={"PERUSERD_COUCHDB_URL": proxy.url})
    assert ran.returncode == 75
    assert "a proxy in front of it blocks the page" in ran.stderr
    assert "username and password" not in ran.stderr
