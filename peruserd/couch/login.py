"""The requests by which an instance becomes somebody for CouchDB, and finds out whether it still is.

A session cookie is preferred: CouchDB counts refused passwords, and never a refused cookie. Basic is what is left where
the server, or something before it, gives none.

A request whose cookie has lapsed would be answered as if nobody in particular had asked, and such an answer can be a
lie: a user document that is there is 404 for nobody. So requests with a cookie also name, by Basic, an account that
does not exist. CouchDB looks at it only where it does not take the cookie, refuses the request, and counts nothing.
"""

import secrets
from collections.abc import Callable

import msgspec
import structlog

from peruserd.core.common.secret import Secret
from peruserd.core.processes.authentication import Verdict
from peruserd.core.processes.messages import Credentials, Token
from peruserd.couch.answers import Answer
from peruserd.couch.errors import CouchError
from peruserd.couch.session import Session, quoted
from peruserd.couch.tokens import NOBODY, basic_token, basic_value

_SESSION = "/_session"
_WELCOME = "/"

# Servers that have no such path say these, and proxies that let nobody at it.
_NO_SESSIONS = frozenset({400, 403, 404, 405, 501})

log = structlog.get_logger(__name__)


class Admission(msgspec.Struct, frozen=True):
    """The result of asking to be let in.

    `token` is there where the verdict is ACCEPTED. `lifetime_seconds` is how long its session lasts, None where that is
    not known, or where there is none. `is_admin` is None where the server does not say.
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
    """Lets an account in over one session, which sends nothing of its own with its requests."""

    def __init__(self, session: Session, credentials: Credentials) -> None:
        self._session = session
        self._credentials = credentials

    def enter(self, number: int, before_sending: Callable[[], None]) -> Admission:
        """Ask to be let in; the token will have this number.

        `before_sending` is called right before the password is sent. CouchDB looks at it once at most: it is sent again
        only where something else has answered. Raises CouchError where there is no answer that says anything.
        """
        # Asked first, without the password: a server that does not answer at all must not be sent it in vain.
        offered = self._session.exchange(NOBODY, "GET", _SESSION)
        if offered.status in _NO_SESSIONS:
            before_sending()
            return self._enter_with_basic(number, _WELCOME)
        if offered.status != 401:
            # A page that something has for every path is no server's word, and must not get the password.
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
        return self._enter_with_basic(number, _SESSION)

    def takes(self, token: Token, node: str | None = None) -> bool:
        """Say whether the server, or another node of its cluster, takes a token with a cookie.

        Raises CouchError where it does not say.
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
            # The password was accepted all the same; whoever is refused later will ask again.
            log.warning("a new session could not be checked", kind=error.kind, error=str(error))
            return True

    def _enter_with_basic(self, number: int, path: str) -> Admission:
        token = basic_token(self._credentials, number)
        answer = self._session.exchange(token, "GET", path)
        if answer.is_locked:
            return Admission(Verdict.LOCKED)
        if answer.status == 401:
            return Admission(Verdict.REFUSED)
        answer.expect(200)
        return Admission(Verdict.ACCEPTED, token)

    def relayed(self, token: Token, number: int) -> Token:
        """Return a token like this one, which will be taken by other nodes too that do not take its session.

        Each node signs sessions with its own secret and the salt of its own copy of the account. Another node checks
        again what it is handed, and takes the password then. It counts no refusals of what was handed to it.
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
