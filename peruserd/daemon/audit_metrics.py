"""The metrics of the audit: the findings of its rounds, how long a round takes, and how old the last one is."""

import time
from collections.abc import Callable

from peruserd.core.audit.findings import Finding
from peruserd.core.audit.rounds import Summary
from peruserd.daemon.samples import Samples
from peruserd.supervisor.fleet_status import StatusSource


class AuditMetrics:
    """Makes these metrics at each scrape, from each listener's last complete round and its current one.

    The figures of complete rounds are left out until each listener has completed one. Earlier figures would look too
    good.
    """

    def __init__(self, fleet: StatusSource, wall_clock: Callable[[], float] = time.time) -> None:
        self._fleet = fleet
        self._wall_clock = wall_clock

    def put(self, out: Samples) -> None:
        """Add the samples of a scrape."""
        listeners = self._fleet.status().listeners
        statuses = [each.report.audit for each in listeners if each.report is not None]
        last = [each.last for each in statuses if each.last is not None]
        running = [each.running for each in statuses if each.running is not None]
        is_whole = bool(last) and len(last) == len(listeners)
        for name, rounds in {"last": last if is_whole else [], "running": running}.items():
            if rounds:
                out.put("peruserd_audit_users", sum(each.users for each in rounds), name)
                for kind in Finding:
                    found = sum(each.findings.get(kind, 0) for each in rounds)
                    out.put("peruserd_audit_findings", found, kind.value, name)
        self._put_ages(out, last if is_whole else [])

    def _put_ages(self, out: Samples, last: list[Summary]) -> None:
        ended = [(each.begun, each.ended) for each in last if each.ended is not None]
        if ended:
            out.put("peruserd_audit_round_seconds", max(end - begun for begun, end in ended))
            out.put("peruserd_audit_age_seconds", max(0.0, self._wall_clock() - min(end for _, end in ended)))
