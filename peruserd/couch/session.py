"""HTTP to one CouchDB node over requests: keep-alive, credentials, TLS, time-outs on everything, and interruption.

A flag alone does not end a blocked read (PEP 475 retries it), so the session knows its sockets and can shut them down;
a request that ends that way raises InterruptedRequestError.
"""

import socket
import threading
import time
import weakref
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote, urlencode

import msgspec
import requests
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Retry
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ReadTimeoutError

from peruserd import __version__
from peruserd.core.config import CouchDBConfig
from peruserd.core.messages import Credentials
from peruserd.couch import errors

T = TypeVar("T")

# A long poll that is answered this long after the time it was asked to wait is a late one; later than that, none.
_LATE_SECONDS: Final = 5.0

_CHUNK_BYTES: Final = 65_536


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
# that change something are not repeated here: what a broken one did is for the caller to judge.
_RETRY: Final = _Retry(total=2, backoff_factor=0.1, status=0, redirect=0, allowed_methods=frozenset({"GET", "HEAD"}))


class Answer(msgspec.Struct, frozen=True):
    """What a server answered: `request` names the question in messages."""

    request: str
    status: int
    body: bytes

    def decode(self, shape: type[T]) -> T:
        """Return the body as `shape`; UnexpectedAnswerError where it is something else."""
        try:
            return msgspec.json.decode(self.body, type=shape)
        except msgspec.MsgspecError as error:
            raise errors.UnexpectedAnswerError(f"{self.request}: {error}: {self._excerpt()}") from error

    def expect(self, *statuses: int) -> "Answer":
        """Return this answer where its status is one of `statuses`, otherwise raise what the status means."""
        if self.status in statuses:
            return self
        raise self._error()

    @property
    def reason(self) -> str:
        """The server's word for a status that is no success."""
        return self._failure().reason

    def _error(self) -> errors.CouchError:
        failure = self._failure()
        message = f"{self.request}: {self.status} {failure.error}: {failure.reason}"
        if failure.error == "nodedown":
            return errors.NodeDownError(message)
        if failure.reason == "no_majority":
            return errors.NoMajorityError(message)
        if self.status == 404:
            return errors.NotFoundError(message, failure.reason)
        return _BY_STATUS.get(self.status, _class_of(self.status))(message)

    def _failure(self) -> "_Failure":
        try:
            return msgspec.json.decode(self.body, type=_Failure)
        except msgspec.MsgspecError:
            return _Failure(error="answer without a reason", reason=self._excerpt())

    def _excerpt(self) -> str:
        return repr(self.body[:200].decode(errors="replace"))


class _Failure(msgspec.Struct, frozen=True):
    error: str = "error"
    reason: str = ""


_BY_STATUS: Final[dict[int, type[errors.CouchError]]] = {
    401: errors.UnauthorizedError,
    403: errors.UnauthorizedError,
    408: errors.ServerError,
    409: errors.ConflictError,
    429: errors.ServerError,
}


def _class_of(status: int) -> type[errors.CouchError]:
    if status >= 500:
        return errors.ServerError
    return errors.RejectedError if status >= 400 else errors.UnexpectedAnswerError


# Methods whose requests say how long their body is even where there is none.
_WITH_BODY: Final = frozenset({"PUT", "POST"})


class Session:
    """Requests to one node, from any number of threads; `connections` bounds how many stay open."""

    def __init__(self, couchdb: CouchDBConfig, credentials: Credentials | None, *, connections: int = 1) -> None:
        self._url = couchdb.url
        self._timeout = (couchdb.connect_timeout, couchdb.read_timeout)
        self._sockets = _Sockets()
        # What all requests have in common is prepared once. A session of requests would merge and check it each time, a
        # third of what a request takes of the processor, and would look into the environment, whose proxies and
        # ~/.netrc must not reroute or re-identify requests to a node beside this process.
        self._template = requests.Request(
            "GET",
            couchdb.url,
            # A server that compresses holds back the line breaks by which a long poll shows that it is alive.
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "Connection": "keep-alive",
                "User-Agent": f"peruserd/{__version__}",
            },
            auth=None if credentials is None else _basic(credentials),
        ).prepare()
        self._verify: bool | str = True if couchdb.ca_file is None else couchdb.ca_file
        self._cert: str | tuple[str, str] | None = couchdb.client_cert
        if couchdb.client_cert is not None and couchdb.client_key is not None:
            self._cert = (couchdb.client_cert, couchdb.client_key)
        self._adapter = _InterruptibleAdapter(self._sockets, connections)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        body: object = None,
        wait_seconds: float = 0.0,
    ) -> Answer:
        """Send one request and return the answer, whatever its status.

        `path` is already quoted; `body` is sent as JSON; `wait_seconds` is how long the server was asked to wait before
        it answers (a long poll). Raises UnreachableError, TimedOutError or InterruptedRequestError, and NothingYetError
        where a long poll began to answer and did not come to an end.
        """
        named = f"{method} {path}"
        connect, read = self._timeout
        try:
            response = self._adapter.send(
                self._prepared(method, path, params, body),
                stream=wait_seconds > 0,
                timeout=(connect, read + wait_seconds),
                verify=self._verify,
                cert=self._cert,
            )
            content = _patiently(named, response, wait_seconds) if wait_seconds > 0 else response.content
        except OSError as error:
            # What requests raises is one too, and a TLS file that is not there is nothing else.
            raise self._failure(named, error) from error
        return Answer(named, response.status_code, content)

    def interrupt(self) -> None:
        """End every request under way and refuse new ones; for another thread to call."""
        self._sockets.interrupt()

    def close(self) -> None:
        """Close the connections."""
        self._adapter.close()

    def _prepared(
        self, method: str, path: str, params: dict[str, str] | None, body: object
    ) -> requests.PreparedRequest:
        prepared = self._template.copy()
        prepared.method = method
        prepared.url = f"{self._url}{path}?{urlencode(params)}" if params else self._url + path
        if body is not None:
            prepared.body = msgspec.json.encode(body)
            prepared.headers["Content-Type"] = "application/json"
        if body is not None or method in _WITH_BODY:
            prepared.headers["Content-Length"] = str(len(prepared.body or b""))
        return prepared

    def _failure(self, named: str, error: OSError) -> errors.CouchError:
        if self._sockets.interrupted:
            return errors.InterruptedRequestError(f"{named}: interrupted")
        if isinstance(error, requests.Timeout) or _is_silence(error):
            return errors.TimedOutError(f"{named}: no answer in time from {self._url}")
        if isinstance(error, requests.exceptions.SSLError):
            return errors.UnreachableError(f"{named}: TLS to {self._url} failed: {_innermost(error)}")
        return errors.UnreachableError(f"{named}: cannot reach {self._url}: {_innermost(error)}")


def _basic(credentials: Credentials) -> HTTPBasicAuth:
    return HTTPBasicAuth(credentials.username.encode(), credentials.password.value.encode())


def quoted(segment: str) -> str:
    """Return one path segment with everything quoted that is not plain, slashes included."""
    return quote(segment, safe="")


def _patiently(named: str, response: requests.Response, wait_seconds: float) -> bytes:
    """Return the body of a long poll's answer.

    PouchDB Server begins to answer at once, takes no notice of the time it is asked to wait, and sends a line break
    now and then for ever; when the database is deleted meanwhile, not even that.
    """
    patience_ends = time.monotonic() + wait_seconds + _LATE_SECONDS
    body = bytearray()
    with response:
        try:
            for chunk in response.iter_content(_CHUNK_BYTES):
                body += chunk
                if not chunk.strip() and time.monotonic() > patience_ends:
                    raise errors.NothingYetError(f"{named}: no end of the answer {wait_seconds:g} s after it began")
        except requests.ConnectionError as error:
            if _is_silence(error):
                raise errors.NothingYetError(f"{named}: the answer began and went silent") from error
            raise
    return bytes(body)


def _is_silence(error: OSError) -> bool:
    """Say whether this is a time-out in the midst of an answer, which requests calls a broken connection."""
    return any(isinstance(each, ReadTimeoutError) for each in error.args)


def _innermost(error: BaseException) -> str:
    """Return the words of the error at the bottom: urllib3 wraps a plain 'Connection refused' three times."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__


class _Sockets:
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
        with self._lock:
            if self.interrupted:
                sock.close()
                raise ConnectionAbortedError("the session was interrupted")
            self._open.add(sock)

    def interrupt(self) -> None:
        with self._lock:
            self.interrupted = True
            sockets = list(self._open)
        for sock in sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                # Closed or never connected: no read can hang on it.
                continue


class _InterruptibleAdapter(HTTPAdapter):
    """An adapter whose connections tell a `_Sockets` of theirs."""

    def __init__(self, sockets: _Sockets, connections: int) -> None:
        self._pools = _pool_classes(sockets)
        super().__init__(pool_connections=1, pool_maxsize=connections, max_retries=_RETRY)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools


def _pool_classes(sockets: _Sockets) -> dict[str, type[HTTPConnectionPool]]:
    class PlainConnection(HTTPConnection):
        def connect(self) -> None:
            sockets.refuse_if_interrupted()
            super().connect()
            sockets.opened(self.sock)

    class SecureConnection(HTTPSConnection):
        def connect(self) -> None:
            sockets.refuse_if_interrupted()
            super().connect()
            sockets.opened(self.sock)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = PlainConnection

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = SecureConnection

    return {"http": PlainPool, "https": SecurePool}
