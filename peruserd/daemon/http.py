"""The instance's HTTP page: /metrics for Prometheus, /healthz and /readyz for whoever restarts or routes.

Healthy means that the supervisor's loop goes round and no listener has given up; ready, that every range this instance
listens to has caught up. Anything else is 404: the page is small on purpose.
"""

import socket
import socketserver
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from peruserd import ending

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

Check = Callable[[], tuple[bool, str]]
"""Says whether all is well, and in one line why or why not."""

_INDEX: Final = b"peruserd\n\n/metrics  for Prometheus\n/healthz  is the process well\n/readyz   are all users served\n"


class Page:
    """The WSGI application."""

    def __init__(self, registry: CollectorRegistry, *, healthy: Check, ready: Check) -> None:
        self._registry = registry
        self._checks = {"/healthz": healthy, "/readyz": ready}

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer one request."""
        status, kind, body = self._answer(environ)
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _answer(self, environ: "WSGIEnvironment") -> tuple[str, str, bytes]:
        plain = "text/plain; charset=utf-8"
        path = environ.get("PATH_INFO", "")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return "405 Method Not Allowed", plain, b"only GET and HEAD\n"
        if path == "/metrics":
            encode, kind = choose_encoder(environ.get("HTTP_ACCEPT", ""))
            return "200 OK", kind, encode(self._registry)
        if path in self._checks:
            well, why = self._checks[path]()
            return ("200 OK" if well else "503 Service Unavailable"), plain, f"{why}\n".encode()
        if path == "/":
            return "200 OK", plain, _INDEX
        return "404 Not Found", plain, b"there is /metrics, /healthz and /readyz\n"


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # WSGIServer asks the resolver for the host's name here, which can hang for many seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    # A client that sends nothing must not keep its thread for ever.
    timeout = 30

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Write no line for each scrape."""


class HTTPServer:
    """Serves a page from a thread; `port` is the one in use, also where a free one was asked for."""

    def __init__(self, page: Page, host: str, port: int) -> None:
        kind = _Server6 if ":" in host else _Server
        self._server = make_server(host, port, page, server_class=kind, handler_class=_Quiet)
        self.host = host
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        # To ask the thread to end is to wait for it: that is left to a thread that need not end.
        asking = threading.Thread(target=self._server.shutdown, name="http-stop", daemon=True)
        asking.start()
        ending.join(self._thread)
        self._server.server_close()
