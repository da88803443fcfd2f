"""Which metrics and labels an expression names, and whether there are such ones."""

import re
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector

from peruserd.monitoring.families import Label
from peruserd.monitoring.recordings import RECORDINGS
from peruserd.monitoring.table import FAMILIES

_NAME: Final = re.compile(r"(?<![\w:$\"/])((?:job:)?(?:peruserd|process)_[a-z0-9_]+(?::[a-z0-9_]+)?)(?:\{([^}]*)\})?")
_MATCHER: Final = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')

# Prometheus itself gives these labels.
_OF_TARGETS: Final = {"job", "instance", "cluster"}

_BY_SERIES: Final = {series: family for family in FAMILIES.values() for series in family.series_names}


def _process_metrics() -> set[str]:
    found = ProcessCollector(registry=CollectorRegistry()).collect()
    return {f"{each.name}_total" if each.type == "counter" else each.name for each in found}


def unknown(expression: str) -> set[str]:
    """Return what an expression names that is not there: metrics, labels, and values of labels with a list."""
    known = {*_BY_SERIES, *(each.record for each in RECORDINGS), *_process_metrics()}
    found: set[str] = set()
    for name, matchers in _NAME.findall(expression):
        if name not in known:
            found.add(name)
        elif name in _BY_SERIES:
            labels = {each.name: each for each in _BY_SERIES[name].labels}
            for label, _, value in _MATCHER.findall(matchers):
                found |= _unknown_label(name, label, value, labels)
    return found


def _unknown_label(name: str, label: str, value: str, labels: dict[str, Label]) -> set[str]:
    if label in _OF_TARGETS or (label == "le" and name.endswith("_bucket")):
        return set()
    if label not in labels:
        return {f"{name}{{{label}}}"}
    values = labels[label].values
    plain = [each for each in value.split("|") if re.fullmatch(r"\w+", each)]
    return {f"{name}{{{label}={each}}}" for each in plain if values and each not in values}


def metrics(expression: str) -> set[str]:
    """Return the names of metrics of peruserd in an expression."""
    return {name for name, _ in _NAME.findall(expression)}
