"""The tables and charts of the benchmark `scale`, one part after the other. The benchmark has no figures to compare."""

from collections.abc import Sequence

from bench.results import Figure, Report
from bench.scale import movement, plans, traffic, users
from bench.scale.measurement import Course, Sample


def figures(samples: Sequence[Sample]) -> dict[str, Figure]:  # noqa: ARG001 - as a benchmark has it
    """Return none: the curves say how it grows, which no single figure does."""
    return {}


def report(course: Course, samples: Sequence[Sample]) -> Report:  # noqa: ARG001 - as a benchmark has it
    """Return the tables and charts of all parts."""
    (sample,) = samples
    return Report(
        tables=(
            plans.table(sample.planning),
            movement.table(sample.movement),
            users.table(sample.users),
            traffic.counted_table(sample.traffic),
            traffic.computed_table(),
        ),
        charts=(plans.chart(sample.planning_curve), movement.chart(sample.movement), users.chart(sample.users)),
    )
