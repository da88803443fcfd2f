import pytest

from peruserd.core.configuration.decoding import ConfigError, load
from peruserd.couch.urls import url_problem


def problem_of(url: str) -> str | None:
    """Return why a URL of the configuration is refused, by its rules or by the library's."""
    try:
        loaded = load("", {"PERUSERD_COUCHDB_URL": url}, "test")
    except ConfigError as error:
        return str(error)
    return url_problem(loaded.config.couchdb.url)


@pytest.mark.parametrize(
    "url",
    [
        "http://☃.example:5984",
        "http://\uff11\uff12\uff17.0.0.1:5984",
        "http://٣.com:5984",
        "http://x︒y:5984",
        "http://a\u200db.com:5984",
        "http://a..b:5984",
        "http://.a:5984",
        "http://*.a:5984",
        "http://256.1.1.1:5984",
        "http://1.2.3.4.5",
        "http://host.0x",
        "http://" + ".".join(["a" * 60] * 5),
        "http://" + "a" * 64,
        "http://[::1",
        "http://[::1]x:5984",
        "http://[v1.a]:5984",
        "http://[1::2%]:5984",
        "http://a%41:5984",
        "http://a\\b:5984",
        "http://",
        "http:///path",
        "http:host",
        "//host",
        "host:5984",
        "ftp://host",
        "http+unix://socket",
        "http://host:0",
        "http://host:65536",
        "http://host:-1",
        "http://host:port",
        "http://host: 5984",
        "http://host:5984 ",
        "http://host/a b",
        "http://host/ä",
        "http://host?a=b",
        "http://host#a",
        "http://host/\n",
        "http://ho\x00st",
        "http://host\udcff",
    ],
)
def test_a_url_that_no_request_can_be_made_to_is_refused(url: str) -> None:
    """Nothing is sent to find that out, and no error is left for the first request."""
    assert problem_of(url) is not None


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost",
        "HTTP://LOCALHOST:5984/",
        "https://couch.example:6984/behind/a/proxy",
        "http://a_b.network:5984",
        "http://host.:5984",
        "http://bücher.example:5984",
        "http://127.0.0.1:5984",
        "http://127.1:5984",
        "http://[::1]:5984",
        "http://[fe80::1%25eth0]:5984",
        "http://name:pass%40word@host:5984",
        "http://host:",
        " http://host:5984",
    ],
)
def test_an_unusual_url_that_a_request_can_be_made_to_is_taken(url: str) -> None:
    """Whether the host answers is another question, and may change."""
    assert problem_of(url) is None
