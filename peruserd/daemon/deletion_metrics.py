"""The metrics of deletions: how many wait, how long, and whether all drops are paused."""

import time
from collections.abc import Callable

from peruserd.core.deletions.journal import Pause, PauseReason
from peruserd.daemon.samples import Samples
from peruserd.supervisor.fleet_status import StatusSource


class DeletionMetrics:
    """Makes these metrics at each scrape. The number of drops is among the other counters."""

    def __init__(
        self, fleet: StatusSource, pause: Callable[[], Pause | None], wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._fleet = fleet
        self._pause = pause
        self._wall_clock = wall_clock

    def put(self, out: Samples) -> None:
        """Add the samples of a scrape."""
        statuses = [each.report.deletions for each in self._fleet.status().listeners if each.report is not None]
        due = [each.oldest_due for each in statuses if each.oldest_due is not None]
        out.put("peruserd_deletions_waiting", sum(each.waiting for each in statuses))
        out.put("peruserd_deletions_held_returns", sum(each.held for each in statuses))
        out.put("peruserd_deletions_beyond_bound", sum(each.uncounted for each in statuses))
        out.put("peruserd_deletions_overdue_seconds", max(0.0, self._wall_clock() - min(due)) if due else 0.0)
        pause = self._pause()
        if pause is None:
            return
        out.put("peruserd_deletions_paused", pause.paused)
        # If the pause cannot be read, the breaker may have set it.
        if pause.why is not PauseReason.UNREADABLE:
            out.put("peruserd_deletion_breaker_open", pause.paused and pause.why is PauseReason.BREAKER)
