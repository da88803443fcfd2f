"""The course of the latency, by samples of a histogram."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.processes.counters import LATENCY_BUCKETS, Histogram
from peruserd.core.processes.latency import (
    KEPT_SECONDS,
    RECENT_SECONDS,
    SAMPLE_SECONDS,
    LatencyHistory,
    percentile,
)

WALL = 1_000_000.0


def _histogram(*seconds: float) -> Histogram:
    histogram = Histogram()
    for each in seconds:
        histogram.observe(each)
    return histogram


def test_nobody_served_has_no_percentile() -> None:
    """Zero would look like a perfect service."""
    assert percentile(Histogram().buckets, 0.5) is None


@pytest.mark.parametrize(
    ("seconds", "share", "expected"),
    [
        ([0.02] * 4, 0.5, 0.0175),
        ([0.02] * 4, 1.0, 0.025),
        ([0.02] * 9 + [0.4], 0.95, 0.375),
        ([0.001], 0.5, 0.0025),
        ([400.0], 0.5, LATENCY_BUCKETS[-1]),
    ],
)
def test_a_percentile_is_interpolated_within_its_bucket(seconds: list[float], share: float, expected: float) -> None:
    """This is how Prometheus' histogram_quantile does it, so both show the same figure."""
    assert percentile(_histogram(*seconds).buckets, share) == pytest.approx(expected)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50), st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_percentile_grows_with_its_share(seconds: list[float], share: float, other: float) -> None:
    """So the median is never above the 95th percentile."""
    buckets = _histogram(*seconds).buckets
    less, more = (percentile(buckets, each) for each in sorted((share, other)))
    assert less is not None
    assert more is not None
    assert 0 < less <= more <= LATENCY_BUCKETS[-1]


def test_each_point_has_the_users_of_its_own_time() -> None:
    """A slow minute shows in its own point, and later points are quick again."""
    total = Histogram()
    history = LatencyHistory()
    for number, seconds in enumerate([None, 0.02, 4.0, 0.02]):
        if seconds is not None:
            total.observe(seconds)
        history = history.sampled(total, number * SAMPLE_SECONDS)
    status = history.status(total, 3 * SAMPLE_SECONDS + 10, WALL)
    assert [(each.served, each.seconds) for each in status.course] == [(1, 30.0), (1, 30.0), (1, 30.0), (0, 10.0)]
    assert [each.median for each in status.course] == [pytest.approx(each) for each in (0.0175, 3.75, 0.0175)] + [None]
    assert [each.at for each in status.course] == [WALL - 70, WALL - 40, WALL - 10, WALL]
    assert status.recent.served == 3
    assert status.buckets == tuple(total.buckets)


def test_the_recent_figure_forgets_old_users() -> None:
    """It is of the last minutes, so it follows a change of the speed."""
    total = _histogram(50.0)
    history = LatencyHistory().sampled(Histogram(), 0.0).sampled(total, SAMPLE_SECONDS)
    now = SAMPLE_SECONDS + RECENT_SECONDS
    total.observe(0.02)
    recent = history.status(total, now, WALL).recent
    assert (recent.served, recent.seconds) == (1, RECENT_SECONDS)


def test_without_any_sample_the_course_is_empty() -> None:
    """The status can be asked for before the loop has gone round once."""
    status = LatencyHistory().status(_histogram(0.1), 5.0, WALL)
    assert status.course == ()
    assert (status.recent.served, status.recent.seconds) == (0, 0.0)


def test_the_history_is_bounded_and_sampled_only_when_due() -> None:
    """A daemon runs for months, and its loop goes round hundreds of times a second."""
    history = LatencyHistory()
    taken = 0
    for second in range(0, 10_000, 5):
        if history.is_due(float(second)):
            taken += 1
            history = history.sampled(Histogram(), float(second))
    assert taken == math.ceil(10_000 / SAMPLE_SECONDS)
    assert len(history.samples) == KEPT_SECONDS / SAMPLE_SECONDS + 1
    assert len(history.status(Histogram(), 9_995.0, WALL).course) <= KEPT_SECONDS / SAMPLE_SECONDS + 1
