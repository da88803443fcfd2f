"""Notifications to systemd (sd_notify), for `Type=notify`. Without systemd every call does nothing.

A notification that fails is only logged, because the daemon's work does not depend on it.
"""

import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

import structlog

from peruserd import logs
from peruserd.core.common.escaping import harmless

# Systemd receives at most 4,096 bytes at once. A character takes up to 4 bytes, or 10 as an escape.
_MAX_STATUS: Final = 400

_READY: Final = "READY=1"

log = structlog.get_logger(__name__)


class Notifier:
    """Sends notifications to a socket, whose address is in the environment's NOTIFY_SOCKET.

    `watchdog_seconds` is how often `watchdog` must be called at least, so that systemd does not take the daemon for
    hanging; None without a watchdog. `is_ready` says whether `ready` was called.
    """

    def __init__(self, address: str | None, watchdog_seconds: float | None = None) -> None:
        # A leading @ stands for the zero byte of Linux' abstract socket names.
        self._address = "\0" + address[1:] if address is not None and address.startswith("@") else address
        self._failing = False
        # What must arrive and could not be sent yet, and the status that was sent last.
        self._owed: str | None = None
        self._status = ""
        self.watchdog_seconds = watchdog_seconds
        self.is_ready = False

    def ready(self) -> None:
        """Say that the daemon has started, or that its reload is over."""
        self.is_ready = True
        self._owed = _READY
        self.repeat()

    def repeat(self) -> None:
        """Say again what must arrive and could not be sent."""
        if self._owed is not None and self._send(self._owed):
            self._owed = None

    def reloading(self) -> None:
        """Say that the daemon reloads its configuration; `ready` must follow."""
        self._owed = None
        # Systemd takes the time from CLOCK_MONOTONIC, in microseconds.
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000}")

    def status(self, sentence: str) -> None:
        """Set the status line, which `systemctl status` shows, unless it says so already.

        What could control a terminal is escaped. Words of a server in it can name users, so it follows `[log] users`.
        """
        line = logs.without_names(" ".join(sentence.splitlines()))
        status = f"STATUS={harmless(line[:_MAX_STATUS])}"
        if status != self._status:
            self._status = status if self._send(status) else ""

    def extend_timeout(self, seconds: float) -> None:
        """Let the start, or the stop, under way take so many seconds from now on, if systemd would end it before."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}")

    def watchdog(self) -> None:
        """Say that the daemon is healthy, if there is a watchdog."""
        if self.watchdog_seconds is not None:
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the daemon is stopping."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> bool:
        if self._address is None:
            return True
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                # A full queue must not hold up the supervisor's loop. What matters is said again.
                sock.setblocking(False)  # noqa: FBT003 - its only parameter
                sock.connect(self._address)
                sock.sendall(message.encode())
        except OSError as error:
            if not self._failing:
                log.warning("systemd was not notified", error=str(error))
            self._failing = True
        else:
            self._failing = False
        return not self._failing


def from_environment(environment: MutableMapping[str, str] = os.environ) -> Notifier:
    """Return the notifier for this process. Its children lose the variables, so they cannot notify in its place."""
    address = environment.pop("NOTIFY_SOCKET", None) or None
    interval, process = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
    is_ours = process in ("", str(os.getpid()))
    microseconds = int(interval) if is_ours and interval.isascii() and interval.isdigit() else 0
    return Notifier(address, microseconds / 1_000_000 if microseconds else None)
