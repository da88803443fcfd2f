"""Authentication and authorisation: basic credentials, session cookies, and the rights of a user in a database."""

from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Iterable
from functools import partial
from hashlib import sha256
from hmac import compare_digest, new
from typing import Any, Final

import msgspec

from peruserd.core.common.names import user_document_id
from peruserd.simcluster.accounts import user_documents
from peruserd.simcluster.accounts.lockouts import Lockouts
from peruserd.simcluster.model import documents, errors
from peruserd.simcluster.model.cluster_model import ClusterModel
from peruserd.simcluster.model.nodes import Node
from peruserd.simcluster.model.security_objects import members_of
from peruserd.simcluster.options import AUTH_DATABASE

SESSION_SECONDS: Final = 600
COOKIE: Final = "AuthSession"
WRONG: Final = "Name or password is incorrect."
# Names and passwords are bytes for CouchDB, as ids are.
_ESCAPE: Final = "surrogateescape"

# A cookie is not renewed before this part of its time is over.
_FRESH: Final = 0.1

# There is a cookie for each instance and each command that runs, and for each user who logs in.
_MAX_READ_COOKIES: Final = 1_000


class User(msgspec.Struct, frozen=True):
    """The user that a request comes from: `name` is None without credentials, `handler` is their kind."""

    name: str | None = None
    roles: tuple[str, ...] = ()
    handler: str | None = None
    renewed: str | None = None  # the session cookie that the answer is to give, because this one's is some time old

    @property
    def is_admin(self) -> bool:
        """Say whether this is a server admin."""
        return "_admin" in self.roles


NOBODY: Final = User()


class Account(msgspec.Struct, frozen=True):
    """An account that a node knows: a server admin of its configuration, or a user document."""

    name: str
    roles: tuple[str, ...]
    salt: str
    accepts: Callable[[str], bool]

    def user(self, handler: str) -> User:
        """Return the user that this account makes of a request."""
        return User(self.name, self.roles, handler)


class Admin(msgspec.Struct, frozen=True):
    """A server admin as one node's configuration has it."""

    password: str
    salt: str

    @property
    def hashed(self) -> str:
        """The value as the configuration shows it."""
        rounds = user_documents.ITERATIONS
        return f"-pbkdf2:sha256-{user_documents.derive(self.password, self.salt, rounds)},{self.salt},{rounds}"

    def accepts(self, password: str) -> bool:
        """Say whether this is the password."""
        return compare_digest(password.encode(errors=_ESCAPE), self.password.encode(errors=_ESCAPE))


class _SessionCookie(msgspec.Struct, frozen=True):
    """The content of a session cookie: its user and its beginning. Its signature fits the salt `signed_with`."""

    name: str
    started_text: str
    started: int
    signed_with: str | None = None


class Accounts:
    """Checks credentials against the server admins and the user documents that the asked node can read."""

    def __init__(self, model: ClusterModel) -> None:
        self._model = model
        self.lockouts = Lockouts(model.clock)
        name, password = model.options.admin
        admin = Admin(password, model.fresh_uuid())
        self._admins = {node.name: {name: admin} for node in model.nodes}
        self._secret = model.fresh_uuid().encode()
        # A client sends the same header with every request; only the admin's is worth remembering.
        self._admin_headers: dict[tuple[str, str], Account] = {}
        # A client sends the same cookie with every request, too. These are the ones whose signatures were right.
        self._read_cookies: dict[str, _SessionCookie] = {}

    def set_admin(self, nodes: Iterable[Node], name: str, password: str) -> str:
        """Set a server admin's password on some nodes; return the first node's value before, or an empty text.

        Session cookies end there, since the salt is new.
        """
        admin = Admin(password, self._model.fresh_uuid())
        before = ""
        for node in reversed(list(nodes)):
            known = self._admins[node.name].get(name)
            before = known.hashed if known else ""
            self._admins[node.name][name] = admin
        self._admin_headers.clear()
        return before

    def identify_relayed(self, at: Node, authorization: str | None, cookie: str | None) -> User:
        """Return the user of a request that another node hands on. Its credentials are checked again.

        Nothing is counted, since there is no client's address. A wrong password is answered by a crash of the node.
        """
        if cookie and (user := self._session(at, cookie)) is not NOBODY:
            return user
        if not authorization:
            return NOBODY
        name, password = _named(authorization)
        account = self._account(at, name)
        if account is None:
            raise _wrong()
        if not account.accepts(password):
            raise errors.RefusalError(500, "unknown_error", "function_clause")
        return account.user("default")

    def identify(self, at: Node, authorization: str | None, cookie: str | None, address: str) -> User:
        """Return the user of a request; refuses wrong credentials. Without credentials it is `NOBODY`.

        Credentials beside a good cookie are ignored. Beside a bad cookie they are used in its place.
        """
        if cookie and (user := self._session(at, cookie)) is not NOBODY:
            return user
        if authorization:
            known = self._admin_headers.get((at.name, authorization))
            if known is not None:
                self.lockouts.require_unlocked(at.name, address, known.name, known.salt)
                return known.user("default")
            return self._basic(at, authorization, address)
        return NOBODY

    def login(self, at: Node, name: str, password: str, address: str) -> tuple[User, str]:
        """Return the user with this name and password, and a session cookie's value; refuses where there is none."""
        account = self._account(at, name) or Account(name, (), "", lambda _: False)
        self._check(at, account, password, address)
        started = f"{int(self._model.clock()):X}"
        return account.user("default"), self._sign(account, started)

    def _basic(self, at: Node, authorization: str, address: str) -> User:
        if not authorization.lower().startswith("basic "):
            return NOBODY
        name, password = _named(authorization)
        account = self._account(at, name)
        if account is None:
            raise _wrong()
        self._check(at, account, password, address)
        if "_admin" in account.roles:
            self._admin_headers[at.name, authorization] = account
        return account.user("default")

    def _check(self, at: Node, account: Account, password: str, address: str) -> None:
        self.lockouts.require_unlocked(at.name, address, account.name, account.salt)
        if not account.accepts(password):
            self.lockouts.count(at.name, address, account.name, account.salt)
            raise _wrong()

    def _session(self, at: Node, cookie: str) -> User:
        read = self._read_cookies.get(cookie) or _read(cookie)
        age = self._model.clock() - read.started
        account = self._account(at, read.name)
        if account is None or age > SESSION_SECONDS:
            return NOBODY
        if account.salt != read.signed_with:
            if not compare_digest(self._sign(account, read.started_text), cookie):
                return NOBODY
            if len(self._read_cookies) >= _MAX_READ_COOKIES:
                self._read_cookies.clear()
            self._read_cookies[cookie] = msgspec.structs.replace(read, signed_with=account.salt)
        fresh = age <= SESSION_SECONDS * _FRESH
        renewed = None if fresh else self._sign(account, f"{int(self._model.clock()):X}")
        return User(account.name, account.roles, "cookie", renewed)

    def _sign(self, account: Account, started: str) -> str:
        text = f"{account.name}:{started}".encode(errors=_ESCAPE)
        signature = new(self._secret + account.salt.encode(), text, sha256).hexdigest()
        return urlsafe_b64encode(text + b":" + signature.encode()).decode().rstrip("=")

    def _account(self, at: Node, name: str) -> Account | None:
        """Return the account of this name as a node knows it; refuses one whose document has a conflict."""
        admin = self._admins[at.name].get(name)
        if admin is not None:
            return Account(name, ("_admin",), admin.salt, admin.accepts)
        if at.database(AUTH_DATABASE) is None:
            return None
        leaves = documents.read(self._model, at, AUTH_DATABASE, user_document_id(name)) or ()
        living = [leaf.body for leaf in leaves if not leaf.deleted]
        if len(living) > 1:
            raise errors.unauthorized(
                "User document conflicts must be resolved before the document is used for authentication purposes."
            )
        if not living:
            return None
        stored = living[0]
        salt = stored.get("salt")
        accepts = partial(user_documents.matches, stored)
        return Account(name, tuple(stored["roles"]), salt if isinstance(salt, str) else "", accepts)


def _read(cookie: str) -> _SessionCookie:
    """Return the content of a session cookie. Its signature is not checked."""
    try:
        text = urlsafe_b64decode(cookie + "=" * (-len(cookie) % 4)).decode(errors=_ESCAPE)
        name, started, _ = text.split(":", 2)
        return _SessionCookie(name, started, int(started, 16))
    except (NotBase64, ValueError) as error:
        raise errors.bad_request("Malformed AuthSession cookie. Please clear your cookies.") from error


def _named(authorization: str) -> tuple[str, str]:
    """Return the name and the password of a header."""
    try:
        name, _, password = b64decode(authorization.partition(" ")[2]).decode(errors=_ESCAPE).partition(":")
    except NotBase64 as error:
        raise _wrong() from error
    return name, password


def require_server_admin(user: User) -> None:
    """Refuse everybody but server admins."""
    if not user.is_admin:
        raise errors.unauthorized("You are not a server admin.")


def require_member(user: User, security: Any) -> None:
    """Refuse users without the right to read and write. A security object without members makes a database public."""
    if may_administer(user, security):
        return
    members = members_of(security)
    if (members.get("names") or members.get("roles")) and not _is_in(user, members):
        raise _refused(user, f"You are not {'allowed' if user.name else 'authorized'} to access this db.")


def require_database_admin(user: User, security: Any) -> None:
    """Refuse everybody but server admins and the admins that the security object names."""
    if not may_administer(user, security):
        raise _refused(user, "You are not a db or server admin.")


def may_administer(user: User, security: Any) -> bool:
    """Say whether this is a server admin, or one of the admins that the security object names."""
    return user.is_admin or _is_in(user, security.get("admins", {}))


def _is_in(user: User, group: Any) -> bool:
    return user.name in group.get("names", ()) or any(role in user.roles for role in group.get("roles", ()))


def _refused(user: User, reason: str) -> errors.RefusalError:
    """Refuse a user for good, and a request without credentials until it comes with some."""
    return errors.unauthorized(reason) if user.name is None else errors.forbidden(reason)


def _wrong() -> errors.RefusalError:
    return errors.unauthorized(WRONG)
