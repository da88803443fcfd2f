"""What a benchmark gives: tables to read, curves to look at, every sample to check, and where it was measured."""

import datetime as dt
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import msgspec

_LIBRARIES: Final = ("peruserd", "msgspec", "requests", "multiprocess", "psutil", "aiohttp")


class Options(msgspec.Struct, frozen=True):
    """How benchmarks are asked to run."""

    quick: bool


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
    """Lines over one pair of axes. `limit` is a value of y that the lines should stay under."""

    title: str
    x: str
    y: str
    lines: dict[str, list[tuple[float, float]]]
    limit: float | None = None
    logarithmic: bool = False


class Result(msgspec.Struct, frozen=True):
    """All that one benchmark found. `samples` are as they were taken; tables and charts only sum them up."""

    name: str
    parameters: dict[str, Any]
    samples: dict[str, Any]
    tables: tuple[Table, ...]
    charts: tuple[Chart, ...]

    def text(self) -> str:
        """Return the tables, one after the other."""
        return "\n\n".join(table.text() for table in self.tables)

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
                place.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label)
            if chart.limit is not None:
                place.axhline(chart.limit, color="red", linestyle="--", label=f"limit: {chart.limit:g}")
            if chart.logarithmic:
                place.set(xscale="log", yscale="log")
            place.set(title=chart.title, xlabel=chart.x, ylabel=chart.y)
            place.grid(visible=True, alpha=0.3)
            place.legend()
        figure.tight_layout()
        path = folder / f"{self.name}.png"
        figure.savefig(path, dpi=120)
        plt.close(figure)
        return path


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
