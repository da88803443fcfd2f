"""A server with one account that behaves like CouchDB: sessions, Basic, the lock-out, changed passwords."""

import base64
import contextlib
import hashlib
import json
import secrets
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

from tests.couch.connecting import Conversation, Request, TalkingServer, answer

NAME = "adm"
LOCKED = (
    403,
    {"error": "forbidden", "reason": "Account is temporarily locked due to multiple authentication failures"},
)
REFUSED = (401, {"error": "unauthorized", "reason": "Name or password is incorrect."})
NOT_ADMIN = (401, {"error": "unauthorized", "reason": "You are not a server admin."})
_THRESHOLD = 5

Said = tuple[int, object]


class AccountServer:
    """A server with one account; a context manager. `on_request` can answer instead; `settings` change details.

    `refusals` counts the refused passwords, because these lock the account. `requests` has all requests.
    """

    def __init__(self, **settings: Any) -> None:
        self._server = TalkingServer(self._talk)
        self.url = self._server.url.replace("adm:pass@", "")
        self.lock = threading.Lock()
        self.sessions: bool = settings.get("sessions", True)
        self.no_sessions_status: int = settings.get("no_sessions_status", 404)
        self.max_age: int | None = settings.get("max_age", 600)
        self.takes_cookies: bool = settings.get("takes_cookies", True)
        self.refreshes: bool = settings.get("refreshes", False)
        self.roles: list[str] = settings.get("roles", ["_admin"])
        self.on_request: Callable[[Request, Conversation], bool] = lambda _request, _conversation: False
        self.refusals = 0
        self.max_refusals = 0
        self.logins = 0
        self.anonymous = 0
        self.strangers: set[str] = set()
        self.change("pass")

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)

    @property
    def requests(self) -> list[Request]:
        """All requests, in the order of their arrival."""
        return self._server.requests

    def passwords_sent(self) -> int:
        """Return how many requests carried a password, right or wrong."""
        return sum(
            (each.method, each.path) == ("POST", "/_session") or self._basic(each)[0] == NAME for each in self.requests
        )

    def change(self, password: str) -> None:
        """Change the password. Earlier sessions become invalid, and the lock-out counts from 0."""
        self.password = password
        self.salt = secrets.token_hex(4)
        self.refusals = 0
        self._given: set[str] = set()

    def lock_account(self) -> None:
        """Lock the account, as after failures of another client."""
        self.refusals = _THRESHOLD

    def unlock_account(self) -> None:
        """End the lock."""
        self.refusals = 0

    def _talk(self, conversation: Conversation) -> None:
        for request in conversation.requests():
            if self.on_request(request, conversation):
                continue
            with self.lock:
                (status, body), cookie = self._answer(request)
            plain = answer(status, body)
            if cookie is not None:
                age = "" if self.max_age is None else f"; Max-Age={self.max_age}"
                line = f"Set-Cookie: AuthSession={cookie}; Version=1{age}; Path=/; HttpOnly\r\nSet-Cookie: other=1\r\n"
                plain = plain.replace(b"Content-Length", line.encode() + b"Content-Length", 1)
            conversation.send(plain)

    def _answer(self, request: Request) -> tuple[Said, str | None]:
        path = request.path
        if path == "/_session" and not self.sessions:
            return (self.no_sessions_status, {"error": "not_found", "reason": "missing"}), None
        if (request.method, path) == ("POST", "/_session"):
            sent = json.loads(request.body)
            said = self._checked(sent["name"], sent["password"])
            if said is not None:
                return said, None
            self.logins += 1
            return (200, {"ok": True, "name": NAME, "roles": self.roles}), self._new_cookie()
        said, name, cookie = self._identified(request)
        if said is not None:
            return said, None
        if path.endswith("/_session"):
            return (200, {"ok": True, "userCtx": {"name": name, "roles": self.roles if name else []}}), cookie
        if name is None:
            self.anonymous += 1
            return NOT_ADMIN, None
        return (200, {"path": path}), cookie

    def _identified(self, request: Request) -> tuple[Said | None, str | None, str | None]:
        cookie = request.headers.get("cookie", "").removeprefix("AuthSession=")
        node = unquote(request.path.split("/")[2]) if request.path.startswith("/_node/") else ""
        if self.takes_cookies and cookie in self._given and node not in self.strangers:
            return None, NAME, self._new_cookie() if self.refreshes else None
        name, password = self._basic(request)
        if name is None:
            return None, None, None
        said = self._checked(name, password or "")
        return (None, name, None) if said is None else (said, None, None)

    @staticmethod
    def _basic(request: Request) -> tuple[str | None, str | None]:
        header = request.headers.get("authorization", "")
        with contextlib.suppress(ValueError):
            if header.startswith("Basic "):
                name, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
                return name, password
        return None, None

    def _checked(self, name: str, password: str) -> Said | None:
        if name != NAME:
            # Nothing is counted for an account that does not exist.
            return REFUSED
        if self.refusals >= _THRESHOLD:
            return LOCKED
        if password != self.password:
            self.refusals += 1
            self.max_refusals = max(self.max_refusals, self.refusals)
            return REFUSED
        return None

    def _new_cookie(self) -> str:
        cookie = hashlib.sha256(f"{self.salt}{secrets.token_hex(8)}".encode()).hexdigest()
        self._given.add(cookie)
        return cookie
