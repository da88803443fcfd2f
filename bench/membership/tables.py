"""The figures, tables and charts of the benchmark `membership`."""

from collections.abc import Sequence
from statistics import median
from typing import Final

import msgspec

from bench.harness.cluster import ClusterError
from bench.membership.measurement import Course
from bench.membership.samples import AFTER, BEFORE, DURING, KEPT, LOST, Run, latencies
from bench.results import Chart, Figure, Report, Table, percentile

MAX_RATIO_TO_BEFORE: Final = 1.5

# A latency can be below zero, because the daemon may be done before the answer has come back to the user.
_MIN_CHARTED_MS: Final = 0.1


class Summary(msgspec.Struct, frozen=True):
    """The p99 of the users who keep their owner, in milliseconds, and the longest wait of the others.

    An instance is lost from the kill to the new start, and comes back from then on.
    """

    p99_before: float
    p99_lost: float
    p99_back: float
    longest_lost: float
    latest_start: float


def summary(rounds: Sequence[Run]) -> Summary:
    """Sum the rounds up. Raises ClusterError where a group is empty, which only happens when the run is too short."""
    before, during, after = (latencies(rounds, [phase], KEPT) for phase in (BEFORE, DURING, AFTER))
    lost = latencies(rounds, [DURING], LOST)
    if not (before and during and after and lost):
        raise ClusterError("too few users signed up to compare before and after")
    return Summary(
        p99_before=percentile(before, 99),
        p99_lost=percentile(during, 99),
        p99_back=percentile(after, 99),
        longest_lost=max(lost),
        latest_start=max(user.begun - user.due for each in rounds for user in each.users) * 1e3,
    )


def figures(samples: Sequence[Run]) -> dict[str, Figure]:
    """Return the p99 of each phase beside that before the loss, and the longest wait."""
    found = summary(samples)
    lost, back = found.p99_lost / found.p99_before, found.p99_back / found.p99_before
    return {
        "p99 before": Figure((found.p99_before,), "ms", "lower"),
        "p99 while an instance is lost / before": Figure((lost,), "", "lower", MAX_RATIO_TO_BEFORE),
        "p99 as it comes back / before": Figure((back,), "", "lower"),
        "longest wait for a new owner": Figure((found.longest_lost / 1e3,), "s", "lower"),
    }


def report(course: Course, samples: Sequence[Run]) -> Report:
    """Return the latencies by phase and group as a table, and all of them over time as a chart."""
    found = summary(samples)
    by_phase = Table(
        f"An instance killed and started again, {course.rate:g} sign-ups a second: latency in ms",
        ("phase", "users who", "users", "p50", "p90", "p99", "max"),
        phase_rows(samples),
    )
    bounds = Table(
        "Beside the goal",
        ("what", "measured", "should be"),
        (
            (
                "longest wait for a new owner",
                f"{found.longest_lost / 1e3:.1f} s",
                f"{course.promised:g} s and the time of a scan",
            ),
            (
                "a sign-up begins late by",
                f"{found.latest_start:.1f} ms",
                f"at most {1e3 / course.rate:g} ms, or it is no open loop",
            ),
        ),
    )
    chart = Chart(
        f"an instance is lost, {course.rate:g} sign-ups a second",
        "seconds since it was killed",
        "latency in ms",
        {group: _points(samples, group) for group in (KEPT, LOST)},
        limit=MAX_RATIO_TO_BEFORE * found.p99_before,
        limit_label=f"{MAX_RATIO_TO_BEFORE} x p99 before, of those who {KEPT}",
        logarithmic_y=True,
        points=True,
        marks={"killed": 0.0, "started again": median(each.restarted for each in samples)},
    )
    return Report((by_phase, bounds), (chart,))


def phase_rows(rounds: Sequence[Run]) -> tuple[tuple[str, ...], ...]:
    """Return the rows by group and phase, in milliseconds."""
    rows = []
    for group in (KEPT, LOST):
        for phase in (BEFORE, DURING, AFTER):
            values = latencies(rounds, [phase], group)
            points = [f"{percentile(values, percent):,.1f}" for percent in (50, 90, 99, 100)] if values else ["–"] * 4  # noqa: RUF001
            rows.append((phase, group, str(len(values)), *points))
    return tuple(rows)


def _points(rounds: Sequence[Run], group: str) -> list[tuple[float, float]]:
    return [
        (user.due, max(_MIN_CHARTED_MS, user.milliseconds))
        for each in rounds
        for user in each.users
        if user.lost == (group == LOST)
    ]
