"""A socket in systemd's place."""

import contextlib
import socket
import threading
from typing import Final

# The kernel keeps ten messages, and the daemon drops those that find no room.
_PAUSE_SECONDS: Final = 0.1


class Systemd:
    """Listens at an address, in which a leading @ stands for an abstract name; `said` is all that it was told."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._socket.setblocking(False)  # noqa: FBT003 - its only parameter
        self.address = address
        self.said: list[str] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._go_on_listening, daemon=True)
        self._thread.start()

    def listen(self) -> list[str]:
        """Return all that was said so far."""
        with self._lock, contextlib.suppress(BlockingIOError):
            while True:
                self.said.extend(self._socket.recv(8_192).decode().splitlines())
        return self.said

    @property
    def status(self) -> str:
        """The status line, as `systemctl status` shows it; empty before the first one."""
        lines = (each.removeprefix("STATUS=") for each in reversed(self.listen()) if each.startswith("STATUS="))
        return next(lines, "")

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self._socket.close()

    def _go_on_listening(self) -> None:
        while not self._closing.wait(_PAUSE_SECONDS):
            self.listen()
