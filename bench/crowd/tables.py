"""The figures, tables and charts of the benchmark `crowd`."""

from collections.abc import Sequence
from statistics import median
from typing import Final

from bench.crowd.measurement import OTHER, Course
from bench.crowd.samples import AMIDST, BEFORE, PHASES, Sample, pooled
from bench.harness.contenders import PERUSERD
from bench.results import Chart, Figure, Report, Table, percentile

MAX_RATIO_TO_BEFORE: Final = 10.0
MAX_RATIO_TO_OTHER: Final = 1.05
MAX_MIB: Final = 100.0

# A database can be seen before the document's answer is, and the logarithm of 0 cannot be charted.
_MIN_CHARTED_MS: Final = 0.1


def figures(samples: Sequence[Sample]) -> dict[str, Figure]:
    """Return how much longer single users wait amidst the crowd, and the cost of that for the crowd."""
    found = {}
    for contender in _contenders(samples):
        own = [each for each in samples if each.contender == contender]
        named = "" if contender == PERUSERD else f", {contender}"
        goals = contender == PERUSERD
        before, amidst = pooled(own, contender, BEFORE), pooled(own, contender, AMIDST)
        if before and amidst:
            found["p99 amidst the crowd / before it" + named] = Figure(
                (percentile(amidst, 99) / percentile(before, 99),), "", "lower", MAX_RATIO_TO_BEFORE if goals else None
            )
        found["the crowd's rate" + named] = Figure(tuple(each.rate for each in own), "users/s", "higher")
        found["memory of the largest listener" + named] = Figure(
            tuple(each.memory_mib for each in own), "MiB", "lower", MAX_MIB if goals else None
        )
    seconds = [[one.seconds for one in samples if one.contender == each] for each in (PERUSERD, OTHER)]
    if all(seconds):
        found[f"time of the crowd / that of {OTHER}"] = Figure(
            (median(seconds[0]) / median(seconds[1]),), "", "lower", MAX_RATIO_TO_OTHER
        )
    return found


def report(course: Course, samples: Sequence[Sample]) -> Report:
    """Return the single users by phase and the crowds as tables, and both over time as charts."""
    contenders = _contenders(samples)
    singles = Table(
        f"{course.rate:g} single sign-ups a second and a crowd of {course.crowd:,}: latency in ms",
        ("served by", "the crowd", "users", "p50", "p99", "most"),
        tuple(_phase_row(samples, contender, phase) for contender in contenders for phase in PHASES),
    )
    crowds = Table(
        f"The crowd of {course.crowd:,}",
        ("served by", "round", "seconds", "users/s", "largest listener, MiB", "singles not served"),
        tuple(map(_crowd_row, samples)),
    )
    return Report(
        tables=(singles, crowds),
        charts=(
            Chart(
                "single users, by when they signed up",
                "seconds since the crowd came",
                "ms",
                {each: _points(samples, each) for each in contenders},
                logarithmic_y=True,
                points=True,
                marks={"the crowd comes": 0.0},
            ),
            Chart(
                "the crowd",
                "seconds since it came",
                "databases",
                {
                    f"{each.contender}, round {each.round + 1}": [(at, float(count)) for at, count in each.course]
                    for each in samples
                },
            ),
        ),
    )


def _contenders(samples: Sequence[Sample]) -> list[str]:
    return list(dict.fromkeys(each.contender for each in samples))


def _phase_row(samples: Sequence[Sample], contender: str, phase: str) -> tuple[str, ...]:
    latencies = pooled(samples, contender, phase)
    shown = [f"{percentile(latencies, percent):.0f}" for percent in (50, 99, 100)] if latencies else ["", "", ""]
    return (contender, phase, str(len(latencies)), *shown)


def _crowd_row(sample: Sample) -> tuple[str, ...]:
    return (
        sample.contender,
        str(sample.round + 1),
        f"{sample.seconds:.1f}",
        f"{sample.rate:.1f}",
        f"{sample.memory_mib:.1f}",
        str(sample.unserved + sample.refused),
    )


def _points(samples: Sequence[Sample], contender: str) -> list[tuple[float, float]]:
    own = [each.singles[phase] for each in samples if each.contender == contender for phase in PHASES]
    return [(one.at, max(one.milliseconds, _MIN_CHARTED_MS)) for singles in own for one in singles]
