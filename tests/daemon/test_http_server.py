"""The HTTP server under clients that are slow, many, huge or odd."""

import errno
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from peruserd.core.common.http_head import MAX_HEAD_BYTES
from peruserd.daemon import http_server
from peruserd.daemon.http_messages import Answer, Request, in_words
from peruserd.daemon.http_server import HTTPServer
from peruserd.daemon.sharing import Shared
from tests.waiting import PATIENCE_SECONDS, eventually

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def _fine(request: Request) -> Answer:
    return in_words("200 OK", request.head.path.decode())


@contextmanager
def _serving(application: Callable[[Request], Answer] = _fine, **more: Any) -> Iterator[HTTPServer]:
    server = HTTPServer(application, "127.0.0.1", 0, **more)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _connect(server: HTTPServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS)


def _asked(server: HTTPServer, sent: bytes) -> bytes:
    """Return the whole answer to these bytes; empty if the server only hangs up."""
    with _connect(server) as client:
        client.sendall(sent)
        return client.makefile("rb").read()


def _threads() -> int:
    return sum(each.name == "http-client" for each in threading.enumerate())


@pytest.fixture(scope="module")
def server() -> Iterator[HTTPServer]:
    """Serve the path of each request, from one port for all tests."""
    with _serving() as running:
        yield running


def test_an_answer_has_the_headers_that_keep_it_from_other_sites(server: HTTPServer) -> None:
    """Nobody keeps it, guesses its type, or reads it from a page of another site."""
    head, _, body = _asked(server, GET).decode().partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert (status, body) == ("HTTP/1.0 200 OK", "/\n")
    assert headers == {
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": "2",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "Connection": "close",
    }


def test_head_is_get_without_a_body(server: HTTPServer) -> None:
    """That holds for refusals too."""
    assert _asked(server, b"HEAD / HTTP/1.0\r\n\r\n").endswith(b"\r\n\r\n")
    assert _asked(server, b"HEAD / HTTP/1.1\r\n\r\n").endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), 400),
        (b"hello\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/0.9\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET http://evil.example.org/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: \x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000000\r\n\r\n" + bytes(3_000_000), 405),
        (b"OPTIONS / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example.org\r\n\r\n", 405),
        (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 100 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 1_000_000, 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500, 200),
        (b"GET /%00%ff HTTP/1.1\r\nHost: localhost\r\n\r\n", 500),
    ],
    ids=lambda value: None if isinstance(value, bytes) else str(value),
)
def test_odd_requests_are_answered_in_one_line(server: HTTPServer, sent: bytes, status: int) -> None:
    """Whatever is sent, the answer arrives whole, although the client is still sending, and quotes nothing."""
    with _connect(server) as client:
        try:
            client.sendall(sent)
        except ConnectionError:
            # The server has read enough. Its answer is there all the same.
            assert len(sent) > MAX_HEAD_BYTES
        answer = client.makefile("rb").read()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 %d " % status)
    assert body.count(b"\n") == 1
    assert b"evil" not in answer
    assert b"Access-Control" not in answer


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"\r\n\r\n\r\n"])
def test_who_asks_nothing_gets_nothing(server: HTTPServer, sent: bytes) -> None:
    """A check of the port alone is no request."""
    with _connect(server) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        assert client.makefile("rb").read() == b""


def test_an_application_that_fails_is_500_and_one_line_of_the_log(server: HTTPServer) -> None:
    """The client learns nothing of the program, and the next request is answered."""
    with capture_logs() as logged:
        answer = _asked(server, b"GET /%ff HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 500 ")
    assert b"Unicode" not in answer
    assert [line["event"] for line in logged] == ["http request could not be answered"]
    assert _asked(server, GET).startswith(b"HTTP/1.0 200 ")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"localhost:9984", 200),
        (b"LOCALHOST.", 200),
        (b"127.0.0.1", 200),
        (b"[::1]:9984", 200),
        (b"192.0.2.7:9984", 200),
        (b"[2001:db8::1]", 200),
        (b"metrics.example.org:9984", 200),
        (b"Metrics.Example.org.", 200),
        (b"evil.example.org", 421),
        (b"metrics.example.org.evil.example.org", 421),
        (b"127.0.0.1.evil.example.org", 421),
        (b"2130706433", 421),
        (b"localhost:80:80", 400),
        (b"a, b", 400),
        (b"", 421),
    ],
)
def test_a_host_that_nobody_named_is_refused(host: bytes, status: int) -> None:
    """A site can let its name lead to this machine, and would read all pages through a browser here."""
    with _serving(names={"metrics.example.org"}) as server:
        answer = _asked(server, b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 %d " % status)
    assert b"evil" not in answer


def test_slow_clients_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that send nothing, half a request, or take no answer, all at once, give their places to newer ones."""
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 6)
    # No buffer takes it, so the server must wait for the client.
    huge = b"x" * 50_000_000

    def answer(request: Request) -> Answer:
        return Answer("200 OK", "text/plain", huge if request.head.path == b"/huge" else b"small\n")

    before = _threads()
    with _serving(answer) as server, ExitStack() as stack:
        for sent in (b"", b"GET / HT", b"GET /huge HTTP/1.1\r\nHost: localhost\r\n\r\n") * 4:
            slow = stack.enter_context(_connect(server))
            slow.sendall(sent)
        for _ in range(20):
            assert _asked(server, GET).endswith(b"small\n")
            assert _threads() - before <= 6
    eventually(lambda: _threads() == before, "no thread is left")


def test_a_client_that_is_worked_for_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only clients that keep the server waiting lose their places. Without such ones, a newer client is hung up on."""
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 2)
    go = threading.Event()

    def answer(_request: Request) -> Answer:
        go.wait(PATIENCE_SECONDS)
        return in_words("200 OK", "done")

    with _serving(answer) as server, _connect(server) as first, _connect(server) as second:
        for each in (first, second):
            each.sendall(GET)
        eventually(lambda: [each.may_be_given_up for each in list(server._places._taken)] == [False, False])
        assert _asked(server, b"") == b""
        go.set()
        assert [each.makefile("rb").read().endswith(b"done\n") for each in (first, second)] == [True, True]


def test_a_request_must_arrive_as_a_whole_in_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends a byte now and then does not have its time for each byte."""
    clock = [0.0]
    monkeypatch.setattr(http_server, "time", _Time(clock))
    with _serving() as server, _connect(server) as client:
        client.settimeout(0.02)
        answer = b""
        for byte in b"GET / HTTP/1.1\r\nX: " + b"a" * 5_000:
            clock[0] += 1.0
            try:
                client.sendall(bytes([byte]))
                answer += client.recv(10_000)
            except TimeoutError:
                continue
            except ConnectionError:
                break
            if answer:
                break
        assert answer.startswith(b"HTTP/1.0 408 ")


class _Time:
    """A module `time` whose clock the test sets."""

    def __init__(self, clock: list[float]) -> None:
        self._clock = clock

    def monotonic(self) -> float:
        return self._clock[0]


def test_a_connection_that_cannot_be_taken_makes_no_loop_without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """While no descriptor is left the connection waits, and the page answers once there is one."""
    monkeypatch.setattr(http_server, "_PAUSE_SECONDS", 0.01)
    failed: list[None] = []
    with _serving() as server:
        accept = server._listening.accept

        class Refusing:
            """A listening socket that cannot accept at first."""

            def fileno(self) -> int:
                return server_socket.fileno()

            def accept(self) -> Any:
                if len(failed) < 3:
                    failed.append(None)
                    raise OSError(errno.EMFILE, "Too many open files")
                return accept()

            def shutdown(self, how: int) -> None:
                server_socket.shutdown(how)

            def close(self) -> None:
                server_socket.close()

        server_socket = server._listening
        server._listening = Refusing()  # type: ignore[assignment]
        assert _asked(server, GET).startswith(b"HTTP/1.0 200 ")
    assert len(failed) == 3


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Let no thread be started for a client while this list is empty."""
    start = threading.Thread.start
    given: list[None] = []

    def refusing(thread: threading.Thread) -> None:
        if thread.name == "http-client" and not given:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refusing)
    return given


def test_a_check_of_health_is_answered_where_no_thread_can_be_started(
    monkeypatch: pytest.MonkeyPatch, no_threads: list[None]
) -> None:
    """A restart would find no thread either. Other pages are refused, and the places are free again."""
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 1)
    with _serving(quick=[b"/healthz"]) as server:
        for _ in range(3):
            assert _asked(server, GET.replace(b"/ ", b"/healthz ", 1)).startswith(b"HTTP/1.0 200 ")
            assert _asked(server, GET).startswith(b"HTTP/1.0 503 ")
            assert _asked(server, b"\x16\x03\x01").startswith(b"HTTP/1.0 400 ")
        no_threads.append(None)
        assert _asked(server, GET).startswith(b"HTTP/1.0 200 ")


def test_a_silent_client_holds_the_accepting_thread_up_only_shortly(
    monkeypatch: pytest.MonkeyPatch, no_threads: list[None]
) -> None:
    """Without another thread the next client waits for that one. Its answer comes all the same."""
    assert not no_threads
    monkeypatch.setattr(http_server, "_ALONE_SECONDS", 0.5)
    monkeypatch.setattr(http_server, "_HEAD_SECONDS", 2 * PATIENCE_SECONDS)
    with _serving(quick=[b"/healthz"]) as server, ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(_connect(server))
        assert _asked(server, GET.replace(b"/ ", b"/healthz ", 1)).startswith(b"HTTP/1.0 200 ")


def test_a_stop_lets_requests_that_have_arrived_be_answered() -> None:
    """A client that waits for a user hears how that user stands, and one that has asked nothing delays no stop."""
    asked, go = threading.Event(), threading.Event()

    def answer(_request: Request) -> Answer:
        asked.set()
        go.wait(PATIENCE_SECONDS)
        return in_words("200 OK", "done")

    with _serving(answer) as server, _connect(server) as silent, _connect(server) as client:
        client.sendall(GET)
        asked.wait(PATIENCE_SECONDS)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        go.set()
        assert client.makefile("rb").read().endswith(b"done\n")
        stopping.join(PATIENCE_SECONDS)
        assert not stopping.is_alive()
        assert silent.fileno() >= 0


def test_a_port_in_use_is_an_error_at_once(server: HTTPServer) -> None:
    """Two servers on one port are an error of the configuration."""
    with pytest.raises(OSError, match="in use"):
        HTTPServer(_fine, "127.0.0.1", server.port)


class _Turn:
    """A lock that knows how many have asked for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.asked = 0

    def __enter__(self) -> None:
        self.asked += 1
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_an_answer_is_made_once_for_all_who_wait() -> None:
    """Whoever comes while one is being made gets one that was begun later, and all of them get the same."""
    go = threading.Event()
    turn = _Turn()
    made: list[None] = []

    def make() -> bytes:
        made.append(None)
        go.wait(PATIENCE_SECONDS)
        return b"%d" % len(made)

    shared = Shared(make, turn)
    got: list[bytes] = []
    clients = [threading.Thread(target=lambda: got.append(shared.get())) for _ in range(20)]
    clients[0].start()
    eventually(lambda: made)
    for each in clients[1:]:
        each.start()
    eventually(lambda: turn.asked == len(clients))
    go.set()
    for each in clients:
        each.join(PATIENCE_SECONDS)
    assert sorted(got) == [b"1"] + [b"2"] * 19


def test_an_answer_that_fails_fails_for_one() -> None:
    """The next one who asks tries again."""
    answers = iter([None, b"made"])

    def make() -> bytes:
        answer = next(answers)
        if answer is None:
            raise OSError("full")
        return answer

    shared = Shared(make)
    with pytest.raises(OSError, match="full"):
        shared.get()
    assert shared.get() == b"made"
