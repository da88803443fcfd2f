"""A proxy between a program and a node, which changes paths like a badly configured one."""

import contextlib
import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import quote, unquote, urlsplit

Rewriting = Callable[[str], str | int | bytes]
"""The new path and query, or the proxy's own answer: a status, or JSON."""

_DROPPED = ("transfer-encoding", "connection", "content-length")

_POLL_SECONDS = 0.02


def decoding(path: str) -> str:
    """Decode and encode the path again, like nginx with a path part in `proxy_pass`: each %2F is lost."""
    route, mark, query = path.partition("?")
    return quote(unquote(route), safe="/@:+$,;=") + mark + query


def faithful(path: str) -> str:
    """Pass the path on unchanged."""
    return path


class Proxy:
    """A proxy on a free port before the node at `upstream`, a URL with credentials; a context manager.

    `rewriting` may be set to another one at any time. `url` has the same credentials.
    """

    def __init__(self, upstream: str, rewriting: Rewriting) -> None:
        self.rewriting = rewriting
        self.paths: list[str] = []
        parts = urlsplit(upstream)
        assert parts.hostname is not None
        assert parts.port is not None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self, parts.hostname, parts.port))
        self._server.daemon_threads = True
        # The end of the proxy waits for one such interval.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL_SECONDS,), daemon=True)
        self.url = f"http://{parts.username}:{parts.password}@127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        """Begin to listen."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening. Connections end with their clients."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler_of(proxy: Proxy, host: str, port: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # An answer is two packets. Otherwise the second one would wait until the client confirms the first.
        disable_nagle_algorithm = True

        def handle_any(self) -> None:
            proxy.paths.append(self.path)
            sent = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            path = proxy.rewriting(self.path)
            if isinstance(path, int):
                self._answer(path, [("Content-Type", "text/html")], b"<html>no such page here</html>")
                return
            if isinstance(path, bytes):
                self._answer(200, [("Content-Type", "application/json")], path)
                return
            upstream = http.client.HTTPConnection(host, port, timeout=60)
            try:
                upstream.request(self.command, path, sent or None, dict(self.headers))
                answer = upstream.getresponse()
                self._answer(answer.status, answer.getheaders(), answer.read())
            except (OSError, http.client.HTTPException):
                self._answer(502, [("Content-Type", "text/html")], b"<html>bad gateway</html>")
            finally:
                upstream.close()

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815 - the names the library asks for

        def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in _DROPPED:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                # A client that has ended does not wait for its answer.
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    return Handler
