"""The control socket: operators' commands reach the running daemon through this Unix socket in the state directory.

Only the daemon's own account and root get an answer. The socket's mode ensures that, and the daemon also asks the
kernel for the client's user. Clients, messages and times are bounded, so no client keeps another one waiting.
"""

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec
import structlog

from peruserd import threads
from peruserd.core.processes.control import MAX_BYTES, SOCKET_NAME, Answer, Order, Refused, decode_order, encode_line
from peruserd.repeated_task import RepeatedTask

CarryOut = Callable[[Order, int], Iterator[Answer]]
"""Carries out an order of the user with this id, and yields answers about its progress."""

# An operator types one command at a time. Scripts wait for their turn.
_MAX_CLIENTS: Final = 8

# Beyond these the kernel sends clients away before the daemon knows of them.
_MAX_WAITING: Final = 128

# The daemon hangs up on a client whose message is not whole after this long. It does so as well if the client reads no
# answer for as long.
_PATIENCE_SECONDS: Final = 10.0

# The daemon listens this long to a client without a place. Meanwhile it accepts no other client.
_BRIEF_SECONDS: Final = 0.2

# How long the daemon waits for a client at a time.
_ROUND_SECONDS: Final = 10.0

# The next client is accepted this long after one for whom no thread could be made.
_PAUSE_SECONDS: Final = 0.2

# The size of the kernel's buffer for the path of a Unix socket, with the final zero byte.
_MAX_PATH_BYTES: Final = 108

_CREDENTIALS: Final = struct.Struct("3i")

log = structlog.get_logger(__name__)


class ControlSocket:
    """Accepts clients in one thread, and serves each client in another."""

    def __init__(self, directory: Path, carry_out: CarryOut) -> None:
        self._directory = directory
        self._carry_out = carry_out
        self._socket: socket.socket | None = None
        self._task: RepeatedTask | None = None
        self._places = threading.BoundedSemaphore(_MAX_CLIENTS)

    def start(self) -> None:
        """Begin to listen; raises OSError if the socket cannot be made.

        A socket that is there already was left by a killed daemon, because only one holds the state directory.
        """
        path = self._directory / SOCKET_NAME
        path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            # The mode is set before the socket has a name, so no other account can connect in between.
            os.fchmod(listening.fileno(), 0o600)
            with reachable(path) as address:
                listening.bind(address)
            listening.listen(_MAX_WAITING)
        except OSError:
            listening.close()
            raise
        self._socket = listening
        # The thread that accepts gives a sign of life at least this often.
        listening.settimeout(_ROUND_SECONDS)
        self._task = RepeatedTask("control", lambda: self._accept(listening))
        self._task.start()

    def stop(self) -> None:
        """Stop listening; an order under way goes on until the process ends."""
        listening, self._socket = self._socket, None
        if listening is None:
            return
        if self._task is not None:
            self._task.stop()
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        (self._directory / SOCKET_NAME).unlink(missing_ok=True)

    def _accept(self, listening: socket.socket) -> float | None:
        """Take a client, or none within the time of the socket; return that no pause follows, None at the end."""
        threads.beat(_ROUND_SECONDS)
        try:
            client, _ = listening.accept()
        except TimeoutError:
            return 0.0
        except OSError:
            if self._socket is not listening:
                return None
            raise
        if not self._places.acquire(blocking=False):
            self._turn_away(client)
            return 0.0
        try:
            threading.Thread(target=self._serve, args=(client,), name="control-client", daemon=True).start()
        except RuntimeError as error:
            # The next clients must not wait for longer and longer, as after other faults.
            log.warning("control socket cannot serve a client", error=str(error))
            self._places.release()
            client.close()
            return _PAUSE_SECONDS
        return 0.0

    def _turn_away(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            # If a socket is closed with unread data, the client loses the answer.
            _line(client, _BRIEF_SECONDS)
            _send(client, Refused(f"{_MAX_CLIENTS} other commands are under way; try again"))

    def _serve(self, client: socket.socket) -> None:
        try:
            with client:
                self._talk(client)
        except OSError as error:
            log.info("control client is gone", error=str(error))
        except Exception:
            log.exception("control client could not be served")
        finally:
            self._places.release()

    def _talk(self, client: socket.socket) -> None:
        message = _line(client, _PATIENCE_SECONDS)
        client.settimeout(_PATIENCE_SECONDS)
        _, uid, _ = _CREDENTIALS.unpack(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        if uid not in (0, os.geteuid()):
            log.warning("control client refused", uid=uid)
            _send(client, Refused("only root and the account that peruserd runs as may give orders", again=False))
            return
        try:
            order = decode_order(message)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            _send(client, Refused(f"not understood: {error}; is the command of another version?", again=False))
            return
        for answer in self._carry_out(order, uid):
            _send(client, answer)


def _line(client: socket.socket, within: float) -> bytes:
    """Return the message that a client sends; a longer one is cut one byte beyond the limit, and is not valid.

    Raises TimeoutError if it is not whole after this many seconds, even if its bytes come one by one.
    """
    received = bytearray()
    deadline = time.monotonic() + within
    while not received.endswith(b"\n") and len(received) <= MAX_BYTES:
        if (left := deadline - time.monotonic()) <= 0:
            raise TimeoutError(f"its order was not whole after {within} seconds")
        client.settimeout(left)
        chunk = client.recv(65_536)
        if not chunk:
            break
        received += chunk
    return bytes(received[: MAX_BYTES + 1])


def _send(client: socket.socket, answer: Answer) -> None:
    client.sendall(encode_line(answer))


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """Give an address of a Unix socket that the kernel accepts, for a path of any length."""
    if len(os.fsencode(path)) < _MAX_PATH_BYTES:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
