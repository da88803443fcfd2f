"""Notifications to systemd (sd_notify), for `Type=notify`. Without systemd every call does nothing.

A notification that fails is only logged, because the daemon's work does not depend on it.
"""

import os
import socket

import structlog

log = structlog.get_logger(__name__)


class Notifier:
    """Sends notifications to a socket, whose address is in the environment's NOTIFY_SOCKET."""

    def __init__(self, address: str | None) -> None:
        # A leading @ stands for the zero byte of Linux' abstract socket names.
        self._address = "\0" + address[1:] if address is not None and address.startswith("@") else address

    def ready(self) -> None:
        """Say that the daemon has started."""
        self._send("READY=1")

    def status(self, sentence: str) -> None:
        """Set the status line, which `systemctl status` shows."""
        self._send(f"STATUS={' '.join(sentence.splitlines())}")

    def stopping(self) -> None:
        """Say that the daemon is stopping. The listeners have ended by then."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.connect(self._address)
                sock.sendall(message.encode())
        except OSError as error:
            log.warning("systemd was not notified", error=str(error))


def from_environment() -> Notifier:
    """Return the notifier for this process. Its children lose the variable, so they cannot notify in its place."""
    return Notifier(os.environ.pop("NOTIFY_SOCKET", None) or None)
