"""Who asks: basic credentials, session cookies, and what a user may do with a database."""

from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from hashlib import sha256
from hmac import compare_digest, new
from typing import Any, Final

import msgspec

from peruserd.core.names import user_document_id
from peruserd.simcluster import documents, errors, users
from peruserd.simcluster.model import ClusterModel
from peruserd.simcluster.nodes import Node
from peruserd.simcluster.options import AUTH_DATABASE

SESSION_SECONDS: Final = 600
COOKIE: Final = "AuthSession"


class User(msgspec.Struct, frozen=True):
    """Who a request comes from; `name` is None for nobody in particular."""

    name: str | None = None
    roles: tuple[str, ...] = ()

    @property
    def is_admin(self) -> bool:
        """Say whether this is a server admin."""
        return "_admin" in self.roles


NOBODY: Final = User()


class Accounts:
    """Checks credentials against the server admin and the user documents that the asked node can read."""

    def __init__(self, model: ClusterModel) -> None:
        self._model = model
        self._admin, self._password = model.options.admin
        self._admin_user = User(self._admin, ("_admin",))
        self._secret = model.fresh_uuid().encode()
        # A client sends the same header with every request; only the admin's is worth remembering.
        self._admin_headers: set[str] = set()

    def identify(self, at: Node, authorization: str | None, cookie: str | None) -> User:
        """Return who a request comes from; refuses wrong credentials, and takes none for nobody."""
        if authorization:
            if authorization in self._admin_headers:
                return self._admin_user
            return self._basic(at, authorization)
        if cookie:
            return self._session(at, cookie)
        return NOBODY

    def login(self, at: Node, name: str, password: str) -> User:
        """Return the user with this name and password; refuses where there is none."""
        if name == self._admin:
            if compare_digest(password.encode(), self._password.encode()):
                return self._admin_user
            raise _wrong()
        stored = self._stored(at, name)
        if stored is None or not users.matches(stored, password):
            raise _wrong()
        return User(name, tuple(stored["roles"]))

    def cookie(self, user: User) -> str:
        """Return a fresh session cookie's value."""
        return self._sign(f"{user.name}:{int(self._model.clock()):X}")

    def _basic(self, at: Node, authorization: str) -> User:
        scheme, _, encoded = authorization.partition(" ")
        if scheme.lower() != "basic":
            return NOBODY
        try:
            name, _, password = b64decode(encoded).decode().partition(":")
        except (NotBase64, UnicodeDecodeError) as error:
            raise _wrong() from error
        user = self.login(at, name, password)
        if user.is_admin:
            self._admin_headers.add(authorization)
        return user

    def _session(self, at: Node, cookie: str) -> User:
        try:
            text = urlsafe_b64decode(cookie + "=" * (-len(cookie) % 4)).decode()
            name, started, _ = text.rsplit(":", 2)
            age = self._model.clock() - int(started, 16)
        except (NotBase64, ValueError) as error:
            raise errors.bad_request("Malformed AuthSession cookie. Please clear your cookies.") from error
        if age > SESSION_SECONDS or not compare_digest(self._sign(f"{name}:{started}"), cookie):
            return NOBODY
        if name == self._admin:
            return self._admin_user
        stored = self._stored(at, name)
        return User(name, tuple(stored["roles"])) if stored else NOBODY

    def _sign(self, text: str) -> str:
        signature = new(self._secret, text.encode(), sha256).hexdigest()
        return urlsafe_b64encode(f"{text}:{signature}".encode()).decode().rstrip("=")

    def _stored(self, at: Node, name: str) -> dict[str, Any] | None:
        if at.database(AUTH_DATABASE) is None:
            return None
        leaves = documents.read(self._model, at, AUTH_DATABASE, user_document_id(name))
        return leaves[0].body if leaves and not leaves[0].deleted else None


def require_server_admin(user: User) -> None:
    """Refuse everybody but server admins."""
    if not user.is_admin:
        raise errors.unauthorized("You are not a server admin.")


def require_member(user: User, security: Any) -> None:
    """Refuse who may not read and write a database with this security object; one without members is public."""
    if user.is_admin or _is_in(user, security, "admins"):
        return
    members = security.get("members", {})
    if (members.get("names") or members.get("roles")) and not _is_in(user, security, "members"):
        if user.name is None:
            raise errors.unauthorized("You are not authorized to access this db.")
        raise errors.forbidden("You are not allowed to access this db.")


def require_database_admin(user: User, security: Any) -> None:
    """Refuse everybody but server admins and the admins that the security object names."""
    if not user.is_admin and not _is_in(user, security, "admins"):
        raise errors.unauthorized("You are not a db or server admin.")


def _is_in(user: User, security: Any, part: str) -> bool:
    group = security.get(part, {})
    return user.name in group.get("names", ()) or any(role in user.roles for role in group.get("roles", ()))


def _wrong() -> errors.RefusalError:
    return errors.unauthorized("Name or password is incorrect.")
