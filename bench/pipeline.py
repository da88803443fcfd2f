"""The benchmark `pipeline`: rows a second through all code of one listener, and each stage of its work alone.

Recorded feeds are replayed to the listener. No cluster is needed, because a recorded server answers it.
"""

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Final

import msgspec

from bench import benchmark
from bench.benchmark import Options, Setting
from bench.harness.progress import Steps
from bench.listener import stages
from bench.listener.replay import Replay, replay
from bench.results import Chart, Figure, Report, Table, spread
from peruserd.core.feed.rows import PAGE_ROWS

GOALS: Final = {False: 200_000, True: 20_000}
"""Rows a second that one listener should take: of others' users, and of its own users who are right already."""

_NAMES: Final = {False: "not owned", True: "owned, user right"}
_FIGURES: Final = {False: "rate: not owned", True: "rate: owned"}

# The number of points of each round in a chart.
_POINTS: Final = 20


class Course(benchmark.Course, frozen=True, kw_only=True):
    """The rounds, the rows of each feed (of others' users, and of own users), and how pyperf measures a stage."""

    rounds: int = 5
    rows_of_others: int = 400_000
    rows_owned: int = 80_000
    page_rows: int = PAGE_ROWS
    pyperf: tuple[str, ...] = ("--processes=6", "--values=3", "--warmups=1", "--min-time=0.02")


QUICK: Final = Course(
    rounds=1,
    rows_of_others=100_000,
    rows_owned=20_000,
    pyperf=("--processes=1", "--values=3", "--warmups=1", "--loops=1"),
)


class Stage(msgspec.Struct, frozen=True):
    """One stage alone: for each process of pyperf its values, in seconds, each of which is a mean over some loops."""

    name: str
    seconds: list[float]


Sample = Replay | Stage


def course(options: Options) -> Course:
    """Return the size of the run, which takes a minute."""
    return QUICK if options.quick else Course()


def measure(setting: Setting, course: Course, steps: Steps) -> Iterator[Sample]:  # noqa: ARG001 - as a benchmark has it
    """Replay both feeds, in turns, then measure the stages."""
    steps.expect(2 * course.rounds + 1)
    for number in range(1, course.rounds + 1):
        steps.step(f"round {number}: rows of others' users")
        yield replay(course.rows_of_others, owned=False)
        steps.step(f"round {number}: rows of own users")
        yield replay(course.rows_owned, owned=True)
    steps.step("each stage alone")
    for name, seconds in stages.measure(course.pyperf).items():
        yield Stage(name, seconds)


def figures(samples: Sequence[Sample]) -> dict[str, Figure]:
    """Return the rows a second of each feed."""
    return {
        _FIGURES[owned]: Figure(tuple(each.rows_a_second for each in replays), "rows/s", "higher", goal=GOALS[owned])
        for owned, replays in _by_feed(samples).items()
    }


def report(course: Course, samples: Sequence[Sample]) -> Report:  # noqa: ARG001 - as a benchmark has it
    """Return the rates and the stages as tables, and the rates over time as charts."""
    feeds = _by_feed(samples)
    alone = [each for each in samples if isinstance(each, Stage)]
    return Report((rates_table(feeds), stages_table(alone)), tuple(rates_chart(each) for each in feeds.values()))


def _by_feed(samples: Sequence[Sample]) -> dict[bool, list[Replay]]:
    replays = [each for each in samples if isinstance(each, Replay)]
    return {owned: [each for each in replays if each.owned is owned] for owned in (False, True)}


def rates_table(feeds: dict[bool, list[Replay]]) -> Table:
    """Return the rates of both feeds beside the goals."""
    return Table(
        "Rows a second through one listener: median (least–most)",  # noqa: RUF001
        ("rows", "in a round", "rounds", "rows/s", "goal"),
        tuple(
            (
                _NAMES[owned],
                f"{replays[0].rows:,}",
                str(len(replays)),
                spread([each.rows_a_second for each in replays], "{:,.0f}"),
                f"{GOALS[owned]:,}",
            )
            for owned, replays in feeds.items()
        ),
    )


def stages_table(samples: Sequence[Stage]) -> Table:
    """Return how long each stage takes, and the rows a second that it alone would let pass."""
    rows = []
    for stage in samples:
        milliseconds = [1e3 * each for each in stage.seconds]
        middle = median(milliseconds)
        per_row = (f"{middle * 1e3 / PAGE_ROWS:.2f}", f"{PAGE_ROWS / middle:,.0f}")
        rows.append((stage.name, spread(milliseconds, "{:.3f}"), *(("", "") if stage.name == stages.SAVE else per_row)))
    return Table(
        f"Stages alone, pages of {PAGE_ROWS:,} rows: median (least–most)",  # noqa: RUF001
        ("stage", "ms", "µs a row", "thousand rows/s"),
        tuple(rows),
    )


def rates_chart(replays: Sequence[Replay]) -> Chart:
    """Return the rates of one feed over time, a line for each round."""
    owned = replays[0].owned
    pages = max(1, replays[0].rows // PAGE_ROWS // _POINTS)
    lines = {f"round {number}": each.curve(pages) for number, each in enumerate(replays, start=1)}
    return Chart(
        f"one listener, rows {_NAMES[owned]}", "seconds", "rows/s", lines, limit=GOALS[owned], limit_label="goal"
    )
