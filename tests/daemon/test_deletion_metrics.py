"""The metrics of deletions."""

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from peruserd.core.counters import Counters
from peruserd.core.deletions import UNREADABLE, Pause, PauseReason, Standing
from peruserd.core.lifecycle import State
from peruserd.core.messages import Report, Stage
from peruserd.core.ranges import WHOLE_SPACE
from peruserd.core.views import Copy
from peruserd.daemon.deletion_metrics import DeletionCollector
from peruserd.supervisor.fleet import FleetStatus
from peruserd.supervisor.listener import ListenerStatus

NOW = 1_000.0
COPY = Copy("_users", WHOLE_SPACE, "node1@host", ".1")
REPORT = Report(
    beats=1,
    stage=Stage.FOLLOWING,
    caught_up=True,
    checkpoint=1,
    shard_sequence=1,
    waiting=0,
    in_flight=0,
    quarantined=0,
    counters=Counters(),
)


class StandingFleet:
    """A fleet of listeners whose deletions are given; None: one that has not reported yet."""

    def __init__(self, *standings: Standing | None) -> None:
        self._standings = standings

    def status(self) -> FleetStatus:
        """Return it."""
        listeners = tuple(
            ListenerStatus(
                COPY,
                State.RUNNING,
                None,
                restarts=0,
                pid=None,
                report=None if each is None else msgspec.structs.replace(REPORT, deletions=each),
                caught_up=each is not None,
            )
            for each in self._standings
        )
        return FleetStatus(listeners, Counters(), {}, unreadable=())


def exported(pause: Pause | None, *standings: Standing | None) -> dict[str, float | None]:
    """Return the values by name."""
    registry = CollectorRegistry()
    fleet = StandingFleet(*standings)
    registry.register(DeletionCollector(fleet, lambda: pause, lambda: NOW))  # type: ignore[arg-type]
    names = ("waiting", "held_returns", "beyond_bound", "overdue_seconds", "paused")
    values = {name: registry.get_sample_value(f"peruserd_deletions_{name}") for name in names}
    return {**values, "breaker": registry.get_sample_value("peruserd_deletion_breaker_open")}


def test_what_waits_is_summed_over_the_listeners() -> None:
    """All listeners count, and the oldest of all deletions says how long one is overdue."""
    standings = (Standing(3, 1, 0, oldest_due=900.0), Standing(2, 0, 5, oldest_due=700.0), None, Standing())
    found = exported(Pause(), *standings)
    assert found == {
        "waiting": 5,
        "held_returns": 1,
        "beyond_bound": 5,
        "overdue_seconds": 300,
        "paused": 0,
        "breaker": 0,
    }


def test_what_is_not_due_is_not_overdue() -> None:
    """A deletion within its grace period is nothing to worry about."""
    assert exported(Pause(), Standing(1, oldest_due=2_000.0))["overdue_seconds"] == 0


@pytest.mark.parametrize(
    ("pause", "paused", "breaker"),
    [
        (Pause(paused=True), 1, 0),
        (Pause(paused=True, why=PauseReason.BREAKER), 1, 1),
        (UNREADABLE, 1, None),
        (None, None, None),
    ],
)
def test_a_stop_is_told_from_a_pause(pause: Pause | None, paused: float | None, breaker: float | None) -> None:
    """An alert can tell the breaker from an operator; where nothing is ever dropped neither is exported.

    A pause that cannot be read is a pause, and may be the breaker's: neither an open nor a closed one is shown.
    """
    found = exported(pause)
    assert (found["paused"], found["breaker"]) == (paused, breaker)
