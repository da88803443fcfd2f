"""The metrics of deletions: how many wait, how long, and whether all drops are paused."""

import time
from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from peruserd.core.deletions.journal import Pause, PauseReason
from peruserd.supervisor.fleet_status import StatusSource


class DeletionCollector(Collector):
    """Makes these metrics at each scrape. The number of drops is among the other counters."""

    def __init__(
        self, fleet: StatusSource, pause: Callable[[], Pause | None], wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._fleet = fleet
        self._pause = pause
        self._wall_clock = wall_clock

    def collect(self) -> Iterator[Metric]:
        """Return the metric families."""
        statuses = [each.report.deletions for each in self._fleet.status().listeners if each.report is not None]
        due = [each.oldest_due for each in statuses if each.oldest_due is not None]
        overdue = max(0.0, self._wall_clock() - min(due)) if due else 0.0
        gauges = {
            "peruserd_deletions_waiting": (
                "Databases of deleted users that wait to be dropped.",
                sum(each.waiting for each in statuses),
            ),
            "peruserd_deletions_held_returns": (
                "Databases kept shut because their user came back under a freed name.",
                sum(each.held for each in statuses),
            ),
            "peruserd_deletions_beyond_bound": (
                "Deletions that are left to the journal, because too many wait.",
                sum(each.uncounted for each in statuses),
            ),
            "peruserd_deletions_overdue_seconds": ("How long the oldest deletion is overdue.", overdue),
        }
        for name, (help_text, value) in gauges.items():
            yield GaugeMetricFamily(name, help_text, value=value)
        pause = self._pause()
        if pause is None:
            return
        yield GaugeMetricFamily(
            "peruserd_deletions_paused",
            "1 while no database is dropped in the cluster, or while that cannot be read.",
            value=pause.paused,
        )
        breaker = GaugeMetricFamily(
            "peruserd_deletion_breaker_open",
            "1 while all drops wait because there were too many; no value while that cannot be read.",
        )
        # If the pause cannot be read, the breaker may have set it.
        if pause.why is not PauseReason.UNREADABLE:
            breaker.add_metric([], pause.paused and pause.why is PauseReason.BREAKER)
        yield breaker
