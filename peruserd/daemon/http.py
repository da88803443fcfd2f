"""The instance's HTTP page: /metrics for Prometheus, /healthz and /readyz for supervisors and load balancers.

`daemon.health` says when an instance is healthy or ready, and `daemon.users_page` answers `/users/{name}`. Every other
path is 404: the page is small on purpose.
"""

import errno
import select
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import disable_created_metrics

from peruserd import ending
from peruserd.core.configuration.decoding import ConfigError, split_address
from peruserd.core.configuration.loopback import host_problem
from peruserd.core.configuration.problems import TemporaryError
from peruserd.daemon.collecting import Exposition, GuardedCollector, Source
from peruserd.daemon.samples import Part
from peruserd.daemon.users_page import IS_GONE, PATH, UsersPage

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

Check = Callable[[], tuple[bool, str]]
"""Says whether a check passes, and in one line why or why not."""

_INDEX: Final = (
    b"peruserd\n\n/metrics       for Prometheus\n/healthz       is the process well\n"
    b"/readyz        are all users served\n/status.json   what this instance does, and what troubles it\n"
    b"/users/{name}  is this user served\n"
)


_READING: Final = ("GET", "HEAD")

# Each answer is of this moment, and none is what a browser might guess it to be.
_HEADERS: Final = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))

# A port that needs a privilege, and an address of a kind that this machine does not have.
_LASTING: Final = frozenset({errno.EACCES, errno.EPERM, errno.EAFNOSUPPORT, errno.EINVAL})

# How often the server checks whether it must stop. The default of 0.5 s would make each stop half a second longer.
_POLL_SECONDS: Final = 0.1


class Page:
    """The WSGI application; without `users` there is no page about users, and without `status` no `/status.json`."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        healthy: Check,
        ready: Check,
        users: UsersPage | None = None,
        status: Callable[[], bytes] | None = None,
    ) -> None:
        self._exposition = Exposition(registry)
        self._users = users
        self._status = status
        self._checks = {"/healthz": healthy, "/readyz": ready}

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer one request."""
        is_about_user = environ.get("PATH_INFO", "").startswith(PATH)
        if self._users is not None and is_about_user and environ["REQUEST_METHOD"] in _READING:
            return self._users(environ, start_response)
        status, kind, body = self._answer(environ)
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body))), *_HEADERS])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _answer(self, environ: "WSGIEnvironment") -> tuple[str, str, bytes]:
        plain = "text/plain; charset=utf-8"
        path = environ.get("PATH_INFO", "")
        if environ["REQUEST_METHOD"] not in _READING:
            return "405 Method Not Allowed", plain, b"only GET and HEAD\n"
        if path == "/metrics":
            encode, kind = _encoder(environ.get("HTTP_ACCEPT", ""))
            return "200 OK", kind, self._exposition.write(encode)
        if path in self._checks:
            well, why = self._checks[path]()
            return ("200 OK" if well else "503 Service Unavailable"), plain, f"{why}\n".encode()
        if path == "/status.json" and self._status is not None:
            return "200 OK", "application/json", self._status()
        if path == "/":
            return "200 OK", plain, _INDEX
        return "404 Not Found", plain, b"there is /metrics, /healthz, /readyz, /status.json and /users/{name}\n"


def _encoder(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    """Return how metrics are written for a client, and the name of that form.

    The library fails if the versions in the client's header are no numbers. Such a client gets the usual form.
    """
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):
        return choose_encoder("")


# Each connection takes a thread and a descriptor of the supervisor, which needs both for its listeners. The limit
# leaves room for all waits at the page about users, and for scrapes and checks.
_MAX_CONNECTIONS: Final = 200

# If no descriptor is left, a connection stays in the queue, and the server would try to accept it again at once.
_PAUSE_SECONDS: Final = 0.2


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    # Many clients ask about users at once. With this backlog the kernel keeps the next scrape waiting instead of
    # dropping it.
    request_queue_size = 128

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._places = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        super().__init__(*args, **kwargs)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Take a connection, or pause if that fails, so that the thread does not spin."""
        try:
            return super().get_request()
        except OSError:
            _pause()
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, or hang up if there are too many connections."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and release the place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def server_bind(self) -> None:
        # WSGIServer would look up the host's name here, which can hang for many seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


def _pause() -> None:
    time.sleep(_PAUSE_SECONDS)


class _Server6(_Server):
    address_family = socket.AF_INET6


# Requests of these versions need no Host header.
_WITHOUT_HOST: Final = frozenset({"HTTP/0.9", "HTTP/1.0"})


class _Quiet(WSGIRequestHandler):
    # A client that sends nothing must not hold its thread for ever.
    timeout = 30
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(message)s\n"

    def parse_request(self) -> bool:
        """Read the head of a request; return whether it can be answered, and refuse it if not."""
        if not super().parse_request():
            return False
        hosts = [str(each) for each in self.headers.get_all("Host", ())]
        problem = host_problem(hosts, needs_host=self.request_version not in _WITHOUT_HOST)
        if problem is not None:
            self.send_error(400, problem)
        return problem is None

    def get_environ(self) -> "WSGIEnvironment":
        environ = super().get_environ()
        environ[IS_GONE] = self._is_gone
        return environ

    def _is_gone(self) -> bool:
        """Say whether the client has hung up: its connection is readable, and has no data."""
        poll = select.poll()
        poll.register(self.connection, select.POLLIN)
        if not poll.poll(0):
            return False
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Log nothing, because each scrape would be a line."""


class HTTPServer:
    """Serves a page from a thread. `port` is the port in use, also if the kernel chose it (port 0)."""

    def __init__(self, page: Page, host: str, port: int) -> None:
        kind = _Server6 if ":" in host else _Server
        self._server = make_server(host, port, page, server_class=kind, handler_class=_Quiet)
        self.host = host
        self.port = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": _POLL_SECONDS}, name="http", daemon=True
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the server."""
        # `shutdown` waits until the thread has ended. So another thread calls it, for which nothing waits.
        asking = threading.Thread(target=self._server.shutdown, name="http-stop", daemon=True)
        asking.start()
        ending.join(self._thread)
        self._server.server_close()


def registry_of(parts: Mapping[str, Part]) -> CollectorRegistry:
    """Return a registry of these parts by name, and of Prometheus' own ones for this process."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    of_python: dict[str, Source] = {
        "process": ProcessCollector(registry=None).collect,
        "platform": PlatformCollector(registry=None).collect,
        # This one always registers itself, so it gets a registry of its own.
        "gc": GCCollector(registry=CollectorRegistry()).collect,
    }
    registry.register(GuardedCollector(parts, of_python))
    return registry


def serve(page: Page, listen: str) -> HTTPServer:
    """Begin to serve a page at the configured address; raises ConfigError if that is impossible.

    Another program can give the port free, and an address can still come up. So that raises TemporaryError.
    """
    host, port = split_address(listen)
    try:
        server = HTTPServer(page, host, port)
    except OSError as error:
        problem = f"http.listen: cannot listen on {listen}: {error.strerror}"
        if error.errno in _LASTING:
            raise ConfigError([problem]) from error
        advice = "; end what uses the port, or choose another one" if error.errno == errno.EADDRINUSE else ""
        raise TemporaryError([problem + advice]) from error
    server.start()
    return server
