"""Requests over a network that drops packets: they end in time, and at once when they are interrupted."""

import socket
import threading
from collections.abc import Iterator

import pytest

from peruserd.core.configuration.config import CouchDBConfig
from peruserd.couch import errors
from peruserd.couch.adapter import Sockets
from peruserd.couch.lookups import Lookups, LookupTimedOutError
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


def session_to(scheme: str, port: int, seconds: float, host: str = "127.0.0.1") -> Session:
    """Return a session that waits so long for a connection and for an answer."""
    url = f"{scheme}://{host}:{port}"
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


class NameServers:
    """Name servers that answer only once they are told to. `asked` are the hosts in the order of the questions."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1))]
        self._may_answer = threading.Event()

    def look_up(self, host: str, _port: int, *, flags: int = 0, **_options: object) -> list[object]:
        """Take the place of the system's call."""
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "this is no address")
        self.asked.append(host)
        assert self._may_answer.wait(PATIENCE_SECONDS)
        return list(self.found)

    def answer(self) -> None:
        """Answer all questions."""
        self._may_answer.set()


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServers]:
    """Replace the name servers by silent ones."""
    servers = NameServers()
    monkeypatch.setattr(socket, "getaddrinfo", servers.look_up)
    yield servers
    servers.answer()
    eventually(lambda: not any(each.name == "lookup" for each in threading.enumerate()), "all look-ups have ended")


def never() -> bool:
    """Say that nobody has interrupted."""
    return False


def test_name_servers_that_do_not_answer_hold_up_a_request_for_its_time_only(silent: NameServers) -> None:
    """The system's call takes minutes. A thread that waits for it that long would be taken for one that hangs."""
    error = Waiting(session_to("http", 1, seconds=0.2, host="silent.example")).end()
    assert isinstance(error, errors.UnreachableError)
    assert "no name server has answered within 0.2 s" in str(error)
    # Another try of the same request would wait for the same servers.
    assert silent.asked == ["silent.example"]


def test_a_request_is_interrupted_while_its_host_is_looked_up(silent: NameServers) -> None:
    """An instance that stops need not wait for name servers."""
    waiting = Waiting(session_to("http", 1, seconds=600.0, host="slow.example"))
    eventually(lambda: silent.asked, "the host is being looked up")
    waiting.session.interrupt()
    assert isinstance(waiting.end(), errors.InterruptedRequestError)


def test_all_who_ask_for_a_host_share_one_look_up_and_its_late_answer(silent: NameServers) -> None:
    """Otherwise name servers that are slower than one request would never help anybody, and threads would pile up."""
    lookups = Lookups()
    for _ in range(3):
        with pytest.raises(LookupTimedOutError):
            lookups.addresses("late.example", 80, 0.01, never)
    silent.answer()
    assert lookups.addresses("late.example", 80, PATIENCE_SECONDS, never) == silent.found
    assert silent.asked == ["late.example"]
    # The next one asks anew, because a host can move.
    assert lookups.addresses("late.example", 80, PATIENCE_SECONDS, never) == silent.found
    assert silent.asked == ["late.example"] * 2


def test_an_answer_that_came_too_long_ago_is_not_used(silent: NameServers) -> None:
    """The host may have moved since."""
    now = [0.0]
    lookups = Lookups(lambda: now[0])
    with pytest.raises(LookupTimedOutError):
        lookups.addresses("moved.example", 80, 0.01, never)
    silent.answer()
    eventually(lambda: not any(each.name == "lookup" for each in threading.enumerate()), "the answer has come")
    now[0] = 61.0
    lookups.addresses("moved.example", 80, PATIENCE_SECONDS, never)
    assert silent.asked == ["moved.example"] * 2


def test_each_who_asks_gets_the_error_of_a_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that does not exist is a failure of the request, and so is any other error of the call."""

    def fail(_host: str, _port: int, *, flags: int = 0, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "no such host") if flags else MemoryError

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(MemoryError):
        Lookups().addresses("gone.example", 80, PATIENCE_SECONDS, never)


def test_a_look_up_without_a_thread_is_a_failure_of_the_request(
    monkeypatch: pytest.MonkeyPatch, silent: NameServers
) -> None:
    """Threads can be used up for a moment. The next request may find one."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    session = session_to("http", 1, seconds=5.0, host="threads.example")
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(errors.UnreachableError, match="can't start new thread"):
            session.request("GET", "/x")
    assert silent.asked == []
