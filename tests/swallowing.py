"""A line between a program and a server that can go dead at any moment, as a network does that drops packets."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_CHUNK = 65_536

# More connections than the smallest queue of a listening socket holds.
_FILLERS = 4


class Death(Enum):
    """How the line is dead."""

    SILENT = "connections are made, and nothing is ever answered"
    DROPPING = "packets are dropped, so that no connection is made either"


class Line:
    """A line on a free port before the server at `upstream`, a URL with credentials; a context manager.

    `url` has the same credentials. After `die` no byte passes any more, and no connection is closed.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        assert parts.port is not None
        self._upstream = (parts.hostname, parts.port)
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._ended = threading.Event()
        self._dead = threading.Event()
        self._refuses = False
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self.url = f"http://{parts.username}:{parts.password}@127.0.0.1:{self._listening.getsockname()[1]}"

    def die(self, how: Death) -> None:
        """Let nothing pass any more."""
        self._dead.set()
        if how is Death.DROPPING:
            self._refuses = True
            for each in fill(self._listening):
                self._kept(each)

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the line, and all its connections."""
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        with self._lock:
            sockets, threads = list(self._sockets), list(self._threads)
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for each in sockets:
            each.close()

    def _kept(self, sock: socket.socket) -> socket.socket:
        with self._lock:
            self._sockets.append(sock)
        return sock

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                near = self._kept(self._listening.accept()[0])
            except OSError:
                return
            if self._dead.is_set():
                if self._refuses:
                    return
                continue
            far = self._kept(socket.create_connection(self._upstream))
            pumps = [threading.Thread(target=self._pump, args=pair) for pair in ((near, far), (far, near))]
            with self._lock:
                self._threads += pumps
            for pump in pumps:
                pump.start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                if self._dead.is_set():
                    self._ended.wait()
                    return
                target.sendall(data)
            if not self._dead.is_set():
                target.shutdown(socket.SHUT_WR)


def fill(listening: socket.socket) -> list[socket.socket]:
    """Fill the queue of a listening socket; return what fills it, to be kept open.

    With a full queue the kernel answers no more requests for connections, as if packets were dropped.
    """
    listening.listen(0)
    fillers = [socket.socket() for _ in range(_FILLERS)]
    for each in fillers:
        each.setblocking(False)  # noqa: FBT003 - its only parameter
        each.connect_ex(listening.getsockname())
    return fillers


@contextmanager
def dead_port(how: Death) -> Iterator[int]:
    """Give a port at which nothing is ever answered."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        for each in fill(listening) if how is Death.DROPPING else ():
            stack.enter_context(each)
        yield listening.getsockname()[1]
