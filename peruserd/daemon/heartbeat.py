"""The heartbeat of an instance: what the supervisor's loop does about the instance's own health, round by round.

It notifies systemd as well: of the end of the start, of the state in one sentence, and of the daemon's health.
"""

from collections.abc import Callable
from typing import Final

import structlog

from peruserd import tracebacks
from peruserd.daemon.health import Health
from peruserd.daemon.systemd import Notifier

# The loop can go round a hundred times a second.
_LEAST_SECONDS: Final = 1.0

# While the start goes on, systemd is asked again and again for so much more time.
_EXTENSION_SECONDS: Final = 60.0
_EXTEND_EVERY_SECONDS: Final = 10.0

# `systemctl start`, the boot and the installation of a package wait for the end of the start. They must not wait for
# ever for a server that is away, or for a scan of hours. The status then says what is missing.
START_SECONDS: Final = 900.0
"""The start counts as over after this time, even if the listeners have not caught up."""

log = structlog.get_logger(__name__)


class Heartbeat:
    """Tells systemd how the instance stands, and ends an instance of which a thread no longer works.

    - The watchdog hears of a healthy instance only.
    - The start is over once the listeners have caught up. Until then systemd is asked for more time.
    - `status_line` gets the answer of `/healthz`, and returns the sentence for `systemctl status`, or None.
    - `end` gets the reason. It is called once.
    - `is_stopping` says whether the instance ends already.
    """

    def __init__(
        self,
        health: Health,
        notifier: Notifier,
        end: Callable[[str], None],
        status_line: Callable[[tuple[bool, str]], str | None],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._health = health
        self._notifier = notifier
        self._end = end
        self._status_line = status_line
        self._is_stopping = is_stopping
        self._due = 0.0
        self._begun_at: float | None = None
        self._extend_at = 0.0
        self._ends = False
        self._says_stopping = False
        self._failed = False

    def beat(self, now: float) -> None:
        """Do what is due at this monotonic time; the supervisor's loop calls this in each round."""
        if not self._says_stopping and self._is_stopping():
            # The loop may end within this second.
            self._says_stopping = True
            self._notifier.stopping()
        if now < self._due:
            return
        self._due = now + _LEAST_SECONDS
        healthy = self._health.healthy()
        if healthy[0]:
            self._notifier.watchdog()
        if not self._ends and (why := self._health.broken()) is not None:
            self._ends = True
            # This shows where a thread hangs.
            tracebacks.dump()
            self._end(why)
        try:
            self._tell(healthy, now)
        except Exception:
            # The loop must not end because of a sentence.
            if not self._failed:
                log.exception("systemd cannot be told how the instance stands")
            self._failed = True

    def _tell(self, healthy: tuple[bool, str], now: float) -> None:
        self._notifier.repeat()
        if (line := self._status_line(healthy)) is not None:
            self._notifier.status(line)
        if not self._notifier.is_ready and not self._says_stopping:
            self._go_on_with_start(now)

    def _go_on_with_start(self, now: float) -> None:
        self._begun_at = now if self._begun_at is None else self._begun_at
        if self._health.started() or now - self._begun_at >= START_SECONDS:
            self._notifier.ready()
        elif now >= self._extend_at:
            self._extend_at = now + _EXTEND_EVERY_SECONDS
            self._notifier.extend_timeout(_EXTENSION_SECONDS)
