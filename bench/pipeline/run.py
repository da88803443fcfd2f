"""The benchmark `pipeline`: recorded feeds played to a listener, and the stages of its work alone."""

import sys
from statistics import median
from typing import Final

from bench.pipeline import stages
from bench.pipeline.playing import Playing, play
from bench.results import Chart, Figure, Options, Result, Table
from peruserd.core.feed.rows import PAGE_ROWS

GOALS: Final = {False: 200_000, True: 20_000}
"""Rows a second that one listener should take: of others' users, and of its own who are right already."""

_NAMES: Final = {False: "not owned", True: "owned, user right"}
_FIGURES: Final = {False: "rate: not owned", True: "rate: owned"}

_ROWS: Final = {False: 400_000, True: 80_000}
_ROUNDS: Final = 5
_QUICK_ROWS: Final = {False: 100_000, True: 20_000}
_QUICK_ROUNDS: Final = 1

# Rates of so many points are shown of each round.
_POINTS: Final = 20


def run(options: Options) -> Result:
    """Play both feeds, in turns, then measure the stages; a minute, or some seconds where it is to be quick."""
    rounds, rows = (_QUICK_ROUNDS, _QUICK_ROWS) if options.quick else (_ROUNDS, _ROWS)
    played: dict[bool, list[Playing]] = {False: [], True: []}
    for number in range(1, rounds + 1):
        _tell(f"playing, round {number} of {rounds}")
        for owned, each in played.items():
            each.append(play(rows[owned], owned=owned))
    _tell("stages")
    alone = stages.measure(quick=options.quick)
    return Result(
        name="pipeline",
        parameters={"quick": options.quick, "page_rows": PAGE_ROWS, "rounds": rounds},
        samples={"played": [playing for each in played.values() for playing in each], "stages": alone},
        tables=(playing_table(played), stages_table(alone)),
        charts=tuple(chart(each) for each in played.values()),
        figures={
            _FIGURES[owned]: Figure(
                tuple(playing.rows_a_second for playing in each), "rows/s", "higher", goal=GOALS[owned]
            )
            for owned, each in played.items()
        },
    )


def playing_table(played: dict[bool, list[Playing]]) -> Table:
    """Return the rates of both feeds beside the goals."""
    rows = []
    for owned, each in played.items():
        rates = sorted(playing.rows_a_second for playing in each)
        spread = f"{median(rates):,.0f} ({rates[0]:,.0f}–{rates[-1]:,.0f})"  # noqa: RUF001
        rows.append((_NAMES[owned], f"{each[0].rows:,}", str(len(each)), spread, f"{GOALS[owned]:,}"))
    return Table(
        "Rows a second through one listener: median (least–most)",  # noqa: RUF001
        ("rows", "in a round", "rounds", "rows/s", "goal"),
        tuple(rows),
    )


def stages_table(alone: dict[str, list[float]]) -> Table:
    """Return how long each stage takes, and what it alone would let pass."""
    rows = []
    for stage, values in alone.items():
        milliseconds = [1e3 * each for each in sorted(values)]
        middle = median(milliseconds)
        taken = f"{middle:.3f} ({milliseconds[0]:.3f}–{milliseconds[-1]:.3f})"  # noqa: RUF001
        of_a_row = (
            ("", "") if stage == stages.SAVE else (f"{middle * 1e3 / PAGE_ROWS:.2f}", f"{PAGE_ROWS / middle:,.0f}")
        )
        rows.append((stage, taken, *of_a_row))
    return Table(
        f"Stages alone, pages of {PAGE_ROWS:,} rows: median (least–most)",  # noqa: RUF001
        ("stage", "ms", "µs a row", "thousand rows/s"),
        tuple(rows),
    )


def chart(played: list[Playing]) -> Chart:
    """Return the rates of one feed over the time, a line for each round."""
    owned = played[0].owned
    pages = max(1, played[0].rows // PAGE_ROWS // _POINTS)
    lines = {f"round {number}": each.curve(pages) for number, each in enumerate(played, start=1)}
    return Chart(
        f"one listener, rows {_NAMES[owned]}", "seconds", "rows/s", lines, limit=GOALS[owned], limit_label="goal"
    )


def _tell(part: str) -> None:
    print(f"pipeline: {part} …", file=sys.stderr, flush=True)
