"""Answers that trickle without an end: the time of a whole answer is limited, in its head, body and tail."""

import gc
import threading
from collections.abc import Callable

import pytest

from peruserd.core.configuration.config import CouchDBConfig
from peruserd.core.processes.lifecycle import Timing
from peruserd.couch import bodies, errors
from peruserd.couch.allowance import BYTES_A_SECOND, Allowance
from peruserd.couch.errors import TimedOutError
from peruserd.couch.sources import LONG_POLL_SECONDS, DatabaseSource
from tests.couch.connecting import Conversation, TalkingServer, connect, session_to
from tests.waiting import PATIENCE_SECONDS

# A whole answer has twice this time.
READ_SECONDS = 0.5
PAUSE_SECONDS = 0.045

# Each of these takes four seconds to send, and is a complete answer at the end. The newest releases of Python take no
# more than a hundred announcements of an answer.
TRICKLES = 90

BEGIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = BEGIN + b"Transfer-Encoding: chunked\r\n\r\n"
EMPTY = BEGIN + b"Content-Length: 2\r\n\r\n{}"


class _Clock:
    """A clock that the test puts forward."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def _in_the_status_line() -> tuple[bytes, bytes, bytes]:
    return b"HTTP/1.1 200 ", b"O", b"\r\nContent-Length: 2\r\n\r\n{}"


def _in_the_headers() -> tuple[bytes, bytes, bytes]:
    return BEGIN + b"X-Padding: ", b"x", b"\r\nContent-Length: 2\r\n\r\n{}"


def _before_the_answer() -> tuple[bytes, bytes, bytes]:
    return b"", b"HTTP/1.1 100 Continue\r\n\r\n", EMPTY


def _in_the_body() -> tuple[bytes, bytes, bytes]:
    return BEGIN + b"Content-Length: %d\r\n\r\n" % (TRICKLES + 2), b" ", b"{}"


def _in_many_chunks() -> tuple[bytes, bytes, bytes]:
    return CHUNKED, b"1\r\n \r\n", b"2\r\n{}\r\n0\r\n\r\n"


def _in_one_chunk() -> tuple[bytes, bytes, bytes]:
    return CHUNKED + b"%x\r\n" % TRICKLES, b" ", b"\r\n2\r\n{}\r\n0\r\n\r\n"


def _in_the_size_of_a_chunk() -> tuple[bytes, bytes, bytes]:
    return CHUNKED + b"2;", b"x", b"\r\n{}\r\n0\r\n\r\n"


def _behind_the_body() -> tuple[bytes, bytes, bytes]:
    return CHUNKED + b"2\r\n{}\r\n0\r\n", b"X-Trailer: x\r\n", b"\r\n"


PLACES = [
    _in_the_status_line,
    _in_the_headers,
    _before_the_answer,
    _in_the_body,
    _in_many_chunks,
    _in_one_chunk,
    _in_the_size_of_a_chunk,
    _behind_the_body,
]


def _trickling(place: Callable[[], tuple[bytes, bytes, bytes]]) -> Callable[[Conversation], None]:
    begin, again, end = place()

    def script(conversation: Conversation) -> None:
        for _ in conversation.requests():
            conversation.send(begin)
            for _ in range(TRICKLES):
                conversation.send(again)
                conversation.pause(PAUSE_SECONDS)
            conversation.send(end)

    return script


@pytest.mark.parametrize("place", PLACES)
def test_an_answer_that_trickles_times_out(place: Callable[[], tuple[bytes, bytes, bytes]]) -> None:
    """A byte now and then does not block a thread for long, and the request is not repeated."""
    with TalkingServer(_trickling(place)) as server:
        session = session_to(server.url, read_timeout=READ_SECONDS)
        with pytest.raises(TimedOutError, match="GET /x: the answer did not come to its end"):
            session.request("GET", "/x")
        assert len(server.requests) == 1


@pytest.mark.parametrize("place", PLACES)
def test_the_same_answers_are_understood_where_there_is_time(place: Callable[[], tuple[bytes, bytes, bytes]]) -> None:
    """Such answers are only slow. The connection serves the next request."""
    begin, again, end = place()

    def script(conversation: Conversation) -> None:
        for _ in conversation.requests():
            conversation.send(begin + TRICKLES * again + end)

    with TalkingServer(script) as server:
        session = session_to(server.url)
        assert [session.request("GET", "/x").decode(dict[str, int]) for _ in range(3)] == [{}, {}, {}]
        assert server.connections == 1


def test_a_long_poll_whose_rows_trickle_is_no_poll_without_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the poll counted as empty, a listener would believe that it has caught up."""
    monkeypatch.setattr(bodies, "_LATE_SECONDS", 0.1)
    with TalkingServer(_trickling(_in_the_size_of_a_chunk)) as server:
        source = DatabaseSource(connect(server.url, read_timeout=READ_SECONDS), "_users", long_poll_seconds=0.1)
        with pytest.raises(TimedOutError) as caught:
            source.poll(7)
    assert not isinstance(caught.value, errors.NothingYetError)


def test_a_request_that_changes_something_is_bounded_as_well() -> None:
    """Whether the server acted is unknown, as with every time-out."""
    with TalkingServer(_trickling(_in_the_body)) as server:
        with pytest.raises(TimedOutError):
            session_to(server.url, read_timeout=READ_SECONDS).request("PUT", "/x", body={})
        assert len(server.requests) == 1


def test_the_tries_of_one_request_have_one_allowance_together() -> None:
    """If the server cuts the connection after a while, the request is repeated, but not for ever."""

    def script(conversation: Conversation) -> None:
        conversation.request()
        for _ in range(3):
            conversation.pause(READ_SECONDS / 2)
            conversation.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        conversation.cut()

    with TalkingServer(script) as server:
        with pytest.raises(TimedOutError):
            session_to(server.url, read_timeout=READ_SECONDS).request("GET", "/x")
        assert server.connections < 3


def test_a_session_that_nobody_has_any_more_is_hung_up() -> None:
    """The connection is closed at once, without the garbage collector: nothing refers back to the session."""
    ended = threading.Event()

    def script(conversation: Conversation) -> None:
        for _ in conversation.requests():
            conversation.send(EMPTY)
        ended.set()

    gc.disable()
    try:
        with TalkingServer(script) as server:
            session = session_to(server.url)
            session.request("GET", "/x")
            del session
            assert ended.wait(PATIENCE_SECONDS)
    finally:
        gc.enable()


def test_a_long_poll_that_trickles_ends_before_its_listener_is_taken_to_hang() -> None:
    """Otherwise the supervisor would end the whole listener for a proxy's slow answer."""
    couchdb = CouchDBConfig()
    assert bodies.whole_seconds(couchdb.read_timeout, LONG_POLL_SECONDS) < Timing().silence_seconds
    assert bodies.whole_seconds(couchdb.read_timeout, 0.0) < Timing().silence_seconds


def test_an_allowance_ends() -> None:
    """The time left shrinks to nothing. Then the error names the request."""
    clock = _Clock()
    allowance = Allowance("GET /x", 60.0, 1_000, clock)
    assert allowance.left() == 60.0
    clock.now += 59.0
    assert allowance.left() == 1.0
    clock.now += 1.0
    with pytest.raises(TimedOutError, match="GET /x: the answer did not come to its end within 60 s"):
        allowance.left()


def test_a_large_answer_has_more_time_than_a_small_one() -> None:
    """More bytes extend the time, because a slow line is legitimate. Bytes beyond the limit of an answer do not."""
    clock = _Clock()
    allowance = Allowance("GET /x", 60.0, 3 * BYTES_A_SECOND, clock)
    left = []
    for _ in range(5):
        allowance.received(BYTES_A_SECOND)
        left.append(allowance.left())
    assert left == [61.0, 62.0, 63.0, 63.0, 63.0]
