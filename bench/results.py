"""The results of a benchmark: tables to read, curves to look at, every sample to check, and the machine."""

import datetime as dt
import math
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

_LIBRARIES: Final = ("peruserd", "msgspec", "requests", "multiprocess", "psutil", "aiohttp")

_MARK_STYLES: Final = ("--", ":", "-.")

_VERDICTS: Final = {True: "reached", False: "missed"}


class Options(msgspec.Struct, frozen=True):
    """The options of a run. `cluster` are its nodes' URLs; where there are none, one is simulated.

    `beside` is another checkout of peruserd, for benchmarks that measure two in turns; `users` is how many users there
    are, for benchmarks that leave it open.
    """

    quick: bool
    cluster: tuple[str, ...] = ()
    beside: Path | None = None
    users: int | None = None


class Table(msgspec.Struct, frozen=True):
    """Rows of text under a head; printed as Markdown, so that documentation can take it as it is."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def text(self) -> str:
        """Return the table; columns are as wide as their widest cell."""
        lines = [self.head, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.head))]
        rule = tuple("-" * width for width in widths)
        return "\n".join(
            [f"{self.title}\n"]
            + [
                f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |"
                for line in (self.head, rule, *self.rows)
            ]
        )


class Chart(msgspec.Struct, frozen=True):
    """Lines over one pair of axes, or as many clouds of `points`.

    `limit` is a value of y that the lines should stay under; `marks` are values of x at which something happened.
    `logarithmic` makes both axes so, `logarithmic_y` only that one.
    """

    title: str
    x: str
    y: str
    lines: dict[str, list[tuple[float, float]]]
    limit: float | None = None
    limit_label: str = "limit"
    logarithmic: bool = False
    logarithmic_y: bool = False
    points: bool = False
    marks: dict[str, float] = {}


class Figure(msgspec.Struct, frozen=True):
    """A figure by which runs are compared: one value of each round or sample set, or a single one.

    `goal` is the least or the most that the median should be, as `better` has it.
    """

    values: Annotated[tuple[float, ...], Meta(min_length=1)]
    unit: str
    better: Literal["higher", "lower"]
    goal: float | None = None

    @property
    def wanted(self) -> str | None:
        """Say in words what the goal is."""
        if self.goal is None:
            return None
        return f"at {'least' if self.better == 'higher' else 'most'} {self.goal:g}"

    @property
    def is_reached(self) -> bool:
        """Say whether the median is as the goal wants it, where there is one."""
        if self.goal is None:
            return True
        middle = median(self.values)
        return middle >= self.goal if self.better == "higher" else middle <= self.goal

    def __str__(self) -> str:
        """Return median and spread, with three digits or more of the median."""
        size = abs(median(self.values))
        if size >= 100:
            shape = "{:,.0f}"
        else:
            shape = "{:.1f}" if size >= 10 else "{:.2f}" if size >= 1 or not size else "{:.3g}"
        return spread(self.values, shape)


class Result(msgspec.Struct, frozen=True):
    """All that one benchmark found. `samples` are as they were taken; tables and charts only sum them up.

    `figures` are by name what `python -m bench report` sets side by side; those that have a goal are printed beside it.
    """

    name: str
    parameters: dict[str, Any]
    samples: dict[str, Any]
    tables: tuple[Table, ...]
    charts: tuple[Chart, ...]
    figures: dict[str, Figure] = {}

    def text(self) -> str:
        """Return the tables, one after the other, and what became of the goals."""
        goals = self._goals()
        return "\n\n".join(table.text() for table in (*self.tables, *([goals] if goals.rows else [])))

    def _goals(self) -> Table:
        return Table(
            "Goals",
            ("what", "measured", "goal", ""),
            tuple(
                (name + (f", {each.unit}" if each.unit else ""), str(each), each.wanted, _VERDICTS[each.is_reached])
                for name, each in self.figures.items()
                if each.wanted is not None
            ),
        )

    def write_json(self, folder: Path) -> Path:
        """Write everything to `NAME.json` in `folder`, which is made; return the path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode({"measured_on": machine(), **_fields(self)})))
        return path

    def write_chart(self, folder: Path) -> Path:
        """Draw the charts side by side into `NAME.png` in `folder`, which is made; return the path."""
        # It takes a second to load, and only this needs it.
        import matplotlib as mpl  # noqa: PLC0415

        mpl.use("agg")
        from matplotlib import pyplot as plt  # noqa: PLC0415

        folder.mkdir(parents=True, exist_ok=True)
        figure, axes = plt.subplots(1, len(self.charts), figsize=(6 * len(self.charts), 4.5), squeeze=False)
        for place, chart in zip(axes[0], self.charts, strict=True):
            for label, points in chart.lines.items():
                look = {"linestyle": "", "alpha": 0.5} if chart.points else {}
                place.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label, **look)
            for (label, at), style in zip(chart.marks.items(), cycle(_MARK_STYLES), strict=False):
                place.axvline(at, color="black", linestyle=style, label=label)
            if chart.limit is not None:
                place.axhline(chart.limit, color="red", linestyle="--", label=f"{chart.limit_label}: {chart.limit:.4g}")
            if chart.logarithmic:
                place.set(xscale="log", yscale="log")
            if chart.logarithmic_y:
                place.set(yscale="log")
            place.set(title=chart.title, xlabel=chart.x, ylabel=chart.y)
            place.grid(visible=True, alpha=0.3)
            # Points can be anywhere, so their legend goes below the axes.
            place.legend(**({"loc": "upper center", "bbox_to_anchor": (0.5, -0.15)} if chart.points else {}))
        figure.tight_layout()
        path = folder / f"{self.name}.png"
        figure.savefig(path, dpi=120)
        plt.close(figure)
        return path


def spread(values: Sequence[float], shape: str) -> str:
    """Return the median and, of several values, the least and the most, each in a shape such as `{:.1f}`."""
    middle = shape.format(median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({shape.format(min(values))}–{shape.format(max(values))})"  # noqa: RUF001


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that so many per cent of the values do not exceed: one of them, so 100 is the greatest."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def machine() -> dict[str, Any]:
    """Return what the numbers depend on; neither the machine's name nor any path of it."""
    return {
        "time": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "libraries": {name: version(name) for name in _LIBRARIES},
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _fields(result: Result) -> dict[str, Any]:
    return {name: getattr(result, name) for name in result.__struct_fields__}
