"""`GET /users/{name}`: whether a user is ready, in JSON, for applications and scripts.

Every client that reaches the port can ask for any name, again and again. So the page has limits:

- Beyond loopback it is closed, unless the configuration opens it.
- The number of requests at once, and of looks per second, is bounded. Beyond a limit the answer is 503 at once.

Other pages are answered meanwhile, because each request has its own thread.

The answer has the state of a user and nothing else: no content of the document, and no text of the server.
"""

import math
import threading
import time
from collections.abc import Callable
from typing import Final, Self
from urllib.parse import parse_qs

import msgspec

from peruserd.core.common.escaping import calm_json
from peruserd.core.common.http_head import Head
from peruserd.core.common.names import user_document_id
from peruserd.core.common.rate import TokenBucket
from peruserd.core.configuration.choices import Audience
from peruserd.core.configuration.config import Config, HTTPConfig
from peruserd.core.configuration.decoding import split_address
from peruserd.core.configuration.loopback import HEADERS, is_from_elsewhere, is_loopback
from peruserd.core.users.inquiries import KeptUser
from peruserd.core.users.readiness import (
    MAX_WAIT_SECONDS,
    Readiness,
    UserState,
    is_whole_look,
    pause_seconds,
    with_quarantine,
)
from peruserd.couch.client import Client
from peruserd.couch.errors import CouchError
from peruserd.couch.readiness import ReadinessReader, open_reader
from peruserd.daemon.http_messages import JSON, Answer, Request
from peruserd.supervisor.attaching import Attachment
from peruserd.supervisor.cluster_reader import ClusterReader

Look = Callable[[str, int], Readiness | None]
"""Looks at a user; the first look has the number 0. Raises CouchError. See `couch.readiness.ReadinessReader`."""

PATH: Final = b"/users/"

# The limits for threads that wait for users, and for threads that answer at once. A client that hangs up frees its
# place.
_MAX_WAITS: Final = 64
_MAX_AT_ONCE: Final = 16

MAX_LOOKS: Final = 4
"""The limit for looks at once, over both kinds. A whole look on three nodes is seven requests in sequence."""

_PATIENCE_SECONDS: Final = 10.0

# An application that asks once for each sign-up stays far below this rate. A client above it tries out names.
_LOOKS_PER_SECOND: Final = 50.0
_BURST: Final = 200

_STATUS: Final = {
    UserState.SERVED: "200 OK",
    UserState.IN_PROGRESS: "202 Accepted",
    UserState.QUARANTINED: "409 Conflict",
    UserState.UNKNOWN: "404 Not Found",
    UserState.UNSERVABLE: "400 Bad Request",
    UserState.UNCLEAR: "503 Service Unavailable",
}

_MAX_FIELDS: Final = 10

_RETRY: Final = ("Retry-After", "1")


class Access(msgspec.Struct, frozen=True):
    """The clients that may ask. Without `is_open` none may; with `loopback_only` only programs on this machine may."""

    is_open: bool
    loopback_only: bool

    @classmethod
    def configured(cls, http: HTTPConfig) -> Self:
        """Return the access that the configuration gives."""
        loopback_only = http.users is Audience.LOOPBACK
        is_open = is_loopback(split_address(http.listen)[0]) if loopback_only else http.users is Audience.EVERYBODY
        return cls(is_open, loopback_only)


class UserLooks:
    """Looks at users through the attachment of the instance, which can change while it runs.

    `kept` returns the quarantine entry of a user document in this instance.
    """

    def __init__(
        self, client: Client, cluster_reader: ClusterReader, config: Config, kept: Callable[[str], KeptUser | None]
    ) -> None:
        self._kept = kept
        self._client = client
        self._cluster_reader = cluster_reader
        self._config = config
        self._reader: tuple[Attachment, ReadinessReader] | None = None

    def look(self, user: str, number: int) -> Readiness | None:
        """Look at a user; raises CouchError."""
        attachment = self._cluster_reader.attach()
        known = self._reader
        if known is None or known[0] != attachment:
            reader = open_reader(self._client, attachment.feed, attachment.node, self._config)
            self._reader = known = (attachment, reader)
        found = known[1].look(user, number)
        if found is None or found.state is not UserState.IN_PROGRESS:
            return found
        return with_quarantine(found, self._kept(user_document_id(user)))


class _Refusal(Exception):  # noqa: N818 - an answer, not an error of this program
    def __init__(self, status: str, error: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.body = {"error": error, "reason": reason}


class UsersPage:
    """Answers requests of this page; `stop` ends all waits."""

    def __init__(self, look: Look, access: Access, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._look = look
        self._access = access
        self._clock = clock
        self._waits = threading.BoundedSemaphore(_MAX_WAITS)
        self._at_once = threading.BoundedSemaphore(_MAX_AT_ONCE)
        self._looks = threading.BoundedSemaphore(MAX_LOOKS)
        self._counting = threading.Lock()
        self._bucket = TokenBucket(_LOOKS_PER_SECOND, _BURST)
        self._stopping = threading.Event()

    def __call__(self, request: Request) -> Answer:
        """Answer one request."""
        try:
            found = self._answer(request)
            status, body = _STATUS[found.state], msgspec.json.encode(found)
        except _Refusal as refusal:
            status, body = refusal.status, msgspec.json.encode(refusal.body)
        return Answer(status, JSON, calm_json(body) + b"\n", (_RETRY,) if status.startswith("503") else ())

    def let_in(self, access: Access) -> None:
        """Let in other clients from now on; for any thread."""
        self._access = access

    def stop(self) -> None:
        """Answer all waiting requests now, and let no later one wait."""
        self._stopping.set()

    def _answer(self, request: Request) -> Readiness:
        self._let_in(request.head)
        user = _user(request.head)
        wait_seconds = _wait_seconds(request.head)
        places = self._waits if wait_seconds else self._at_once
        if not places.acquire(blocking=False):
            raise _busy("as many requests as this page answers at a time are under way")
        try:
            return self._found(user, self._clock() + wait_seconds, request.is_gone)
        finally:
            places.release()

    def _let_in(self, head: Head) -> None:
        if not self._access.is_open:
            reason = "the page is closed: [http] users in the configuration says who may ask"
            raise _Refusal("403 Forbidden", "closed", reason)
        if not self._access.loopback_only:
            return
        given = {name: head.header(name) for name in HEADERS}
        if why := is_from_elsewhere({name: value for name, value in given.items() if value is not None}):
            raise _Refusal("403 Forbidden", "elsewhere", why)

    def _found(self, user: str, until: float, is_gone: Callable[[], bool]) -> Readiness:
        """Look until the state is final, the time is over, the instance stops, or the client has hung up."""
        number = 0
        found = self._look_once(user, number) or Readiness(user, UserState.IN_PROGRESS)
        while not found.is_final:
            pause = min(pause_seconds(number), until - self._clock())
            if pause <= 0 or self._stopping.wait(pause) or is_gone():
                break
            number += 1
            found = self._look_once(user, number) or found
        return found

    def _look_once(self, user: str, number: int) -> Readiness | None:
        """Look once. If that is not possible now, the first look is refused, and a later one shows nothing new."""
        is_first = number == 0
        with self._counting:
            # Only first looks count: within one wait, the pauses limit the rate.
            is_let_in = not is_first or self._bucket.take(self._clock())
        if not is_let_in:
            raise _busy(f"more than {_LOOKS_PER_SECOND:g} users a second are asked for")
        if not self._looks.acquire(timeout=_PATIENCE_SECONDS):
            if is_first:
                raise _busy("the server takes long to answer")
            return None
        try:
            return self._look(user, number)
        except CouchError as error:
            # A small look that failed shows nothing; the next whole look finds out.
            return Readiness(user, UserState.UNCLEAR, error.kind) if is_whole_look(number) else None
        finally:
            self._looks.release()


def open_page(
    client: Client, cluster_reader: ClusterReader, config: Config, kept: Callable[[str], KeptUser | None]
) -> UsersPage:
    """Return the page of an instance; the client's session should have `MAX_LOOKS` connections."""
    return UsersPage(UserLooks(client, cluster_reader, config, kept).look, Access.configured(config.http))


def _busy(why: str) -> _Refusal:
    return _Refusal("503 Service Unavailable", "busy", why)


def _user(head: Head) -> str:
    """Return the user's name from the path: the rest after `/users/`, including slashes."""
    try:
        user = head.path.removeprefix(PATH).decode("utf-8")
    except UnicodeError as error:
        raise _Refusal("400 Bad Request", "bad_name", "the name is not UTF-8, percent-encoded") from error
    if not user:
        raise _Refusal("400 Bad Request", "bad_name", "the name of a user follows /users/")
    return user


def _wait_seconds(head: Head) -> float:
    try:
        values = parse_qs(head.query, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
        seconds = float(values.get("wait", ["0"])[-1])
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise _Refusal("400 Bad Request", "bad_wait", f"wait is a number of seconds, up to {MAX_WAIT_SECONDS:g}")
    return min(seconds, MAX_WAIT_SECONDS)
