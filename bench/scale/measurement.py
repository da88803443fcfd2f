"""Measuring the parts of the benchmark `scale`. Its clusters are simulated, also where a real one was given."""

from collections.abc import Iterator
from typing import Final

import msgspec

from bench import benchmark
from bench.benchmark import Options, Setting
from bench.harness.daemons import START_WORK_SECONDS
from bench.harness.progress import Steps
from bench.listener.replay import Replay
from bench.scale import movement, plans, traffic, users
from bench.scale.layouts import Layout
from bench.scale.movement import Loss
from bench.scale.plans import Case, Curve
from bench.scale.traffic import Count
from peruserd.couch.sources import LONG_POLL_SECONDS


class Course(benchmark.Course, frozen=True, kw_only=True):
    """The size of each part.

    - Plans: the calls of each case, and the numbers of ranges of the curve.
    - Movement: the numbers of instances, and the documents.
    - Users: the lengths of the feeds.
    - Traffic: the clusters, the seconds in which requests are counted, and the seconds before, for the work of a start.
      The whole run counts during four long polls, so a listener's count is the same whenever the counting begins.
    """

    repeats: int = 50
    curve_ranges: tuple[int, ...] = (16, 64, 256, 1024, 4096)
    instances: tuple[int, ...] = tuple(range(2, 51))
    documents: int = 20_000
    users: tuple[int, ...] = (1_000, 10_000, 100_000, 400_000)
    counted: tuple[Layout, ...] = (Layout(1, 2), Layout(3, 2), Layout(3, 8), Layout(6, 2), Layout(6, 8))
    counting_seconds: float = 4 * LONG_POLL_SECONDS
    start_work_seconds: float = START_WORK_SECONDS


QUICK: Final = Course(
    repeats=3,
    curve_ranges=(16, 64, 256),
    instances=movement.SHOWN,
    documents=2_000,
    users=(1_000, 5_000),
    counted=(Layout(1, 2),),
    counting_seconds=10.0,
    start_work_seconds=5.0,
)


class Sample(msgspec.Struct, frozen=True):
    """The samples of all parts."""

    planning: list[Case]
    planning_curve: Curve
    movement: dict[str, list[Loss]]
    users: list[Replay]
    traffic: list[Count]


def course(options: Options) -> Course:
    """Return the size of the run. Its last part runs real instances, and takes minutes."""
    return QUICK if options.quick else Course()


def measure(setting: Setting, course: Course, steps: Steps) -> Iterator[Sample]:  # noqa: ARG001 - as a benchmark has it
    """Measure planning, movement, reading and traffic."""
    steps.expect(3 + len(course.counted))
    steps.step("planning")
    cases, curve = plans.measure(course.repeats, course.curve_ranges)
    steps.step("the documents that a loss moves")
    losses = movement.measure(course.instances, course.documents)
    steps.step("users")
    replays = users.measure(course.users)
    counts = []
    for layout in course.counted:
        steps.step(f"traffic of {layout.nodes} idle instances, {layout.ranges} ranges")
        counts.append(traffic.count(layout, course.counting_seconds, course.start_work_seconds))
    yield Sample(cases, curve, losses, replays, counts)
