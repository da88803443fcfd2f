"""The result of a benchmark: tables, charts, figures, every sample, and the machine."""

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


class Table(msgspec.Struct, frozen=True):
    """Rows of text under a head. The table is printed as Markdown, so that documentation can take it as it is."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def text(self) -> str:
        """Return the table. Each column is as wide as its widest cell."""
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
    """Lines over one pair of axes, or clouds of `points`.

    - `limit`: a value of y, as a line of its own.
    - `marks`: values of x at which something happened.
    - `logarithmic`, `logarithmic_y`: both axes are logarithmic, or only that of y.
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
    """A figure by which runs are compared: one value of each round, or a single one.

    `goal` is a bound for the median: the lower bound if higher is better, or else the upper one.
    """

    values: Annotated[tuple[float, ...], Meta(min_length=1)]
    unit: str
    better: Literal["higher", "lower"]
    goal: float | None = None

    @property
    def wanted(self) -> str | None:
        """Return the goal in words."""
        if self.goal is None:
            return None
        return f"at {'least' if self.better == 'higher' else 'most'} {self.goal:g}"

    @property
    def is_reached(self) -> bool:
        """Say whether the median reaches the goal; without a goal it does."""
        if self.goal is None:
            return True
        middle = median(self.values)
        return middle >= self.goal if self.better == "higher" else middle <= self.goal

    def __str__(self) -> str:
        """Return median and spread, with at least three digits of the median."""
        size = abs(median(self.values))
        if size >= 100:
            shape = "{:,.0f}"
        else:
            shape = "{:.1f}" if size >= 10 else "{:.2f}" if size >= 1 or not size else "{:.3g}"
        return spread(self.values, shape)


class Report(msgspec.Struct, frozen=True):
    """The tables and the charts of a benchmark. Both only sum up its samples."""

    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()


class Result(msgspec.Struct, frozen=True):
    """The result of one benchmark. `samples` are as they were taken.

    `python -m bench report` sets `figures` side by side, by name. A figure that has a goal is printed beside it.
    """

    name: str
    parameters: dict[str, Any]
    samples: list[Any]
    report: Report = Report()
    figures: dict[str, Figure] = {}

    def heading(self) -> str:
        """Return the name of the benchmark, and the cluster where it used one, as a Markdown heading."""
        cluster, nodes = self.parameters.get("cluster"), self.parameters.get("nodes")
        return f"## {self.name}" + (f", {cluster} with {nodes} node{'' if nodes == 1 else 's'}" if cluster else "")

    def text(self) -> str:
        """Return the tables, one after the other, and whether the goals are reached."""
        goals = self._goals()
        return "\n\n".join(table.text() for table in (*self.report.tables, *([goals] if goals.rows else [])))

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

    def _kept(self) -> dict[str, Any]:
        return {
            "measured_on": machine(),
            "name": self.name,
            "parameters": self.parameters,
            "samples": self.samples,
            "tables": self.report.tables,
            "charts": self.report.charts,
            "figures": self.figures,
        }

    def write_json(self, folder: Path) -> Path:
        """Write everything to `NAME.json` in `folder`; return the path. The folder is made if needed."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self._kept())))
        return path

    def write_chart(self, folder: Path) -> Path:
        """Draw the charts side by side into `NAME.png` in `folder`; return the path. The folder is made if needed."""
        # matplotlib takes a second to load, and only this method needs it.
        import matplotlib as mpl  # noqa: PLC0415

        mpl.use("agg")
        from matplotlib import pyplot as plt  # noqa: PLC0415

        folder.mkdir(parents=True, exist_ok=True)
        charts = self.report.charts
        figure, axes = plt.subplots(1, len(charts), figsize=(6 * len(charts), 4.5), squeeze=False)
        for place, chart in zip(axes[0], charts, strict=True):
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
            # Points can be anywhere, so the legend goes below the axes.
            place.legend(**({"loc": "upper center", "bbox_to_anchor": (0.5, -0.15)} if chart.points else {}))
        figure.tight_layout()
        path = folder / f"{self.name}.png"
        figure.savefig(path, dpi=120)
        plt.close(figure)
        return path


def spread(values: Sequence[float], shape: str) -> str:
    """Return the median in a shape such as `{:.1f}`, and of several values the least and the most as well."""
    middle = shape.format(median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({shape.format(min(values))}–{shape.format(max(values))})"  # noqa: RUF001


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that so many per cent do not exceed. It is one of them, and 100 gives the greatest."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def machine() -> dict[str, Any]:
    """Return the facts about the machine on which numbers depend, without its name and its paths."""
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
