"""The form of a metric family: its name, type, labels with all their values, and meaning.

Names follow Prometheus' conventions: base units, `_total` only on counters, bounded labels. No label names a user or a
process id.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import msgspec

OTHER: Final = "other"
"""The value of a label for everything that its list does not name."""

_UNITS: Final = ("seconds", "bytes", "ratio")


class Kind(StrEnum):
    """The types of metrics."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


class Label(msgspec.Struct, frozen=True):
    """A label. `values` are all its values. If they are not known in advance, `bounded_by` says what bounds them."""

    name: str
    values: tuple[str, ...] = ()
    bounded_by: str = ""

    def bounded(self, value: str) -> str:
        """Return a value of the label, `OTHER` for one that the list does not name."""
        return value if not self.values or value in self.values else OTHER


class Family(msgspec.Struct, frozen=True):
    """A metric family. `name` is without the suffix of its samples, such as `_total`.

    `meaning` is one sentence for the help text and the documents. `missing` says when there is no value.
    """

    name: str
    kind: Kind
    meaning: str
    labels: tuple[Label, ...] = ()
    missing: str = ""

    @property
    def unit(self) -> str:
        """Return the base unit, as the name's last part has it; empty for a number of things."""
        last = self.name.rpartition("_")[2]
        return last if last in _UNITS else ""

    @property
    def sample_name(self) -> str:
        """Return the name of the samples, of a histogram the name without their suffixes."""
        return self.name + {Kind.COUNTER: "_total", Kind.INFO: "_info"}.get(self.kind, "")

    @property
    def series_names(self) -> tuple[str, ...]:
        """Return the names of all its time series."""
        if self.kind is Kind.HISTOGRAM:
            return tuple(f"{self.name}_{part}" for part in ("bucket", "count", "sum"))
        return (self.sample_name,)


def counter(name: str, meaning: str, *labels: Label, missing: str = "") -> Family:
    """Return a counter: it only grows, also over restarts of listeners."""
    return Family(name, Kind.COUNTER, meaning, labels, missing)


def gauge(name: str, meaning: str, *labels: Label, missing: str = "") -> Family:
    """Return a gauge: the value of now."""
    return Family(name, Kind.GAUGE, meaning, labels, missing)


def histogram(name: str, meaning: str) -> Family:
    """Return a histogram of seconds."""
    return Family(name, Kind.HISTOGRAM, meaning)


def info(name: str, meaning: str, *labels: Label) -> Family:
    """Return a family whose one sample is 1, and whose labels say something."""
    return Family(name, Kind.INFO, meaning, labels)


def listed(values: Iterable[str]) -> tuple[str, ...]:
    """Return these values in their order, and `OTHER` for all others."""
    return (*dict.fromkeys(each for each in values if each != OTHER), OTHER)
