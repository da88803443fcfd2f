"""The metrics of the audit: the findings of its rounds, how long a round takes, and how old the last one is."""

import time
from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from peruserd.core.audit.findings import Finding
from peruserd.core.audit.rounds import Summary
from peruserd.supervisor.fleet_status import StatusSource


class AuditCollector(Collector):
    """Makes these metrics at each scrape, from each listener's last complete round and its current one.

    A figure of complete rounds appears once every listener has completed one: before that it would seem too good.
    """

    def __init__(self, fleet: StatusSource, wall_clock: Callable[[], float] = time.time) -> None:
        self._fleet = fleet
        self._wall_clock = wall_clock

    def collect(self) -> Iterator[Metric]:
        """Return the metric families."""
        listeners = self._fleet.status().listeners
        statuses = [each.report.audit for each in listeners if each.report is not None]
        last = [each.last for each in statuses if each.last is not None]
        running = [each.running for each in statuses if each.running is not None]
        is_whole = bool(last) and len(last) == len(listeners)
        findings = GaugeMetricFamily(
            "peruserd_audit_findings",
            "Users by what the audit found about them, in the last whole round and in the one that goes on.",
            labels=["kind", "round"],
        )
        users = GaugeMetricFamily(
            "peruserd_audit_users", "Users that the audit looked at, by round as above.", labels=["round"]
        )
        for name, rounds in {"last": last if is_whole else [], "running": running}.items():
            if rounds:
                users.add_metric([name], sum(each.users for each in rounds))
                for kind in Finding:
                    findings.add_metric([kind.value, name], sum(each.findings.get(kind, 0) for each in rounds))
        yield findings
        yield users
        yield from self._ages(last if is_whole else [])

    def _ages(self, last: list[Summary]) -> Iterator[Metric]:
        seconds = GaugeMetricFamily("peruserd_audit_round_seconds", "How long the longest of the last rounds took.")
        age = GaugeMetricFamily(
            "peruserd_audit_age_seconds", "How long ago the oldest of the last whole rounds has ended."
        )
        ended = [(each.begun, each.ended) for each in last if each.ended is not None]
        if ended:
            seconds.add_metric([], max(end - begun for begun, end in ended))
            age.add_metric([], max(0.0, self._wall_clock() - min(end for _, end in ended)))
        yield seconds
        yield age
