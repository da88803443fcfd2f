"""The samples of one scrape: parts of the instance put them, and the table of metrics says what may be put.

A family without a sample is shown with its help text all the same, so a reader sees that the value is not known.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from peruserd.core.processes.counters import LATENCY_BUCKETS, Histogram
from peruserd.monitoring.families import Family, Kind
from peruserd.monitoring.table import FAMILIES


class Samples:
    """The samples of one scrape."""

    def __init__(self) -> None:
        self._families = {name: _made(family) for name, family in FAMILIES.items()}
        self._there: set[tuple[str, ...]] = set()

    def put(self, name: str, value: float | None, *labels: str) -> None:
        """Add a sample; None is a value that is not known, and adds nothing.

        `labels` are the values of the family's labels, in the order of the table. A value that the table does not list
        becomes `other`. A second sample with the same labels is left out, because Prometheus would refuse it: after
        the authentication database was made anew, two listeners have one name for a moment. Raises KeyError for a
        family that is not in the table.
        """
        family = FAMILIES[name]
        bounded = [each.bounded(given) for each, given in zip(family.labels, labels, strict=True)]
        key = (name, *bounded)
        if value is not None and key not in self._there:
            self._there.add(key)
            self._add(family, bounded, value)

    def put_counts(self, name: str, counts: Mapping[str, int]) -> None:
        """Add a sample for each value of the family's one label. What was never counted is 0, so an alert sees it grow.

        Values that the table does not list are added up as `other`.
        """
        (label,) = FAMILIES[name].labels
        bounded = dict.fromkeys(label.values, 0)
        for given, count in counts.items():
            value = label.bounded(given)
            bounded[value] = bounded.get(value, 0) + count
        for value, count in bounded.items():
            self.put(name, count, value)

    def put_histogram(self, name: str, histogram: Histogram) -> None:
        """Add the samples of a histogram."""
        family = self._families[name]
        if not isinstance(family, HistogramMetricFamily):
            raise TypeError(f"{name} is no histogram")
        bounds = [*(str(bound) for bound in LATENCY_BUCKETS), "+Inf"]
        family.add_metric(
            [], list(zip(bounds, accumulate(histogram.buckets), strict=True)), sum_value=histogram.sum_seconds
        )

    def families(self) -> Iterable[Metric]:
        """Return all families in the order of the table."""
        return self._families.values()

    def _add(self, family: Family, labels: list[str], value: float) -> None:
        made = self._families[family.name]
        if isinstance(made, InfoMetricFamily):
            made.add_metric([], dict(zip((each.name for each in family.labels), labels, strict=True)))
        elif isinstance(made, CounterMetricFamily | GaugeMetricFamily):
            made.add_metric(labels, value)
        else:
            raise TypeError(f"{family.name} has more than one value")


def _made(family: Family) -> Metric:
    labels = [each.name for each in family.labels]
    match family.kind:
        case Kind.COUNTER:
            return CounterMetricFamily(family.name, family.meaning, labels=labels, unit=family.unit)
        case Kind.GAUGE:
            return GaugeMetricFamily(family.name, family.meaning, labels=labels, unit=family.unit)
        case Kind.HISTOGRAM:
            return HistogramMetricFamily(family.name, family.meaning, labels=labels, unit=family.unit)
        case Kind.INFO:
            return InfoMetricFamily(family.name, family.meaning, labels=[])


Part = Callable[[Samples], None]
"""Puts the samples of one part of the instance."""
