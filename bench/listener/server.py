"""A server that answers at once: it has a recorded feed, and every user is right already.

For each user it answers as CouchDB 3.5 does when the database exists and its security object names the user. Only the
reading and writing of sockets is left out. Its answers are bytes, and the real client decodes them.
"""

import threading
import time
from collections.abc import Collection
from typing import Final

import msgspec

from bench.listener.recording import COPY, Recording, page_of
from peruserd.couch.answers import Answer
from peruserd.couch.errors import InterruptedRequestError

UUID: Final = "0f6b1f1d3a3b4a0e8f3e5d7c9b1a2c3d"

_EXISTS: Final = b'{"error":"file_exists","reason":"The database could not be created, the file already exists."}\n'
_SECURITY: Final = (
    b'{"members":{"roles":["_admin"],"names":["%(name)b"]},"admins":{"roles":["_admin"],"names":["%(name)b"]}}\n'
)


class Log(msgspec.Struct):
    """The times of the requests for each page, and of the last user, in seconds by a clock that all processes share."""

    pages: list[float] = []
    users: int = 0
    last_user: float = 0.0


class RecordedServer:
    """One server for all sessions of a listener. The server notes the times of requests."""

    def __init__(self, recording: Recording) -> None:
        self.log = Log()
        self._recording = recording

    def open_session(self, *_: object, **__: object) -> "RecordedSession":
        """Open a session; the arguments are those of a real one, and are ignored."""
        return RecordedSession(self)

    def page(self, since: int) -> bytes | None:
        """Return a page of the feed; None at its end."""
        self.log.pages.append(time.perf_counter())
        return self._recording.pages.get(since)

    def newest(self) -> bytes:
        """Return a page with the last row of the feed."""
        last = msgspec.json.decode(next(reversed(self._recording.pages.values())))
        return msgspec.json.encode({**last, "results": last["results"][-1:]})

    def rows(self, document_ids: Collection[str]) -> bytes:
        """Return a page with the rows of some documents."""
        pages = list(map(msgspec.json.decode, self._recording.pages.values()))
        rows = [each for page in pages for each in page["results"] if each["id"] in document_ids]
        return msgspec.json.encode({**pages[-1], "results": rows})

    def identity(self) -> bytes:
        """Return the identity of the copy, and its last sequence."""
        return b'{"uuid":"%b","update_seq":%d}\n' % (UUID.encode(), self._recording.end)

    def security(self, database: str) -> bytes:
        """Return a security object that names the database's user."""
        self.log.users += 1
        self.log.last_user = time.perf_counter()
        return _SECURITY % {b"name": bytes.fromhex(database.rpartition("-")[2])}


class RecordedSession:
    """The part of a `Session` that a listener uses. At the end of the feed a long poll waits for its interruption."""

    def __init__(self, server: RecordedServer) -> None:
        self._server = server
        self._interrupted = threading.Event()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        body: object = None,
        wait_seconds: float = 0.0,
        limit_bytes: int = 0,  # noqa: ARG002 - as a session has it
        within_seconds: float = 0.0,  # noqa: ARG002 - as a session has it
        prompt: bool = False,  # noqa: ARG002 - as a session has it
    ) -> Answer:
        """Answer requests about a copy and about users who are right; raises ValueError for everything else."""
        named = f"{method} {path}"
        segments = path.split("/")
        match method, body, segments[1:]:
            case "PUT", None, [_]:
                return Answer(named, 412, _EXISTS)
            case "GET", None, [database, "_security"]:
                return Answer(named, 200, self._server.security(database))
            case "GET", None, ["_node", _, _, "_changes"] if params is not None and "descending" in params:
                return Answer(named, 200, self._server.newest())
            case "POST", {"doc_ids": [*document_ids]}, ["_node", _, _, "_changes"]:
                return Answer(named, 200, self._server.rows(set(document_ids)))
            case "GET", None, ["_node", _, _, "_changes"] if params is not None:
                return Answer(named, 200, self._page(int(params["since"]), wait_seconds))
            case "GET", None, ["_node", _, _]:
                return Answer(named, 200, self._server.identity())
        raise ValueError(f"for a user who is right, no listener asks for {named}")

    def interrupt(self) -> None:
        """End the long poll, if there is one, and every later one."""
        self._interrupted.set()

    def _page(self, since: int, wait_seconds: float) -> bytes:
        page = self._server.page(since)
        if page is None and wait_seconds:
            self._interrupted.wait()
            raise InterruptedRequestError(f"the long poll of {COPY} was interrupted")
        return page_of([], since=since) if page is None else page
