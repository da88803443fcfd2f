"""Answers of any size and shape: the bytes read are limited, and no answer can end a thread."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from peruserd.core.common.nesting import MAX_LEVELS
from peruserd.couch import errors, sources
from peruserd.couch.client import SECURITY_BYTES
from peruserd.couch.sources import DatabaseSource
from tests.couch.connecting import Conversation, TalkingServer, answer, answering, connect

FEED = "/_users/_changes"


def _endless(conversation: Conversation) -> None:
    """Answer with chunks that never end."""
    for _ in conversation.requests():
        conversation.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            conversation.send(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")


@pytest.mark.parametrize("length", [SECURITY_BYTES + 1, 1 << 40], ids=["one-more", "a-lie"])
def test_an_answer_above_its_limit_is_not_kept(length: int) -> None:
    """A security object of more than a mebibyte is an error, and is not read to its end."""

    def script(conversation: Conversation) -> None:
        for _ in conversation.requests():
            conversation.send(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode())
            conversation.send(b" " * min(length, 2 * SECURITY_BYTES))

    with TalkingServer(script) as server, pytest.raises(errors.TooLargeError, match="more than 1,048,576 bytes"):
        connect(server.url).security("some")


def test_an_answer_of_exactly_the_limit_is_taken() -> None:
    """An answer exactly as large as the limit is allowed, and the connection serves the next request."""
    padded = b"{}".ljust(SECURITY_BYTES)
    with TalkingServer(answering({("GET", "/some/_security"): (200, padded)})) as server:
        client = connect(server.url)
        assert [client.security("some"), client.security("some")] == [{}, {}]
        assert server.connections == 1


def test_an_answer_without_an_end_is_left() -> None:
    """At the limit the connection to an endless answer is closed."""
    with TalkingServer(_endless) as server, pytest.raises(errors.TooLargeError):
        connect(server.url).security("some")


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a":' * (MAX_LEVELS + 1) + b"1" + b"}" * (MAX_LEVELS + 1),
        b'{"error": "\xff"}',
        b'"\xed\xa0\x80"',
        b"\xff\xfe{}",
    ],
    ids=["lists", "objects", "nested", "no-utf-8", "surrogate", "byte-order-mark"],
)
@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_of_any_bytes_is_an_error_of_its_kind(status: int, body: bytes) -> None:
    """Deeply nested JSON, or bytes that are not UTF-8, raise an ordinary error."""
    script = answering({("GET", "/some/_security"): (status, body)})
    with TalkingServer(script) as server, pytest.raises(errors.CouchError):
        connect(server.url).security("some")


def _feed(rows: list[dict[str, Any]]) -> Callable[[Conversation], None]:
    """Return a script that serves rows like a feed."""

    def script(conversation: Conversation) -> None:
        for request in conversation.requests():
            asked = dict(parse_qsl(urlsplit(request.path).query))
            since, limit = int(asked["since"]), int(asked["limit"])
            page = [row for row in rows if row["seq"] > since][:limit]
            conversation.send(answer(200, {"results": page, "last_seq": page[-1]["seq"] if page else since}))

    return script


def test_a_page_of_huge_ids_is_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ids of megabytes fewer rows are asked for, and none is left out."""
    monkeypatch.setattr(sources, "_PAGE_BYTES", 10_000)
    rows = [{"seq": seq, "id": "x" * (9_000 if seq % 3 == 0 else 10)} for seq in range(1, 40)]
    seen: list[int] = []
    with TalkingServer(_feed(rows)) as server:
        source = DatabaseSource(connect(server.url), "_users")
        since: Any = 0
        while (page := source.page(since)).results:
            assert page.is_last == (not page.cut)
            seen += [int(row.seq) for row in page.results]
            since = page.last_seq
    assert seen == list(range(1, 40))


def test_a_row_that_no_document_can_have_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a single row is above its limit, the error is raised, because nothing smaller can be asked for."""
    monkeypatch.setattr(sources, "_PAGE_BYTES", 1_000)
    monkeypatch.setattr(sources, "_ROW_BYTES", 2_000)
    with TalkingServer(_feed([{"seq": 1, "id": "x" * 3_000}])) as server, pytest.raises(errors.TooLargeError):
        DatabaseSource(connect(server.url), "_users").page(0)


def test_what_is_cut_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that is short because of its size does not make a listener believe that it has caught up."""
    monkeypatch.setattr(sources, "_PAGE_BYTES", len(json.dumps({"seq": 1, "id": "x" * 50})) * 20)
    rows = [{"seq": seq, "id": "x" * 50} for seq in range(1, 200)]
    with TalkingServer(_feed(rows)) as server:
        page = DatabaseSource(connect(server.url), "_users").page(0)
    assert (page.cut, page.is_last, len(page.results)) == (True, False, 10)
