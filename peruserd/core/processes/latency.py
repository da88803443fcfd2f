"""The course of the latency: samples of a histogram that only grows, and the percentiles between two of them.

The number of samples is bounded, and each is as small as the histogram. Pure: times are of the caller's monotonic
clock, in seconds.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import msgspec

from peruserd.core.processes.counters import LATENCY_BUCKETS, Histogram
from peruserd.core.processes.status import LatencyPoint, LatencyStatus

SAMPLE_SECONDS: Final = 30.0
"""The time between two samples, which is the width of a point of the course."""

KEPT_SECONDS: Final = 1_800.0
"""The length of the course."""

RECENT_SECONDS: Final = 300.0
"""The time of the one figure for now: long enough for some sign-ups, and short enough to follow a change."""

_MAX_SAMPLES: Final = int(KEPT_SECONDS / SAMPLE_SECONDS) + 1


class Sample(msgspec.Struct, frozen=True):
    """The histogram at one moment."""

    at: float
    buckets: tuple[int, ...]


class LatencyHistory(msgspec.Struct, frozen=True):
    """The samples so far, the oldest first."""

    samples: tuple[Sample, ...] = ()

    def is_due(self, now: float) -> bool:
        """Say whether it is time for another sample."""
        return not self.samples or now - self.samples[-1].at >= SAMPLE_SECONDS

    def sampled(self, histogram: Histogram, now: float) -> "LatencyHistory":
        """Return the history with one more sample, and without those that are too old."""
        kept = tuple(each for each in self.samples if now - each.at <= KEPT_SECONDS)
        return LatencyHistory((*kept, Sample(now, tuple(histogram.buckets)))[-_MAX_SAMPLES:])

    def status(self, histogram: Histogram, now: float, wall: float) -> LatencyStatus:
        """Return the course up to `now`, with the histogram of now. `wall` is now by the wall clock."""
        latest = Sample(now, tuple(histogram.buckets))
        samples = [*(each for each in self.samples if each.at < now), latest]
        course = tuple(_point(before, after, now, wall) for before, after in pairwise(samples))
        # The newest sample that is old enough; or else the oldest one.
        old_enough = (each for each in reversed(samples) if now - each.at >= RECENT_SECONDS)
        since = next(old_enough, samples[0])
        return LatencyStatus(LATENCY_BUCKETS, latest.buckets, _point(since, latest, now, wall), course)


def percentile(buckets: Sequence[int], share: float) -> float | None:
    """Return the time within which a share of the users was served, in seconds; None if there is no user.

    It is interpolated within its bucket. The last bucket has no upper bound, and counts as the last bound.
    """
    wanted = share * sum(buckets)
    if not wanted:
        return None
    passed = 0
    lower = 0.0
    for count, upper in zip(buckets, LATENCY_BUCKETS, strict=False):
        if passed + count >= wanted:
            return lower + (upper - lower) * (wanted - passed) / count
        passed += count
        lower = upper
    return LATENCY_BUCKETS[-1]


def _point(before: Sample, after: Sample, now: float, wall: float) -> LatencyPoint:
    buckets = [max(0, later - sooner) for sooner, later in zip(before.buckets, after.buckets, strict=True)]
    return LatencyPoint(
        at=wall - (now - after.at),
        seconds=after.at - before.at,
        served=sum(buckets),
        median=percentile(buckets, 0.5),
        p95=percentile(buckets, 0.95),
        p99=percentile(buckets, 0.99),
    )
