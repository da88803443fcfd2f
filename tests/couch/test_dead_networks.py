"""Requests over a network that drops packets: they end in time, and at once when they are interrupted."""

import socket
import threading

import pytest

from peruserd.core.configuration.config import CouchDBConfig
from peruserd.couch import errors
from peruserd.couch.adapter import Sockets
from peruserd.couch.session import Session
from peruserd.couch.tokens import NOBODY, Tokens
from tests.swallowing import Death, dead_port
from tests.waiting import PATIENCE_SECONDS, eventually

WAYS = [("http", Death.DROPPING), ("https", Death.DROPPING), ("http", Death.SILENT), ("https", Death.SILENT)]


class Waiting:
    """A request in a thread of its own."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.raised: Exception | None = None
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        try:
            self.session.request("GET", "/x")
        except Exception as error:  # noqa: BLE001 - the test looks at this error
            self.raised = error

    def end(self) -> Exception | None:
        """Return the error of the request, once it has ended."""
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()
        return self.raised


def session_to(scheme: str, port: int, seconds: float) -> Session:
    """Return a session that waits so long for a connection and for an answer."""
    url = f"{scheme}://127.0.0.1:{port}"
    return Session(CouchDBConfig(url=url, connect_timeout=seconds, read_timeout=seconds), Tokens(NOBODY))


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note each attempt to connect."""
    made: list[str] = []
    connect = socket.socket.connect

    def note(sock: socket.socket, address: tuple[str, int]) -> None:
        made.append(address[0])
        connect(sock, address)

    monkeypatch.setattr(socket.socket, "connect", note)
    return made


@pytest.mark.parametrize(("scheme", "how"), WAYS)
def test_a_request_is_interrupted_at_each_of_its_steps(attempts: list[str], scheme: str, how: Death) -> None:
    """A connection, the handshake of TLS and an answer can each be waited for without end."""
    with dead_port(how) as port:
        waiting = Waiting(session_to(scheme, port, seconds=600.0))
        eventually(lambda: attempts, "it has begun to connect")
        waiting.session.interrupt()
        assert isinstance(waiting.end(), errors.InterruptedRequestError)


@pytest.mark.parametrize(("scheme", "how"), WAYS)
def test_a_time_out_is_not_tried_again(attempts: list[str], scheme: str, how: Death) -> None:
    """Three time-outs take longer than whoever waits for the answer has."""
    with dead_port(how) as port:
        error = Waiting(session_to(scheme, port, seconds=0.2)).end()
    assert isinstance(error, errors.TimedOutError)
    assert attempts == ["127.0.0.1"]


def test_a_session_that_was_interrupted_looks_up_no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that does not answer would hold up its thread, and no interruption can end that."""
    sockets = Sockets()
    sockets.interrupt()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: pytest.fail("a host was looked up"))
    with pytest.raises(ConnectionAbortedError):
        sockets.connected("couch.example", 5984, None, ())


def test_each_address_of_a_host_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one that answers is taken. If none does, the last error counts."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (each, port)) for each in ("127.0.0.2", "127.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: found)
        with Sockets().connected("couch.example", port, 5.0, ()) as sock:
            assert sock.getpeername()[0] == "127.0.0.1"
    with pytest.raises(ConnectionRefusedError):
        Sockets().connected("couch.example", port, 5.0, ())
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: [])
    with pytest.raises(OSError, match="has no address"):
        Sockets().connected("couch.example", port, 5.0, ())
