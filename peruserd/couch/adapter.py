"""Connections that another thread can end: the adapter of requests that a session sends through."""

import socket
import threading
import weakref
from http.client import HTTPResponse
from typing import Any, Final, Self

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Retry
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ReadTimeoutError

from peruserd.couch.allowance import Allowance, response_class


class _Retry(Retry):
    """Retries what broke, and not what took too long: three silences in a row outlast the patience of a supervisor."""

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: Any = None,
        error: Exception | None = None,
        _pool: Any = None,
        _stacktrace: Any = None,
    ) -> Self:
        if isinstance(error, ReadTimeoutError):
            raise error
        return super().increment(method, url, response, error, _pool, _stacktrace)


# A connection kept alive can be closed by the server just as it is used again; a second try finds that out. Requests
# that change something are not repeated here: what a broken one did is for the caller to judge. An answer is never a
# reason to ask again: one with `Retry-After` in it urllib3 would read to its end, however large it is, and throw away.
_RETRY: Final = _Retry(
    total=2,
    backoff_factor=0.1,
    status=0,
    redirect=0,
    allowed_methods=frozenset({"GET", "HEAD"}),
    respect_retry_after_header=False,
)
_NO_RETRY: Final = _Retry(total=0, read=False)


class Sockets:
    """The sockets a session has open, so that another thread can shut them down."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self.interrupted = False

    def refuse_if_interrupted(self) -> None:
        """Raise what a connection that cannot be made raises; before it is made, which can take a while."""
        if self.interrupted:
            raise ConnectionAbortedError("the session was interrupted")

    def opened(self, sock: socket.socket) -> None:
        """Take note of a new connection's socket."""
        with self._lock:
            if self.interrupted:
                sock.close()
                raise ConnectionAbortedError("the session was interrupted")
            self._open.add(sock)

    def interrupt(self) -> None:
        """Shut all down, and refuse new ones."""
        with self._lock:
            self.interrupted = True
            sockets = list(self._open)
        for sock in sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                # Closed or never connected: no read can hang on it.
                continue


class InterruptibleAdapter(HTTPAdapter):
    """An adapter whose connections tell a `Sockets` of theirs, and whose answers take no longer than allowed."""

    def __init__(self, sockets: Sockets, connections: int, *, repeat_reads: bool) -> None:
        # The answer to a request is read by the thread that sends it.
        current = self._current = threading.local()
        # A class is a part of a cycle. It must not hold the adapter, whose connections end when nobody has it any more.
        self._pools = _pool_classes(sockets, response_class(lambda: current.allowance))
        retry = _RETRY if repeat_reads else _NO_RETRY
        super().__init__(pool_connections=1, pool_maxsize=connections, max_retries=retry)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools of such connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def ask(self, request: requests.PreparedRequest, allowance: Allowance, **options: Any) -> requests.Response:
        """Send a request, and return its answer as it begins; `options` are those of `send`.

        Reading the answer raises TimedOutError once the allowance is used up. It is one for all tries together.
        """
        self._current.allowance = allowance
        return self.send(request, stream=True, **options)


def _pool_classes(sockets: Sockets, responses: type[HTTPResponse]) -> dict[str, type[HTTPConnectionPool]]:
    class PlainConnection(HTTPConnection):
        response_class = responses

        def connect(self) -> None:
            sockets.refuse_if_interrupted()
            super().connect()
            sockets.opened(self.sock)

    class SecureConnection(HTTPSConnection):
        response_class = responses

        def connect(self) -> None:
            sockets.refuse_if_interrupted()
            super().connect()
            sockets.opened(self.sock)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = PlainConnection

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = SecureConnection

    return {"http": PlainPool, "https": SecurePool}
