"""Encoded slashes that a proxy decodes, or does not let pass."""

from collections.abc import Iterator

import pytest

from peruserd.couch.errors import CouchError
from peruserd.couch.slashes import SlashFate, fate_of_slashes
from peruserd.simcluster import SimClusterThread
from peruserd.supervisor.slashes import SlashWatch, slashes_lost
from tests.couch.connecting import TalkingServer, answering, connect
from tests.proxies import Proxy, decoding, faithful

PROBE = "/_node%2F_local"
NODE_PAGE = ("GET", "/_node/_local")


@pytest.fixture
def proxy(cluster: SimClusterThread) -> Iterator[Proxy]:
    """Run a proxy before a node, which passes paths on as they are until it is told otherwise."""
    with Proxy(cluster.urls[0], faithful) as running:
        yield running


def test_a_node_that_is_asked_itself_keeps_slashes(cluster: SimClusterThread) -> None:
    """CouchDB takes the path for the name of a database, which it refuses in its own words."""
    assert fate_of_slashes(connect(cluster.urls[0])) is SlashFate.KEPT
    assert slashes_lost(connect(cluster.urls[0])) is None


def test_a_proxy_that_decodes_is_found_by_an_answer_that_cannot_be(proxy: Proxy) -> None:
    """The words name what happens and what to change."""
    proxy.rewriting = decoding
    lost = slashes_lost(connect(proxy.url))
    assert "decodes %2F in paths" in str(lost)
    assert "proxy_pass without a path part" in str(lost)


@pytest.mark.parametrize(
    ("status", "body", "fate"),
    [
        (301, b"", SlashFate.DECODED),
        (307, b"<html>", SlashFate.DECODED),
        (400, b"<html>bad path</html>", SlashFate.REFUSED),
        (403, b"<html>forbidden</html>", SlashFate.REFUSED),
        (404, b"", SlashFate.REFUSED),
        (404, {"message": "no Route matched"}, SlashFate.REFUSED),
        (400, {"error": "illegal_database_name", "reason": "Name: '_node/_local'."}, SlashFate.KEPT),
        (404, {"error": "not_found", "reason": "Database does not exist."}, SlashFate.KEPT),
    ],
)
def test_an_answer_that_says_something_of_the_path(status: int, body: object, fate: SlashFate) -> None:
    """A redirection comes from a proxy that decodes, and a refusal in a proxy's words from one that forbids."""
    with TalkingServer(answering({("GET", PROBE): (status, body), NODE_PAGE: (200, {"name": "n1"})})) as server:
        assert fate_of_slashes(connect(server.url)) is fate


@pytest.mark.parametrize("status", [302, 401, 403, 404])
def test_a_proxy_that_has_one_answer_for_all_pages_of_nodes_says_nothing_of_slashes(status: int) -> None:
    """It asks for a login, or hides them all, and is named otherwise."""
    with TalkingServer(answering(dict.fromkeys((("GET", PROBE), NODE_PAGE), (status, b"<html>")))) as server:
        with pytest.raises(CouchError):
            fate_of_slashes(connect(server.url))
        assert SlashWatch(connect(server.url)).look() is None


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>"), (200, {"name": 5}), (401, {}), (429, b""), (500, {}), (502, b""), (503, b"")]
)
def test_an_answer_that_says_nothing_of_the_path(status: int, body: object) -> None:
    """A server that is away, or a page for everything, accuses nobody; the question is asked again."""
    with TalkingServer(answering({("GET", PROBE): (status, body)})) as server:
        client = connect(server.url)
        with pytest.raises(CouchError):
            fate_of_slashes(client)
        watch = SlashWatch(client)
        assert watch.look() is watch.look() is None
        assert watch.trouble is None
        assert [each.path for each in server.requests].count(PROBE) == 3


def test_a_proxy_that_begins_to_decode_is_noticed_at_the_next_look_and_so_is_its_mending(proxy: Proxy) -> None:
    """Each look asks, with one small request."""
    watch = SlashWatch(connect(proxy.url))
    assert watch.look() is None
    assert proxy.paths == [PROBE]
    proxy.rewriting = decoding
    for _ in range(2):
        assert watch.look() is not None
        assert "%2F" in (watch.trouble or "")
    proxy.rewriting = faithful
    assert watch.look() is None
    assert watch.trouble is None


def test_a_proxy_that_forbids_all_later_is_not_said_to_decode(proxy: Proxy) -> None:
    """A finding is not said of a later state, in which the question is asked again."""
    watch = SlashWatch(connect(proxy.url))
    proxy.rewriting = decoding
    assert watch.look() is not None
    proxy.rewriting = lambda _: 403
    assert watch.look() is None
    assert watch.trouble is None
    proxy.rewriting = decoding
    assert watch.look() is not None
