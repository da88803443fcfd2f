"""The control socket: a Unix socket in the state directory by which an operator's commands reach the running daemon.

Only the account that the daemon runs as, and root, are answered: the socket's mode says so, and so does the kernel,
which knows the user at the other end. Clients, messages and time are bounded, so no client keeps another one waiting.
"""

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec
import structlog

from peruserd.core.processes.control import MAX_BYTES, SOCKET_NAME, Answer, Order, Refused, decode_order, encode_line

CarryOut = Callable[[Order, int], Iterator[Answer]]
"""Carries out an order of the user with this id, and tells how it goes."""

# An operator types one command at a time; scripts wait for each other's.
_MAX_CLIENTS: Final = 8

# A client that sends or takes nothing for this long is hung up on.
_PATIENCE_SECONDS: Final = 10.0

# A client for whom there is no place is listened to this long: no other one can come in meanwhile.
_BRIEF_SECONDS: Final = 0.2

# After an error that concerns no client, such as no descriptor left.
_PAUSE_SECONDS: Final = 1.0

# The longest path of a Unix socket that the kernel takes, the zero at its end included.
_MAX_PATH_BYTES: Final = 108

_CREDENTIALS: Final = struct.Struct("3i")

log = structlog.get_logger(__name__)


class ControlSocket:
    """Serves orders from a thread, each client in one of its own."""

    def __init__(self, directory: Path, carry_out: CarryOut) -> None:
        self._directory = directory
        self._carry_out = carry_out
        self._listener: socket.socket | None = None
        self._places = threading.BoundedSemaphore(_MAX_CLIENTS)

    def start(self) -> None:
        """Begin to listen; raises OSError where the socket cannot be made.

        One that is there already was left by a daemon that was killed: the state directory has one holder at a time.
        """
        path = self._directory / SOCKET_NAME
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            # Before it has a name, so that nobody can connect while its mode is another one.
            os.fchmod(listener.fileno(), 0o600)
            with reachable(path) as address:
                listener.bind(address)
            listener.listen(_MAX_CLIENTS)
        except OSError:
            listener.close()
            raise
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), name="control", daemon=True).start()

    def stop(self) -> None:
        """Listen no more; an order that is under way goes on until the process ends."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        (self._directory / SOCKET_NAME).unlink(missing_ok=True)

    def _accept(self, listener: socket.socket) -> None:
        pause = threading.Event()
        while self._listener is listener:
            try:
                client, _ = listener.accept()
            except OSError as error:
                if self._listener is listener:
                    log.warning("control socket cannot take a client", error=str(error))
                    pause.wait(_PAUSE_SECONDS)
                continue
            if not self._places.acquire(blocking=False):
                self._turn_away(client)
                continue
            try:
                threading.Thread(target=self._serve, args=(client,), name="control-client", daemon=True).start()
            except RuntimeError as error:
                # No thread can be made now. This one goes on, because without it no order is ever taken again.
                log.warning("control socket cannot serve a client", error=str(error))
                self._places.release()
                client.close()

    def _turn_away(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            client.settimeout(_BRIEF_SECONDS)
            # Data that is left unread when a socket is closed takes the answer with it.
            _line(client)
            _send(client, Refused(f"{_MAX_CLIENTS} other commands are under way; try again"))

    def _serve(self, client: socket.socket) -> None:
        try:
            with client:
                client.settimeout(_PATIENCE_SECONDS)
                self._talk(client)
        except OSError as error:
            log.info("control client is gone", error=str(error))
        except Exception:
            log.exception("control client could not be served")
        finally:
            self._places.release()

    def _talk(self, client: socket.socket) -> None:
        message = _line(client)
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


def _line(client: socket.socket) -> bytes:
    """Return the message that a client sends; one too long is no message."""
    received = bytearray()
    while not received.endswith(b"\n") and len(received) <= MAX_BYTES:
        chunk = client.recv(65_536)
        if not chunk:
            break
        received += chunk
    return bytes(received[: MAX_BYTES + 1])


def _send(client: socket.socket, answer: Answer) -> None:
    client.sendall(encode_line(answer))


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """Give an address of a Unix socket that the kernel takes, however long the path is."""
    if len(os.fsencode(path)) < _MAX_PATH_BYTES:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
