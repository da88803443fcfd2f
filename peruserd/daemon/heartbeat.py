"""The heartbeat of an instance: what the supervisor's loop does about the instance's own health, round by round."""

import faulthandler
from collections.abc import Callable
from typing import Final

from peruserd.daemon.health import Health
from peruserd.daemon.systemd import Notifier

# The loop can go round a hundred times a second.
_LEAST_SECONDS: Final = 1.0


class Heartbeat:
    """Tells systemd how the instance stands, and ends an instance of which a thread no longer works.

    - The watchdog hears of a healthy instance only.
    - `status_line` gets the answer of `/healthz`, and returns the sentence for `systemctl status`, or None.
    - `end` gets the reason. It is called once.
    """

    def __init__(
        self,
        health: Health,
        notifier: Notifier,
        end: Callable[[str], None],
        status_line: Callable[[tuple[bool, str]], str | None],
    ) -> None:
        self._health = health
        self._notifier = notifier
        self._end = end
        self._status_line = status_line
        self._due = 0.0
        self._ends = False

    def beat(self, now: float) -> None:
        """Do what is due at this monotonic time; the supervisor's loop calls this in each round."""
        if now < self._due:
            return
        self._due = now + _LEAST_SECONDS
        healthy = self._health.healthy()
        if healthy[0]:
            self._notifier.watchdog()
        if (line := self._status_line(healthy)) is not None:
            self._notifier.status(line)
        if not self._ends and (why := self._health.broken()) is not None:
            self._ends = True
            # This shows where a thread hangs.
            faulthandler.dump_traceback()
            self._end(why)
