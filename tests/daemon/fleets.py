"""A fleet whose listeners have given reports."""

from typing import Any

import msgspec

from peruserd.core.cluster.views import Copy
from peruserd.core.ownership.ranges import WHOLE_SPACE
from peruserd.core.processes.counters import Counters
from peruserd.core.processes.lifecycle import State
from peruserd.core.processes.messages import Report, Stage
from peruserd.supervisor.fleet_status import FleetStatus
from peruserd.supervisor.listener import ListenerStatus

_COPY = Copy("_users", WHOLE_SPACE, "node1@host", ".1")
_REPORT = Report(
    rounds=1,
    stage=Stage.FOLLOWING,
    caught_up=True,
    checkpoint=1,
    shard_sequence=1,
    waiting=0,
    in_flight=0,
    quarantined=0,
    counters=Counters(),
)


def report(**parts: Any) -> Report:
    """Return a report with these parts."""
    return msgspec.structs.replace(_REPORT, **parts)


class ReportingFleet:
    """A fleet of listeners with these reports; None is a listener without a report."""

    def __init__(self, *reports: Report | None) -> None:
        self._reports = reports

    def status(self) -> FleetStatus:
        """Return the status."""
        listeners = tuple(
            ListenerStatus(_COPY, State.RUNNING, None, restarts=0, pid=None, report=each, caught_up=each is not None)
            for each in self._reports
        )
        return FleetStatus(listeners, Counters(), {}, unreadable=())
