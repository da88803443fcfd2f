"""The metrics of deletions."""

import pytest
from prometheus_client import CollectorRegistry

from peruserd.core.deletions.journal import UNREADABLE, DeletionStatus, Pause, PauseReason
from peruserd.daemon.collecting import GuardedCollector
from peruserd.daemon.deletion_metrics import DeletionMetrics
from tests.daemon.fleets import ReportingFleet, report

NOW = 1_000.0


def exported(pause: Pause | None, *statuses: DeletionStatus | None) -> dict[str, float | None]:
    """Return the values by name."""
    registry = CollectorRegistry()
    fleet = ReportingFleet(*(report(deletions=each) if each else None for each in statuses))
    registry.register(GuardedCollector({"part": DeletionMetrics(fleet, lambda: pause, lambda: NOW).put}))
    names = ("waiting", "held_returns", "beyond_bound", "overdue_seconds", "paused")
    values = {name: registry.get_sample_value(f"peruserd_deletions_{name}") for name in names}
    return {**values, "breaker": registry.get_sample_value("peruserd_deletion_breaker_open")}


def test_what_waits_is_summed_over_the_listeners() -> None:
    """The sums are over all listeners. The oldest deletion says how long one is overdue."""
    statuses = (
        DeletionStatus(3, 1, 0, oldest_due=900.0),
        DeletionStatus(2, 0, 5, oldest_due=700.0),
        None,
        DeletionStatus(),
    )
    found = exported(Pause(), *statuses)
    assert found == {
        "waiting": 5,
        "held_returns": 1,
        "beyond_bound": 5,
        "overdue_seconds": 300,
        "paused": 0,
        "breaker": 0,
    }


def test_what_is_not_due_is_not_overdue() -> None:
    """A deletion within its grace period is not overdue."""
    assert exported(Pause(), DeletionStatus(1, oldest_due=2_000.0))["overdue_seconds"] == 0


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
    """An alert can tell the breaker from an operator. If nothing is ever dropped, neither metric is exported.

    A pause that cannot be read counts as a pause. The breaker may have set it, so the breaker's metric has no value.
    """
    found = exported(pause)
    assert (found["paused"], found["breaker"]) == (paused, breaker)
