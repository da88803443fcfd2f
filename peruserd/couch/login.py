"""The requests of a login at CouchDB, and of the check whether its token is still valid.

A session cookie is preferred, because CouchDB counts refused passwords, and never refused cookies. If the server or a
proxy before it gives no cookie, requests use Basic authentication.

CouchDB answers a request with an expired cookie as an anonymous request. Such an answer can mislead: for anonymous
requests a user document that exists is 404. So a request with a cookie also names, by Basic, an account that does not
exist. CouchDB uses that account only if it does not take the cookie. It then refuses the request, and counts no
failure.
"""

import secrets
from collections.abc import Callable

import msgspec
import structlog

from peruserd.core.common.secret import Secret
from peruserd.core.processes.messages import Credentials, Token
from peruserd.core.processes.password_gate import Verdict
from peruserd.couch.answers import Answer
from peruserd.couch.errors import CouchError
from peruserd.couch.session import Session, quoted
from peruserd.couch.tokens import NOBODY, basic_token, basic_value

_SESSION = "/_session"
_WELCOME = "/"

# The statuses of servers without this path, and of proxies that close it.
_NO_SESSIONS = frozenset({400, 403, 404, 405, 501})

log = structlog.get_logger(__name__)


class Admission(msgspec.Struct, frozen=True):
    """The result of a login.

    - `token` is there if the verdict is ACCEPTED.
    - `lifetime_seconds` is how long its session lasts; None if that is not known, or without a session.
    - `is_admin` is None if the server does not say.
    """

    verdict: Verdict
    token: Token | None = None
    lifetime_seconds: float | None = None
    is_admin: bool | None = None


class _Context(msgspec.Struct, frozen=True):
    name: str | None = None


class _Session(msgspec.Struct, frozen=True):
    userCtx: _Context = _Context()  # noqa: N815 - CouchDB's name


class _Offer(msgspec.Struct, frozen=True):
    userCtx: _Context  # noqa: N815 - CouchDB's name


class _Roles(msgspec.Struct, frozen=True):
    roles: tuple[str, ...]


class Login:
    """Logs an account in through one session, which adds no token of its own to requests."""

    def __init__(self, session: Session, credentials: Credentials) -> None:
        self._session = session
        self._credentials = credentials

    def log_in(self, number: int, before_sending: Callable[[], None]) -> Admission:
        """Log in; the token will have this number.

        `before_sending` is called right before the password is sent. CouchDB checks it at most once: it is sent again
        only if a proxy has answered. Raises CouchError if no useful answer comes.
        """
        # The first request has no password: a server that does not answer must not get it in vain.
        offered = self._session.exchange(NOBODY, "GET", _SESSION)
        if offered.status in _NO_SESSIONS:
            before_sending()
            return self._log_in_with_basic(number, _WELCOME)
        if offered.status != 401:
            # If a proxy has the same page for every path, it must not get the password.
            offered.expect(200).decode(_Offer)
        before_sending()
        body = {"name": self._credentials.username, "password": self._credentials.password.value}
        answer = self._session.exchange(NOBODY, "POST", _SESSION, body=body)
        if answer.is_locked:
            return Admission(Verdict.LOCKED)
        if answer.status == 401 and answer.is_of_couchdb:
            return Admission(Verdict.REFUSED)
        if answer.status == 200 and answer.session is not None:
            token = _with_cookie(answer.session.value, number)
            if self._is_taken(token):
                return Admission(Verdict.ACCEPTED, token, answer.session.lifetime_seconds, _is_admin(answer))
        elif answer.status != 401 and answer.status not in _NO_SESSIONS:
            answer.expect(200)
        log.info("the server gives no session that it takes; the password goes with each request")
        return self._log_in_with_basic(number, _SESSION)

    def takes(self, token: Token, node: str | None = None) -> bool:
        """Say whether the server, or another node of its cluster, accepts a token with a cookie.

        Raises CouchError if the answer does not tell.
        """
        path = _SESSION if node is None else f"/_node/{quoted(node)}{_SESSION}"
        answer = self._session.exchange(token, "GET", path)
        if answer.refuses:
            return False
        return answer.expect(200).decode(_Session).userCtx.name == self._credentials.username

    def _is_taken(self, token: Token) -> bool:
        try:
            return self.takes(token)
        except CouchError as error:
            # The password was accepted all the same. A request that is refused later starts another check.
            log.warning("a new session could not be checked", kind=error.kind, error=str(error))
            return True

    def _log_in_with_basic(self, number: int, path: str) -> Admission:
        token = basic_token(self._credentials, number)
        answer = self._session.exchange(token, "GET", path)
        if answer.is_locked:
            return Admission(Verdict.LOCKED)
        if answer.status == 401:
            return Admission(Verdict.REFUSED)
        answer.expect(200)
        return Admission(Verdict.ACCEPTED, token)

    def relayed(self, token: Token, number: int) -> Token:
        """Return a token like this one that other nodes accept too, if they do not accept its session.

        Each node signs sessions with its own secret and the salt of its own copy of the account. A node checks a
        relayed request again, and then takes the password. It counts no refusals of relayed requests.
        """
        return msgspec.structs.replace(token, number=number, relayed=basic_value(self._credentials))


def _with_cookie(cookie: Secret, number: int) -> Token:
    nobody = Credentials(f"peruserd.nobody.{secrets.token_hex(16)}", Secret("-"))
    return Token(number, authorization=basic_value(nobody), cookie=cookie)


def _is_admin(answer: Answer) -> bool | None:
    try:
        return "_admin" in answer.decode(_Roles).roles
    except CouchError:
        return None
