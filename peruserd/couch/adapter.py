"""Connections that another thread can end: an adapter for `requests`, through which sessions send."""

import socket
import threading
import weakref
from collections.abc import Iterable
from http.client import HTTPResponse
from typing import Any, Final, Self

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Retry
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import ConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
)

from peruserd.couch.allowance import Allowance, response_class
from peruserd.couch.lookups import LOOKUPS, LookupTimedOutError


class _Retry(Retry):
    """Retries after a broken connection, not after a time-out: three time-outs take longer than a supervisor waits."""

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
        took_too_long = isinstance(error, ConnectTimeoutError) or (
            isinstance(error, NameResolutionError) and isinstance(error.__cause__, LookupTimedOutError)
        )
        if took_too_long and _pool is not None:
            raise MaxRetryError(_pool, url, error) from error
        return super().increment(method, url, response, error, _pool, _stacktrace)


MAX_TRIES: Final = 3
"""How often a request is sent at most."""

# The server can close a kept-alive connection just as it is used again, so a read gets a second try. A request that
# changes something is not repeated here, because only the caller can judge what a broken request did. An answer is
# never a reason to try again: urllib3 would read an answer with `Retry-After` to its end, of any size, and drop it.
_RETRY: Final = _Retry(
    total=MAX_TRIES - 1,
    backoff_factor=0.1,
    status=0,
    redirect=0,
    allowed_methods=frozenset({"GET", "HEAD"}),
    respect_retry_after_header=False,
)
_NO_RETRY: Final = _Retry(total=0, read=False)


class Sockets:
    """The open sockets of a session, so that another thread can shut them down."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self.interrupted = False

    def add(self, sock: socket.socket) -> None:
        """Note a socket, or close it and raise ConnectionAbortedError after an interruption."""
        with self._lock:
            if not self.interrupted:
                self._open.add(sock)
                return
        sock.close()
        self._refuse_if_interrupted()

    def connected(self, host: str, port: int, timeout: float | None, options: Iterable[Any]) -> socket.socket:
        """Return a socket that is connected to the first address of a host that answers. Raises OSError.

        To look the host up, and to connect to one address, may each take the time-out.
        """
        self._refuse_if_interrupted()
        error = OSError(f"{host} has no address")
        for family, kind, protocol, _, address in LOOKUPS.addresses(host, port, timeout, lambda: self.interrupted):
            sock = socket.socket(family, kind, protocol)
            try:
                for option in options:
                    sock.setsockopt(*option)
                sock.settimeout(timeout)
                self.add(sock)
                sock.connect(address)
            except OSError as failure:
                sock.close()
                error = failure
            else:
                return sock
        raise error

    def _refuse_if_interrupted(self) -> None:
        if self.interrupted:
            raise ConnectionAbortedError("the session was interrupted")

    def interrupt(self) -> None:
        """Shut all sockets down, and refuse new ones."""
        with self._lock:
            self.interrupted = True
            sockets = list(self._open)
        LOOKUPS.wake()
        for sock in sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                # The socket is closed or was never connected, so no read can hang on it.
                continue


class InterruptibleAdapter(HTTPAdapter):
    """An adapter for one server, whose connections register with a `Sockets`, and whose answers have a time limit."""

    def __init__(self, sockets: Sockets, connections: int, *, repeat_reads: bool) -> None:
        # The thread that sends a request also reads the answer, so the allowance is thread-local.
        current = self._current = threading.local()
        # A class is part of a reference cycle. It must not refer to the adapter, because the adapter's connections are
        # closed once nothing refers to it.
        self._pools = _pool_classes(sockets, response_class(lambda: current.allowance))
        self._pool: ConnectionPool | None = None
        retry = _RETRY if repeat_reads else _NO_RETRY
        super().__init__(pool_connections=1, pool_maxsize=connections, max_retries=retry)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make pools with these connection classes."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> ConnectionPool:
        """Return the pool of connections to the server. The first request alone chooses it by its address and TLS.

        To choose it again for each request would take a tenth of the request's processor time.
        """
        # Another thread may close the connections meanwhile.
        pool = self._pool
        if pool is None:
            pool = self._pool = super().get_connection_with_tls_context(*args, **kwargs)
        return pool

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:  # noqa: ARG002 - there are none
        """Return the path and the query of a request."""
        return request.path_url

    def close(self) -> None:
        """Close the connections. A later request opens another one."""
        super().close()
        self._pool = None

    def ask(self, request: requests.PreparedRequest, allowance: Allowance, **options: Any) -> requests.Response:
        """Send a request, and return the answer once its head has arrived; `options` are those of `send`.

        Reading the answer raises TimedOutError once the allowance is used up. All tries share one allowance.
        """
        self._current.allowance = allowance
        return self.send(request, stream=True, **options)


def _pool_classes(sockets: Sockets, responses: type[HTTPResponse]) -> dict[str, type[HTTPConnectionPool]]:
    class PlainConnection(HTTPConnection):
        response_class = responses

        def _new_conn(self) -> socket.socket:
            return _connected(sockets, self)

    class SecureConnection(HTTPSConnection):
        response_class = responses

        def _new_conn(self) -> socket.socket:
            sock = _connected(sockets, self)
            # The library takes this socket apart for TLS. A second one of the same connection can still be shut down.
            self._second = sock.dup()
            sockets.add(self._second)
            return sock

        def connect(self) -> None:
            try:
                super().connect()
            finally:
                if (second := getattr(self, "_second", None)) is not None:
                    second.close()
            sockets.add(self.sock)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = PlainConnection

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = SecureConnection

    return {"http": PlainPool, "https": SecurePool}


def _connected(sockets: Sockets, connection: HTTPConnection) -> socket.socket:
    """Return a connected socket, or raise the errors by which the library knows what happened."""
    try:
        # The library's own `host` has lost a final dot, which keeps search domains out.
        return sockets.connected(
            connection._dns_host,  # noqa: SLF001 - there is no public name for it
            connection.port,
            connection.timeout,
            connection.socket_options or (),
        )
    except socket.gaierror as error:
        raise NameResolutionError(connection.host, connection, error) from error
    except TimeoutError as error:
        raise ConnectTimeoutError(connection, f"no connection to {connection.host} in time") from error
    except OSError as error:
        raise NewConnectionError(connection, f"no connection to {connection.host}: {error}") from error
