"""Clients for the tests of `couch` and `listener`, and servers whose answers are given, byte by byte."""

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Self

import msgspec

from peruserd.core.cluster.cluster_database import ADMINS_ONLY, MARKER, MARKER_ID, copies_wanted
from peruserd.core.configuration.config import CouchDBConfig, DatabasesConfig
from peruserd.core.configuration.decoding import load
from peruserd.core.processes.messages import Credentials
from peruserd.couch.client import Client
from peruserd.couch.cluster_database import ClusterDatabase, Surroundings
from peruserd.couch.session import Session
from peruserd.couch.tokens import NOBODY, Tokens, basic_token
from tests.waiting import PATIENCE_SECONDS


def settings_of(url: str, **more: object) -> tuple[CouchDBConfig, Credentials | None]:
    """Split a URL with credentials, as the configuration does; `more` are other settings."""
    loaded = load(f"[couchdb]\nurl = {json.dumps(url)}", {}, "test")
    credentials = None
    if loaded.username is not None and loaded.password is not None:
        credentials = Credentials(loaded.username, loaded.password)
    return msgspec.structs.replace(loaded.config.couchdb, **more), credentials


def session_to(url: str, *, connections: int = 1, **more: object) -> Session:
    """Return a session to a URL whose credentials go with each request."""
    couchdb, credentials = settings_of(url, **more)
    return Session(couchdb, tokens_of(credentials), connections=connections)


def tokens_of(credentials: Credentials | None) -> Tokens:
    """Return tokens with the password itself, which never change."""
    return Tokens(NOBODY if credentials is None else basic_token(credentials))


def connect(url: str, *, connections: int = 1, **more: object) -> Client:
    """Return a client of a node, given its URL with credentials."""
    return Client(session_to(url, connections=connections, **more))


def make_lease_database(client: Client) -> ClusterDatabase:
    """Make the database of the leases as an instance beside the client's node leaves it.

    An instance reads all copies before each of its three writes, which takes three times as long.
    """
    database = ClusterDatabase(client, "peruserd", mend=True)
    node, membership = client.node_name(), client.membership()
    assert node is not None
    if client.shard_map(node, database.name) is None:
        client.create_database(database.name, DatabasesConfig(q=1, n=copies_wanted(len(membership.cluster_nodes))))
        client.put_document(database.name, MARKER_ID, MARKER)
        client.put_security(database.name, ADMINS_ONLY)
    exists = client.shard_map(node, "_users") is not None
    state = database.check(Surroundings(node, membership.all_nodes, membership.cluster_nodes, exists), 0.0)
    assert state.usable, state
    return database


class Request:
    """A request as it arrived."""

    def __init__(self, head: bytes, body: bytes) -> None:
        line, *headers = head.decode("latin-1").split("\r\n")
        self.method, self.path, _ = line.split(" ")
        self.headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in headers)}
        self.body = body


def answer(status: int, body: object = None, *, close: bool = False) -> bytes:
    """Return the bytes of an HTTP answer; a body that is not bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    ending = "Connection: close\r\n" if close else ""
    return f"HTTP/1.1 {status} Said\r\nContent-Length: {len(content)}\r\n{ending}\r\n".encode() + content


class Conversation:
    """One connection to a `TalkingServer`, for its script; `number` counts connections from 1."""

    def __init__(self, server: "TalkingServer", sock: socket.socket, number: int) -> None:
        self._server = server
        self._sock = sock
        self.number = number

    def requests(self) -> Iterator[Request]:
        """Yield requests until the client hangs up."""
        with self._sock.makefile("rb") as stream:
            while True:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    line = stream.readline()
                    if not line:
                        return
                    head += line
                request = Request(head[:-4], b"")
                request.body = stream.read(int(request.headers.get("content-length", "0")))
                self._server.requests.append(request)
                yield request

    def request(self) -> Request:
        """Return the next request."""
        return next(self.requests())

    def send(self, data: bytes) -> None:
        """Send these bytes."""
        self._sock.sendall(data)

    def cut(self) -> None:
        """End the connection."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def pause(self, seconds: float) -> None:
        """Send nothing for a while, or until the server is closed."""
        self._server.closing.wait(seconds)

    def hold(self) -> None:
        """Send nothing until the server is closed."""
        self._server.closing.wait()


class TalkingServer:
    """A server on a free port, whose script handles each connection; a context manager."""

    def __init__(self, script: Callable[[Conversation], None], tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.closing = threading.Event()
        self._script = script
        self._tls = tls
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://adm:pass@127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        """Begin to listen."""
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections and stop listening."""
        self.closing.set()
        for sock in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)

    def _start(self, run: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                self._start(self._talk, sock, self.connections)

    def _talk(self, sock: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError, StopIteration), contextlib.ExitStack() as stack:
            stack.enter_context(sock)
            if self._tls is not None:
                sock = stack.enter_context(self._tls.wrap_socket(sock, server_side=True))
            self._sockets.append(sock)
            self._script(Conversation(self, sock, number))


def answering(answers: Mapping[tuple[str, str], tuple[int, object]]) -> Callable[[Conversation], None]:
    """Return a script that gives the same answer to each method and path (without its query), and 404 to others."""

    def script(conversation: Conversation) -> None:
        for request in conversation.requests():
            status, body = answers.get(
                (request.method, request.path.partition("?")[0]), (404, {"error": "not_found", "reason": "missing"})
            )
            conversation.send(answer(status, body))

    return script
