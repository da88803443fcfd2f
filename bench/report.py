"""`python -m bench report DIR…`: set kept results side by side, each directory as one run.

Each benchmark has two Markdown tables:

- the differences in how and where it was measured;
- its figures: median, least and most of each run, and the ratio to the run of the first directory.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec

from bench.results import Figure, Table

_ABSENT: Final = "–"  # noqa: RUF001 - as in the tables of the benchmarks


class ReportError(Exception):
    """The directories cannot be compared; the message says which of them and why."""


class Kept(msgspec.Struct, frozen=True):
    """The result of one benchmark, as `Result.write_json` keeps it. An old one has no `figures`."""

    name: str
    measured_on: dict[str, Any]
    parameters: dict[str, Any]
    figures: dict[str, Figure] | None = None


class Run(msgspec.Struct, frozen=True):
    """The content of a directory: results by benchmark, and files that are too old to be compared."""

    label: str
    results: dict[str, Kept]
    skipped: tuple[str, ...] = ()


def main(arguments: list[str]) -> int:
    """Print the comparison; return the exit code, which is 2 where the directories cannot be compared."""
    parser = argparse.ArgumentParser(
        prog="python -m bench report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "directories",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="where `python -m bench --out DIR` has written results; the others are compared to the first one",
    )
    given = parser.parse_args(arguments)
    try:
        runs = [read(directory) for directory in given.directories]
        for skipped in (each for run in runs for each in run.skipped):
            print(f"skipped: {skipped}: written before results had figures; measure again", file=sys.stderr)
        print(text(runs))
    except ReportError as error:
        print(f"bench report: {error}", file=sys.stderr)
        return 2
    return 0


def read(directory: Path) -> Run:
    """Return the results in a directory; raises ReportError where there are none, or where a file is no result."""
    if not directory.is_dir():
        raise ReportError(f"{directory}: no such directory")
    kept = {path: _read_file(path) for path in sorted(directory.glob("*.json"))}
    if not kept:
        raise ReportError(f"{directory}: no results here (NAME.json, as `python -m bench --out DIR` writes them)")
    return Run(
        label=str(directory),
        results={each.name: each for each in kept.values() if each.figures is not None},
        skipped=tuple(str(path) for path, each in kept.items() if each.figures is None),
    )


def _read_file(path: Path) -> Kept:
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=Kept)
    except OSError as error:
        raise ReportError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ReportError(f"{path}: not the results of a benchmark: {error}") from error
    if kept.name != path.stem:
        raise ReportError(f"{path}: has the results of {kept.name!r}; give each run a directory of its own")
    return kept


def text(runs: Sequence[Run]) -> str:
    """Return the comparison; raises ReportError where all results are too old for one."""
    names = sorted({name for run in runs for name in run.results})
    if not names:
        raise ReportError("all results are too old to be compared")
    return "\n\n".join(part for name in names for part in _parts(name, runs))


def _parts(name: str, runs: Sequence[Run]) -> Iterator[str]:
    labels = tuple(run.label for run in runs)
    kept = [run.results.get(name) for run in runs]
    yield f"## {name}"
    if rows := tuple(_differences(kept)):
        yield Table("What differs", ("what", *labels), rows).text()
    ratios = tuple(f"{label} / {labels[0]}" for label in labels[1:])
    if rows := tuple(_figure_rows(kept)):
        yield Table("Figures: median (least–most)", ("figure", "goal", *labels, *ratios), rows).text()  # noqa: RUF001
    else:
        yield "It has no figures to compare."


def _differences(kept: Sequence[Kept | None]) -> Iterator[tuple[str, ...]]:
    """Yield facts that differ between the runs of a benchmark. A fact that one run lacks differs as well."""
    facts = [None if each is None else _facts(each) for each in kept]
    present = [each for each in facts if each is not None]
    for key in dict.fromkeys(key for each in present for key in each):
        if len({each.get(key, _ABSENT) for each in present}) > 1:
            yield (key, *(_ABSENT if each is None else each.get(key, _ABSENT) for each in facts))


def _facts(kept: Kept) -> dict[str, str]:
    """Return the facts about how and where it was measured, without nesting."""
    return dict([*_flat("parameters", kept.parameters), *_flat("measured on", kept.measured_on)])


def _flat(path: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{path}: {key}"
        if isinstance(value, dict):
            yield from _flat(name, value)
        else:
            yield name, value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _figure_rows(kept: Sequence[Kept | None]) -> Iterator[tuple[str, ...]]:
    runs = [{} if each is None or each.figures is None else each.figures for each in kept]
    for name in dict.fromkeys(name for figures in runs for name in figures):
        row = [figures.get(name) for figures in runs]
        one = next(each for each in row if each is not None)
        unit = f", {one.unit}" if one.unit else ""
        yield (
            f"{name}{unit} ({one.better} is better)",
            one.wanted or _ABSENT,
            *(_ABSENT if each is None else str(each) for each in row),
            *(_ratio(row[0], each) for each in row[1:]),
        )


def _ratio(first: Figure | None, other: Figure | None) -> str:
    """Return the ratio of medians. There is none where a figure is missing, has another unit, or is 0 in the first."""
    if first is None or other is None or first.unit != other.unit or not median(first.values):
        return _ABSENT
    return f"{median(other.values) / median(first.values):.2f}"
