"""The HTTP server of an instance: it answers other programs, whatever they send, and never holds up the supervisor.

One thread accepts connections, and each connection has a thread for one request. All is bounded:

- the number of connections, and so of threads and descriptors;
- the time in which a request must have arrived, as a whole and not byte by byte, and in which its answer must be taken;
- the size of a request.

A client that sends or takes nothing gives its place to a newer one when no place is free. So slow clients, however
many, keep no scrape and no check of health out.

Where no thread can be started, the accepting thread answers the most important pages itself, and gives each client a
second. Otherwise a check of health would fail, and the restart that follows would find no thread either.
"""

import select
import socket
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from enum import Enum
from typing import Final

import structlog

from peruserd import ending
from peruserd.core.common.http_head import Head, HeadBytes, Refused
from peruserd.core.configuration.loopback import host_problem, unknown_host
from peruserd.daemon.http_messages import Answer, Application, Request, in_words, refusal
from peruserd.repeated_task import RepeatedTask

MAX_CONNECTIONS: Final = 128
"""The limit of connections. It leaves room for all waits at the page about users, and for scrapes and checks."""

# Many clients ask about users at once. With this backlog the kernel keeps the next scrape waiting instead of dropping
# it.
_BACKLOG: Final = 128

# A request is sent at once, in one or a few packets.
_HEAD_SECONDS: Final = 10.0
_ANSWER_SECONDS: Final = 30.0

# The accepting thread has no more time for a client.
_ALONE_SECONDS: Final = 1.0

# A connection that is closed before its last bytes were read is reset, and the client can lose the answer. So the
# server waits this long for the client's end, and reads at most so many bytes.
_END_SECONDS: Final = 1.0
_MAX_UNREAD_BYTES: Final = 262_144

# If no descriptor is left, a connection stays in the queue, and the server would try to accept it again at once.
_PAUSE_SECONDS: Final = 0.2

# A client that was sent away gives its place back within this time.
_PLACE_SECONDS: Final = 0.5

# The accepting thread gives a sign of life at least this often.
_ROUND_SECONDS: Final = 5.0

_CHUNK_BYTES: Final = 4_096

log = structlog.get_logger(__name__)


class Stage(Enum):
    """What a connection is doing. While it waits for its client, it may be given up for another one."""

    READING = "reading"
    WORKING = "working"
    SENDING = "sending"
    ENDING = "ending"  # the answer is sent


class Connection:
    """One client's connection. Its own thread alone changes the stage."""

    def __init__(self, client: socket.socket) -> None:
        self.socket = client
        self.stage = Stage.READING
        self._given_up = False

    @property
    def may_be_given_up(self) -> bool:
        """Say whether another client may get the place."""
        return self.stage is not Stage.WORKING and not self._given_up

    @property
    def has_asked(self) -> bool:
        """Say whether there is a request that is to be answered."""
        return self.stage in (Stage.WORKING, Stage.SENDING) and not self._given_up

    def is_gone(self) -> bool:
        """Say whether the client has hung up: its connection is readable, and has no data."""
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        if not poll.poll(0):
            return False
        try:
            return not self.socket.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def give_up(self) -> None:
        """Wake the thread that waits for this client, with the end of the connection. It gives its place back then."""
        self._given_up = True
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


class Places:
    """The connections that are open now, in the order in which they came."""

    def __init__(self) -> None:
        self._left = threading.Condition()
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._taken: dict[Connection, None] = {}

    def take(self, connection: Connection) -> bool:
        """Take a place; if there is none, the oldest one that waits for its client is closed. May wait shortly.

        Returns False if all places are at work.
        """
        if not self._free.acquire(blocking=False) and not (
            self._give_one_up() and self._free.acquire(timeout=_PLACE_SECONDS)
        ):
            return False
        with self._left:
            self._taken[connection] = None
        return True

    def leave(self, connection: Connection) -> None:
        """Give the place back."""
        with self._left:
            self._taken.pop(connection)
            self._left.notify_all()
        self._free.release()

    def wait_for_answers(self, seconds: float) -> bool:
        """Wait until every request that has arrived is answered, and say whether that was so in time."""
        with self._left:
            return self._left.wait_for(lambda: not any(each.has_asked for each in self._taken), seconds)

    def _give_one_up(self) -> bool:
        with self._left:
            slow = next((each for each in self._taken if each.may_be_given_up), None)
            if slow is not None:
                slow.give_up()
            return slow is not None


class HTTPServer:
    """Serves an application from threads. `port` is the port in use, also if the kernel chose it (port 0).

    - `names` are the names, in lower case, under which clients may ask, beside all addresses and those of loopback.
    - `quick` are the paths that are answered at once, also where no thread can be started.

    Raises OSError if it cannot listen.
    """

    def __init__(
        self,
        application: Application,
        host: str,
        port: int,
        names: Collection[str] = (),
        quick: Collection[bytes] = (),
    ) -> None:
        self._application = application
        self._quick = frozenset(quick)
        self._names = frozenset(names)
        self._places = Places()
        self._listening = _listen(host, port)
        self.host = host
        self.port: int = self._listening.getsockname()[1]
        self._task = RepeatedTask("http", self._turn)

    def start(self) -> None:
        """Start the thread that accepts connections."""
        self._task.start()

    def stop(self) -> None:
        """Stop the server. Requests that have arrived get a short time for their answer."""
        until = time.monotonic() + ending.PART_SECONDS
        self._task.stop()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._task.join()
        self._listening.close()
        self._places.wait_for_answers(until - time.monotonic())

    # The accepting thread

    def _turn(self) -> float:
        poll = select.poll()
        poll.register(self._listening, select.POLLIN)
        if not poll.poll(_ROUND_SECONDS * 1_000):
            return 0.0
        try:
            client, _ = self._listening.accept()
        except OSError as error:
            log.debug("no connection of http can be taken", error=str(error))
            return _PAUSE_SECONDS
        self._take(Connection(client))
        return 0.0

    def _take(self, connection: Connection) -> None:
        if not self._places.take(connection):
            connection.socket.close()
            return
        try:
            threading.Thread(target=self._serve, args=(connection,), name="http-client", daemon=True).start()
        except RuntimeError as error:
            # No thread can be started now. The next connection may find one.
            log.warning("http client cannot have a thread", error=str(error))
            self._serve(connection, alone=True)

    # The thread of a connection, or the accepting thread, which is alone then

    def _serve(self, connection: Connection, *, alone: bool = False) -> None:
        try:
            with connection.socket:
                self._talk(connection, alone=alone)
        except OSError as error:
            # The client is gone, or was given up.
            log.debug("http client is gone", error=str(error))
        except Exception:
            log.exception("http request could not be answered")
        finally:
            self._places.leave(connection)

    def _talk(self, connection: Connection, *, alone: bool) -> None:
        head = _read(connection.socket, _ALONE_SECONDS if alone else _HEAD_SECONDS)
        if head is None:
            return
        connection.stage = Stage.WORKING
        if alone and isinstance(head, Head) and head.path not in self._quick:
            head = Refused("503 Service Unavailable", "no thread can be started now")
        encoded = self._answer(head, connection)
        connection.stage = Stage.SENDING
        connection.socket.settimeout(_ALONE_SECONDS if alone else _ANSWER_SECONDS)
        connection.socket.sendall(encoded)
        connection.stage = Stage.ENDING
        _end(connection.socket)

    def _answer(self, head: Head | Refused, connection: Connection) -> bytes:
        if isinstance(head, Refused):
            return refusal(head).encode()
        refused = self._why_refused(head)
        answer = self._asked(Request(head, connection.is_gone)) if refused is None else refusal(refused)
        return answer.encode(with_body=head.method != "HEAD")

    def _asked(self, request: Request) -> Answer:
        try:
            return self._application(request)
        except Exception:
            log.exception("http request could not be answered")
            return in_words("500 Internal Server Error", "the log of this instance says why")

    def _why_refused(self, head: Head) -> Refused | None:
        hosts = head.headers.get("host", ())
        if (problem := host_problem(hosts, needs_host=head.needs_host)) is not None:
            return Refused("400 Bad Request", problem)
        if (problem := unknown_host(hosts, self._names)) is not None:
            return Refused("421 Misdirected Request", problem)
        return None


def _listen(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        # A restart finds connections of its predecessor that are still being closed.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
        # A client that hangs up between the poll and the accept must not hold up the thread.
        listening.settimeout(0.0)
    except OSError:
        listening.close()
        raise
    return listening


def _read(client: socket.socket, within: float) -> Head | Refused | None:
    """Read the head of a request within so many seconds; None if there is nobody to answer."""
    until = time.monotonic() + within
    received = HeadBytes()
    while True:
        left = until - time.monotonic()
        if left <= 0:
            return None if received.is_empty else Refused("408 Request Timeout", "the request takes too long")
        client.settimeout(left)
        try:
            piece = client.recv(_CHUNK_BYTES)
        except TimeoutError:
            continue
        if not piece:
            return None if received.is_empty else received.parse()
        if received.add(piece):
            return received.parse()
        if (hopeless := received.why_hopeless) is not None:
            return hopeless


def _end(client: socket.socket) -> None:
    """Tell the client that the answer is complete, and wait shortly for its own end."""
    client.shutdown(socket.SHUT_WR)
    until = time.monotonic() + _END_SECONDS
    unread = 0
    while unread < _MAX_UNREAD_BYTES and (left := until - time.monotonic()) > 0:
        client.settimeout(left)
        try:
            piece = client.recv(_CHUNK_BYTES)
        except TimeoutError:
            return
        if not piece:
            return
        unread += len(piece)
