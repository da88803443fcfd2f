"""Long polls of servers that ignore the requested time, or send nothing at all."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import pytest

from peruserd.core.configuration.config import CouchDBConfig
from peruserd.core.feed.rows import Page, Row
from peruserd.couch import bodies
from peruserd.couch.client import Client
from peruserd.couch.errors import InterruptedRequestError, NothingYetError, TimedOutError
from peruserd.couch.session import Session
from peruserd.couch.sources import DatabaseSource
from peruserd.couch.tokens import NOBODY, Tokens

BEGIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Return `data` as a chunk of HTTP."""
    return b"%x\r\n%s\r\n" % (len(data), data)


class Peer:
    """A server that answers every request with `answer`, and counts requests."""

    def __init__(self, answer: Callable[[socket.socket], None]) -> None:
        self.requests = 0
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        """Accept no more."""
        # A blocked accept goes on after a close; a shutdown ends it.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while connection.recv(65_536):
                self.requests += 1
                self._answer(connection)


@pytest.fixture
def start() -> Iterator[Callable[[Callable[[socket.socket], None]], tuple[Peer, Session]]]:
    """Start a server, and a session to it with a time-out of one second."""
    peers: list[Peer] = []

    def make(answer: Callable[[socket.socket], None]) -> tuple[Peer, Session]:
        peers.append(Peer(answer))
        return peers[-1], Session(CouchDBConfig(url=peers[-1].url, read_timeout=0.5), Tokens(NOBODY))

    yield make
    for peer in peers:
        peer.close()


def silence(connection: socket.socket) -> None:
    """Answer nothing until the client hangs up."""
    connection.recv(1)


def line_breaks_for_ever(connection: socket.socket) -> None:
    """Begin the answer, and send line breaks."""
    connection.sendall(BEGIN + chunk(b'{"results":[\n'))
    while True:
        time.sleep(0.05)
        connection.sendall(chunk(b"\n"))


def a_beginning_only(connection: socket.socket) -> None:
    """Begin the answer, and send nothing more."""
    connection.sendall(BEGIN + chunk(b'{"results":[\n'))
    silence(connection)


Start = Callable[[Callable[[socket.socket], None]], tuple[Peer, Session]]


# Line breaks are read as long as an answer may be late. Silence ends long before the time of a whole answer is over.
@pytest.mark.parametrize(("answer", "late_seconds"), [(line_breaks_for_ever, 0.1), (a_beginning_only, 60.0)])
def test_an_answer_without_an_end_is_nothing_new(
    monkeypatch: pytest.MonkeyPatch, start: Start, answer: Callable[[socket.socket], None], late_seconds: float
) -> None:
    """A long poll whose answer began and did not end has no rows. The next one uses a new connection."""
    monkeypatch.setattr(bodies, "_LATE_SECONDS", late_seconds)
    peer, http = start(answer)
    with closing(http):
        source = DatabaseSource(Client(http), "_users", long_poll_seconds=0.2)
        assert source.poll(7) == Page([], 7)
        assert source.poll(7) == Page([], 7)
        assert peer.requests == 2
        with pytest.raises(NothingYetError):
            http.request("GET", "/", wait_seconds=0.2)


def test_rows_that_come_late_are_taken(start: Start) -> None:
    """Line breaks before the rows do no harm."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(BEGIN + chunk(b'{"results":[\n') + chunk(b"\n") + chunk(b"\n"))
        time.sleep(0.1)
        connection.sendall(chunk(b'{"seq":8,"id":"a","changes":[]}') + chunk(b'],\n"last_seq":8}\n') + END)

    _, http = start(answer)
    with closing(http):
        assert DatabaseSource(Client(http), "_users", long_poll_seconds=0.2).poll(7) == Page([Row(8, "a")], 8)


@pytest.mark.parametrize("wait_seconds", [0.0, 0.1])
def test_silence_is_a_time_out_and_not_asked_again(start: Start, wait_seconds: float) -> None:
    """A server that accepts a request and sends nothing costs one time-out, not three."""
    peer, http = start(silence)
    with closing(http):
        with pytest.raises(TimedOutError) as caught:
            http.request("GET", "/", wait_seconds=wait_seconds)
        assert not isinstance(caught.value, NothingYetError)
        assert peer.requests == 1


def test_silence_in_the_midst_of_an_answer_is_a_time_out(start: Start) -> None:
    """This is a request that is no long poll."""
    _, http = start(a_beginning_only)
    with closing(http), pytest.raises(TimedOutError):
        http.request("GET", "/")


def test_a_long_poll_under_way_can_be_interrupted(start: Start) -> None:
    """Another thread ends the long poll at once, while line breaks still arrive."""
    begun = threading.Event()

    def answer(connection: socket.socket) -> None:
        begun.set()
        line_breaks_for_ever(connection)

    _, http = start(answer)

    def interrupt() -> None:
        begun.wait()
        http.interrupt()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with closing(http), pytest.raises(InterruptedRequestError):
        http.request("GET", "/", wait_seconds=60.0)
    thread.join()
