"""The head of a request: what is understood, and that nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.common.http_head import (
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    MAX_TARGET_BYTES,
    TOO_LARGE,
    Head,
    HeadBytes,
    Refused,
    parse,
)

PLAIN = b"GET /users/a%2Fb?wait=5 HTTP/1.1\r\nHost: localhost:9984\r\nX-Odd:\t two  words \t\r\n\r\n"


def test_a_plain_request_is_understood() -> None:
    """The path is decoded once, the query stays as it was sent, and white space around values is no part of them."""
    head = parse(PLAIN)
    assert isinstance(head, Head)
    assert (head.method, head.path, head.query, head.needs_host) == ("GET", b"/users/a/b", "wait=5", True)
    assert head.headers == {"host": ("localhost:9984",), "x-odd": ("two  words",)}
    assert (head.header("host"), head.header("accept")) == ("localhost:9984", None)


def test_repeated_headers_are_kept_apart_and_can_be_read_together() -> None:
    """A second Host must be seen, and a second Accept adds to the first."""
    head = parse(b"HEAD / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n")
    assert isinstance(head, Head)
    assert head.headers == {"host": ("a", "b")}
    assert (head.header("host"), head.needs_host) == ("a, b", False)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.0\n\n",
        b"GET / HTTP/1.1\nHost: a\r\n\n",
        b"\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\nGET /more HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: \xff\xfe\r\n\r\n",
        b"GET / HTTP/1.9\r\n\r\n",
    ],
)
def test_what_the_standard_allows_is_understood(request_bytes: bytes) -> None:
    """People type a request by hand, and what follows a request is not our business."""
    head = parse(request_bytes)
    assert isinstance(head, Head)
    assert head.path == b"/"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"", 400),
        (b"\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1 \r\n\r\n", 400),
        (b"GET / HTTP/11\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\n\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\n\r\n", 400),
        (b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n", 400),
        (b"G(T / HTTP/1.1\r\n\r\n", 400),
        (b"GET http://evil.example.org/ HTTP/1.1\r\n\r\n", 400),
        (b"GET * HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: a\x00b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: a\rb\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: a\r\n goes on\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n: no name\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 405),
        (b"OPTIONS / HTTP/1.1\r\nOrigin: http://evil.example.org\r\n\r\n", 405),
        (b"CONNECT evil.example.org:443 HTTP/1.1\r\n\r\n", 405),
        (b"get / HTTP/1.1\r\n\r\n", 405),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET / HTTP/0.9\r\n\r\n", 505),
        (b"GET /" + b"a" * MAX_TARGET_BYTES + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * (MAX_HEADERS + 1) + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n", 431),
    ],
)
def test_everything_else_is_refused(request_bytes: bytes, status: int) -> None:
    """Old and odd forms serve attackers alone: each reader understands them in its own way."""
    refused = parse(request_bytes)
    assert isinstance(refused, Refused)
    assert refused.status.startswith(f"{status} ")
    assert refused.why.isprintable()


def test_the_limits_themselves_are_allowed() -> None:
    """A limit is the largest size that works."""
    target = b"/" + b"a" * (MAX_TARGET_BYTES - 1)
    assert isinstance(parse(b"GET " + target + b" HTTP/1.1\r\n\r\n"), Head)
    assert isinstance(parse(b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * MAX_HEADERS + b"\r\n"), Head)


# Bytes that are special somewhere, so that random pieces of them meet odd forms.
SPECIAL = st.sampled_from(
    [b"\r", b"\n", b" ", b"\t", b":", b"\x00", b"GET", b"/", b" HTTP/1.1", b"Host", b"\xff", b"%"]
)


@given(st.lists(SPECIAL | st.binary(max_size=3), max_size=40).map(b"".join))
def test_no_bytes_make_it_fail(received: bytes) -> None:
    """Whatever arrives is understood or refused, and a head that is understood is well-formed."""
    head = parse(received)
    if isinstance(head, Head):
        assert head.method in ("GET", "HEAD")
        assert head.path.startswith(b"/")
        assert all(name == name.lower() and name.isascii() for name in head.headers)
        assert not any(set(value) & {"\r", "\n", "\0"} for values in head.headers.values() for value in values)


@given(st.lists(SPECIAL | st.binary(max_size=3), max_size=40).map(b"".join), st.data())
def test_pieces_of_any_size_are_the_same_request(received: bytes, data: st.DataObject) -> None:
    """A client can send a request byte by byte."""
    whole, pieces = HeadBytes(), HeadBytes()
    rest, has_ended = received, False
    while rest and not has_ended:
        size = data.draw(st.integers(1, len(rest)))
        has_ended, rest = pieces.add(rest[:size]), rest[size:]
    assert whole.add(received) == has_ended
    assert pieces.is_empty == (not received.strip(b"\r\n"))
    assert pieces.parse() == whole.parse() or rest
    assert isinstance(pieces.parse(), Refused) or has_ended


@pytest.mark.parametrize(
    ("piece", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"\x00", 400),
        (b"GET /" + b"a" * MAX_HEAD_BYTES, 431),
        (b"\r\n" * MAX_HEAD_BYTES, 431),
    ],
    ids=["TLS", "NUL", "long line", "empty lines"],
)
def test_a_request_that_can_never_be_one_is_known_early(piece: bytes, status: int) -> None:
    """Such a client is not waited for."""
    received = HeadBytes()
    assert not received.add(piece)
    hopeless = received.why_hopeless
    assert hopeless is not None
    assert hopeless.status.startswith(f"{status} ")


def test_a_request_that_is_on_its_way_is_waited_for() -> None:
    """Half a request may become a whole one."""
    received = HeadBytes()
    assert received.why_hopeless is None
    assert not received.add(b"\r\nGET / HT")
    assert received.why_hopeless is None
    assert received.add(b"TP/1.1\r\n\r\n")


def test_a_long_row_of_spaces_takes_no_longer_than_other_bytes() -> None:
    """A pattern that tries each way to divide them would take minutes, and the test would run out of time."""
    for odd in (b" " * 15_000, b" x" * 7_500, b"\t" * 15_000):
        assert parse(b"GET / HTTP/1.1\r\nX:" + odd + b"\x00\r\n\r\n") != TOO_LARGE
