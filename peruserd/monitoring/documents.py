"""The parts of the documents that are made from the code: `python -m peruserd.monitoring.documents DIRECTORY`.

`make docs` runs this, and a test fails while a document is not current.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from peruserd.monitoring.exported import ALERTS, Form
from peruserd.monitoring.families import Family, Kind, Label
from peruserd.monitoring.recordings import RECORDINGS
from peruserd.monitoring.table import SECTIONS

_BEGIN: Final = "<!-- made by `make docs`: begin -->\n"
_END: Final = "<!-- made by `make docs`: end -->\n"

# A label of more metrics than this is shown with their number, not their names.
_NAMED: Final = 4


def replaced(document: str, made: str) -> str:
    """Return a document with the part between its two marks replaced; raises ValueError without the marks."""
    before, begin, rest = document.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError("the document has no marks")
    return f"{before}{_BEGIN}\n{made}\n{_END}{after}"


def metrics_tables() -> str:
    """Return the tables of all metrics by section, and the table of their labels."""
    return "\n".join([*_metrics(), *_labels()])


def _metrics() -> Iterator[str]:
    for title, families in SECTIONS.items():
        yield f"## {title}\n"
        yield "| metric | type | |"
        yield "|---|---|---|"
        yield from map(_row, families)
        yield ""


def _row(family: Family) -> str:
    labels = ",".join(each.name for each in family.labels)
    name = f"`{family.sample_name}{{{labels}}}`" if labels else f"`{family.sample_name}`"
    missing = f" No value {family.missing}." if family.missing else ""
    kind = "gauge, always 1" if family.kind is Kind.INFO else family.kind.value
    return f"| {name} | {kind} | {family.meaning}{missing} |"


def _labels() -> Iterator[str]:
    yield "## Labels\n"
    yield "A value that the list does not name is shown as `other`, so no label grows without bound.\n"
    yield "| label | of | values |"
    yield "|---|---|---|"
    found: dict[Label, list[Family]] = {}
    for family in (each for families in SECTIONS.values() for each in families):
        for label in family.labels:
            found.setdefault(label, []).append(family)
    for label, families in found.items():
        of = ", ".join(f"`{each.sample_name}`" for each in families)
        if len(families) > _NAMED:
            of = f"{len(families)} metrics"
        values = ", ".join(f"`{each}`" for each in label.values) or label.bounded_by
        yield f"| `{label.name}` | {of} | {values} |"


def main(directory: Path) -> None:
    """Write the made parts into the documents of a directory."""
    for name, made in made_parts().items():
        path = directory / name
        path.write_text(replaced(path.read_text(encoding="utf-8"), made), encoding="utf-8")


def made_parts() -> dict[str, str]:
    """Return the made part of each document that has one, by file name."""
    return {"alerts.md": _alerts(), "metrics.md": metrics_tables(), "monitoring.md": _recordings()}


def _alerts() -> str:
    rows = [
        f"| [{each.name}](#{each.anchor}) | {each.severity.value} | {each.holds} | {_shown(each.expr)} |"
        for each in ALERTS
    ]
    return "\n".join(["| alert | severity | after | condition |", "|---|---|---|---|", *rows]) + "\n"


def _shown(expr: str) -> str:
    """Return an expression on one line, as a cell of a table can hold it."""
    text = Form().expression(" ".join(expr.split())).replace("|", "\\|")
    return f"`{text}`"


def _recordings() -> str:
    rows = [f"| `{each.record}` | {each.meaning} |" for each in RECORDINGS]
    return "\n".join(["| name | |", "|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
