"""Encoded slashes that a proxy decodes or refuses."""

from collections.abc import Iterator

import pytest

from peruserd.couch.errors import CouchError
from peruserd.couch.slashes import SlashHandling, probe_slashes
from peruserd.simcluster import SimClusterThread
from peruserd.supervisor.slashes import SlashWatch, slashes_lost
from tests.couch.connecting import TalkingServer, answering, connect
from tests.proxies import Proxy, decoding, faithful

PROBE = "/_node%2F_local"
NODE_PAGE = ("GET", "/_node/_local")


@pytest.fixture
def proxy(cluster: SimClusterThread) -> Iterator[Proxy]:
    """Run a proxy before a node. It changes no paths until the test says so."""
    with Proxy(cluster.urls[0], faithful) as running:
        yield running


def test_a_node_that_is_asked_itself_keeps_slashes(cluster: SimClusterThread) -> None:
    """CouchDB takes the path for a database's name, and refuses it in its own words."""
    assert probe_slashes(connect(cluster.urls[0])) is SlashHandling.KEPT
    assert slashes_lost(connect(cluster.urls[0])) is None


def test_a_proxy_that_decodes_is_found_by_an_answer_that_cannot_be(proxy: Proxy) -> None:
    """The error names the problem and the remedy."""
    proxy.rewriting = decoding
    lost = slashes_lost(connect(proxy.url))
    assert "decodes %2F in paths" in str(lost)
    assert "proxy_pass without a path part" in str(lost)


@pytest.mark.parametrize(
    ("status", "body", "handling"),
    [
        (301, b"", SlashHandling.DECODED),
        (307, b"<html>", SlashHandling.DECODED),
        (400, b"<html>bad path</html>", SlashHandling.REFUSED),
        (403, b"<html>forbidden</html>", SlashHandling.REFUSED),
        (404, b"", SlashHandling.REFUSED),
        (404, {"message": "no Route matched"}, SlashHandling.REFUSED),
        (400, {"error": "illegal_database_name", "reason": "Name: '_node/_local'."}, SlashHandling.KEPT),
        (404, {"error": "not_found", "reason": "Database does not exist."}, SlashHandling.KEPT),
    ],
)
def test_an_answer_that_says_something_of_the_path(status: int, body: object, handling: SlashHandling) -> None:
    """A redirection shows that a proxy decodes slashes. A refusal in a proxy's words shows that it forbids them."""
    with TalkingServer(answering({("GET", PROBE): (status, body), NODE_PAGE: (200, {"name": "n1"})})) as server:
        assert probe_slashes(connect(server.url)) is handling


@pytest.mark.parametrize("status", [302, 401, 403, 404])
def test_a_proxy_that_has_one_answer_for_all_pages_of_nodes_says_nothing_of_slashes(status: int) -> None:
    """A proxy that asks for a login, or hides all pages, has its own error."""
    with TalkingServer(answering(dict.fromkeys((("GET", PROBE), NODE_PAGE), (status, b"<html>")))) as server:
        with pytest.raises(CouchError):
            probe_slashes(connect(server.url))
        assert SlashWatch(connect(server.url)).check() is None


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>"), (200, {"name": 5}), (401, {}), (429, b""), (500, {}), (502, b""), (503, b"")]
)
def test_an_answer_that_says_nothing_of_the_path(status: int, body: object) -> None:
    """A server that is away, or one page for every path, proves nothing. The request is repeated."""
    with TalkingServer(answering({("GET", PROBE): (status, body)})) as server:
        client = connect(server.url)
        with pytest.raises(CouchError):
            probe_slashes(client)
        watch = SlashWatch(client)
        assert watch.check() is watch.check() is None
        assert watch.trouble is None
        assert [each.path for each in server.requests].count(PROBE) == 3


def test_a_proxy_that_begins_to_decode_is_noticed_at_the_next_look_and_so_is_its_mending(proxy: Proxy) -> None:
    """Each check is one small request."""
    watch = SlashWatch(connect(proxy.url))
    assert watch.check() is None
    assert proxy.paths == [PROBE]
    proxy.rewriting = decoding
    for _ in range(2):
        assert watch.check() is not None
        assert "%2F" in (watch.trouble or "")
    proxy.rewriting = faithful
    assert watch.check() is None
    assert watch.trouble is None


def test_a_proxy_that_forbids_all_later_is_not_said_to_decode(proxy: Proxy) -> None:
    """A finding does not apply to a later state, because the next check asks again."""
    watch = SlashWatch(connect(proxy.url))
    proxy.rewriting = decoding
    assert watch.check() is not None
    proxy.rewriting = lambda _: 403
    assert watch.check() is None
    assert watch.trouble is None
    proxy.rewriting = decoding
    assert watch.check() is not None
