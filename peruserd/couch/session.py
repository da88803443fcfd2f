"""HTTP to one CouchDB node, over `requests`: keep-alive, tokens, TLS, time-outs on everything, and interruption.

A flag does not end a blocked read, because PEP 475 retries it. So the session knows its sockets and can shut them down.
A request that ends like this raises InterruptedRequestError.
"""

import time
from functools import lru_cache, partial
from typing import Any, Final, TypeVar
from urllib.parse import quote, unquote, urlencode

import msgspec
import requests

from peruserd import __version__, threads
from peruserd.core.common.secret import Secret
from peruserd.core.configuration.config import CouchDBConfig
from peruserd.core.processes.messages import Token
from peruserd.couch import errors
from peruserd.couch.adapter import MAX_TRIES, InterruptibleAdapter, Sockets
from peruserd.couch.allowance import Allowance
from peruserd.couch.answers import Answer
from peruserd.couch.bodies import bounded, chunks, is_silence, patiently, whole_seconds
from peruserd.couch.cookies import NAME as COOKIE
from peruserd.couch.cookies import session_cookie
from peruserd.couch.tally import TALLY
from peruserd.couch.tokens import NOBODY, Tokens

T = TypeVar("T")

MAX_BYTES: Final = 16 << 20
"""The default limit of an answer: ten thousand names of databases take 2.4 MB."""


# If a write had to wait longer than this for a token, it must be decided again: within hours a name can be another
# user's.
_PROMPT_SECONDS: Final = 10.0

# A request is repeated at most this often with a newer token. After that the answer counts as one about the path.
_MAX_REPEATS: Final = 2

_NODES: Final = "/_node/"

# A status below this only announces an answer. The library skips 100 and no other.
_FIRST_FINAL: Final = 200

_REFUSING: Final = frozenset({401, 403})

# Requests with these methods have a Content-Length even without a body.
_WITH_BODY: Final = frozenset({"PUT", "POST"})


class Session:
    """Requests to one node, from any number of threads; at most `connections` connections stay open.

    - `tokens` has the token that requests carry.
    - `patience_seconds` is how long a request waits while the server does not let this instance in.
    - Without `repeat_reads` no request is sent twice, not even a read after a broken connection.
    """

    def __init__(
        self,
        couchdb: CouchDBConfig,
        tokens: Tokens,
        *,
        connections: int = 1,
        patience_seconds: float = 0.0,
        repeat_reads: bool = True,
    ) -> None:
        self._url = couchdb.url
        self._tokens = tokens
        self._patience = patience_seconds
        self._timeout = (couchdb.connect_timeout, couchdb.read_timeout)
        self._sockets = Sockets()
        self._template = _template(couchdb.url)
        self._templates = (NOBODY, self._template, self._template)
        # The value is never false, because for `requests` that would mean not to verify at all.
        self._verify: bool | str = couchdb.ca_file or True
        self._cert: str | tuple[str, str] | None = couchdb.client_cert or None
        if couchdb.client_cert and couchdb.client_key:
            self._cert = (couchdb.client_cert, couchdb.client_key)
        self._adapter = InterruptibleAdapter(self._sockets, connections, repeat_reads=repeat_reads)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        body: object = None,
        wait_seconds: float = 0.0,
        limit_bytes: int = MAX_BYTES,
        within_seconds: float = float("inf"),
        prompt: bool = False,
    ) -> Answer:
        """Send one request and return the answer, whatever its status.

        `path` is already quoted, and `body` is sent as JSON. `wait_seconds` is how long the server was asked to wait
        before it answers (a long poll). `within_seconds` is a limit for its silence, if the configuration's is longer.
        This method raises:

        - UnreachableError or InterruptedRequestError.
        - TimedOutError if the server is silent for too long, or if the whole answer takes too long.
        - NothingYetError if a long poll began to answer and did not end.
        - RefusedError if nothing may be sent.
        - TooLargeError if the answer has more than `limit_bytes`.

        A `prompt` request depends on facts that were just read. If it had to wait so long for a token that they may
        have changed, RefusedError is raised.

        If an answer seems to refuse the token, the token is checked first:

        - If the server takes the token, the answer is about the path, and is returned.
        - If the server does not take the token, the request had no effect, and is sent again with the next token.
        """
        late_at = time.monotonic() + _PROMPT_SECONDS if prompt else float("inf")
        token = self._tokens.current or self._tokens.obtain(self._patience, self._is_interrupted)
        _refuse_if_late(method, path, late_at)
        exchange = partial(
            self.exchange,
            params=params,
            body=body,
            wait_seconds=wait_seconds,
            limit_bytes=limit_bytes,
            within_seconds=within_seconds,
        )
        answer = exchange(token, method, path)
        for _ in range(_MAX_REPEATS if answer.status in _REFUSING else 0):
            if not answer.refuses:
                break
            newer = self._tokens.check(token, _other_node(path), self._patience, self._is_interrupted)
            if newer is None:
                break
            _refuse_if_late(method, path, late_at)
            token = newer
            answer = exchange(token, method, path)
        if answer.session is not None and token.cookie is not None and answer.status < 400:
            self._tokens.refresh(token, answer.session.value)
        return answer

    def exchange(self, token: Token, method: str, path: str, *, wait_seconds: float = 0.0, **options: Any) -> Answer:
        """Send one request with this token, and return the answer. The token is not checked; otherwise as `request`."""
        begun = time.monotonic()
        try:
            answer = self._exchange(token, method, path, wait_seconds=wait_seconds, **options)
        except errors.InterruptedRequestError:
            raise
        except errors.CouchError as error:
            TALLY.unanswered(error.kind)
            raise
        TALLY.answered(answer.status, None if wait_seconds else time.monotonic() - begun)
        return answer

    def _exchange(
        self,
        token: Token,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        body: object = None,
        wait_seconds: float = 0.0,
        limit_bytes: int = MAX_BYTES,
        within_seconds: float = float("inf"),
    ) -> Answer:
        named = f"{method} {path}"
        connect, read = self._timeout[0], min(self._timeout[1], within_seconds)
        seconds = whole_seconds(read, wait_seconds)
        allowance = Allowance(named, seconds, limit_bytes)
        prepared = self._prepared(token, method, path, params, body)
        # Each try looks the host up and connects.
        threads.beat(2 * MAX_TRIES * connect + seconds)
        try:
            response = self._adapter.ask(
                prepared,
                allowance,
                timeout=(connect, read + wait_seconds),
                verify=self._verify,
                cert=self._cert,
            )
            if response.status_code < _FIRST_FINAL:
                # The real answer follows, and must not become the answer to this connection's next request.
                response.close()
                raise errors.UnexpectedAnswerError(f"{named}: {response.status_code}, and no answer yet")
            parts = patiently(named, response, wait_seconds) if wait_seconds > 0 else chunks(response)
            content = bounded(named, response, parts, limit_bytes)
        except (OSError, ValueError) as error:
            # Each error of `requests` is an OSError, and so is that of a missing TLS file. The library below raises
            # other errors for invalid answers, such as a chunk with a negative size.
            raise self._failure(named, error) from error
        given = response.raw.headers.getlist("Set-Cookie") if "Set-Cookie" in response.headers else ()
        cookie = session_cookie(given) if given else None
        return Answer(named, response.status_code, content, cookie, response.headers.get("Date", ""))

    def interrupt(self) -> None:
        """End every request under way and refuse new ones; for any thread."""
        self._sockets.interrupt()
        self._tokens.wake()

    def close(self) -> None:
        """Close the connections."""
        self._adapter.close()

    def _is_interrupted(self) -> bool:
        return self._sockets.interrupted

    def _template_for(self, token: Token, path: str) -> requests.PreparedRequest:
        known, template, relayed = self._templates
        if known is not token:
            template, relayed = (
                self._with_headers(token.cookie, each) for each in (token.authorization, token.relayed)
            )
            self._templates = (token, template, relayed)
        return template if token.relayed is None or _other_node(path) is None else relayed

    def _with_headers(self, cookie: Secret | None, authorization: Secret | None) -> requests.PreparedRequest:
        template = self._template.copy()
        if authorization is not None:
            template.headers["Authorization"] = authorization.value
        if cookie is not None:
            template.headers["Cookie"] = f"{COOKIE}={cookie.value}"
        return template

    def _prepared(
        self, token: Token, method: str, path: str, params: dict[str, str] | None, body: object
    ) -> requests.PreparedRequest:
        prepared = self._template_for(token, path).copy()
        prepared.method = method
        prepared.url = f"{self._url}{path}?{urlencode(params)}" if params else self._url + path
        if body is not None:
            prepared.body = msgspec.json.encode(body)
            prepared.headers["Content-Type"] = "application/json"
        if body is not None or method in _WITH_BODY:
            prepared.headers["Content-Length"] = str(len(prepared.body or b""))
        return prepared

    def _failure(self, named: str, error: OSError | ValueError) -> errors.CouchError:
        if self._sockets.interrupted:
            return errors.InterruptedRequestError(f"{named}: interrupted")
        if isinstance(error, requests.Timeout) or is_silence(error):
            return errors.TimedOutError(f"{named}: no answer in time from {self._url}")
        if isinstance(error, requests.exceptions.SSLError):
            return errors.UnreachableError(f"{named}: TLS to {self._url} failed: {_innermost(error)}")
        return errors.UnreachableError(f"{named}: cannot reach {self._url}: {_innermost(error)}")


@lru_cache(maxsize=8)
def _template(url: str) -> requests.PreparedRequest:
    """Return what all requests to a server have in common; each request is a copy of it.

    It is prepared once for all sessions of a process. `requests.Session` would merge and check it for each request,
    which is a third of a request's processor time. It would also use the environment's proxies and ~/.netrc, and these
    must not redirect a request to the node beside this process, nor change its credentials.
    """
    headers = {
        "Accept": "application/json",
        # With compression a server would hold back the line breaks of a long poll, which show that it is alive.
        "Accept-Encoding": "identity",
        "Connection": "keep-alive",
        "User-Agent": f"peruserd/{__version__}",
    }
    return requests.Request("GET", url, headers=headers).prepare()


def _refuse_if_late(method: str, path: str, late_at: float) -> None:
    if time.monotonic() > late_at:
        why = "it waited too long to be let in, and what it follows from may be otherwise by now"
        raise errors.RefusedError(f"{method} {path}: not sent, because {why}")


def _other_node(path: str) -> str | None:
    """Return the node that a path names; None if the attached node itself answers."""
    if not path.startswith(_NODES):
        return None
    node = path[len(_NODES) :].partition("/")[0]
    return None if node == "_local" else unquote(node)


def quoted(segment: str) -> str:
    """Return one path segment, quoted, including its slashes."""
    return quote(segment, safe="")


def _innermost(error: BaseException) -> str:
    """Return the text of the innermost error: urllib3 wraps a plain 'Connection refused' three times."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__
