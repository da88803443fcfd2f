"""A socket in systemd's place."""

import contextlib
import socket


class Systemd:
    """Listens at an address, in which a leading @ stands for an abstract name; `said` is all that it was told."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._socket.setblocking(False)  # noqa: FBT003 - its only parameter
        self.address = address
        self.said: list[str] = []

    def listen(self) -> list[str]:
        """Return all that was said so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.said.extend(self._socket.recv(8_192).decode().splitlines())
        return self.said

    @property
    def status(self) -> str:
        """The status line, as `systemctl status` shows it; empty before the first one."""
        lines = (each.removeprefix("STATUS=") for each in reversed(self.listen()) if each.startswith("STATUS="))
        return next(lines, "")

    def close(self) -> None:
        self._socket.close()
