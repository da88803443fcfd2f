"""A panel of the dashboard, and the expressions that panels share.

Expressions may use these variables of the dashboard: `$job`, `$instance` (several at once) and `$__rate_interval`.
"""

from enum import StrEnum
from typing import Final

import msgspec


class Look(StrEnum):
    """The looks of a panel, in Grafana's words."""

    CURVE = "timeseries"
    NUMBER = "stat"
    STATES = "state-timeline"


class Query(msgspec.Struct, frozen=True):
    """An expression, and the legend of its series."""

    expr: str
    legend: str = ""


class Panel(msgspec.Struct, frozen=True):
    """One panel. `unit` is Grafana's name of it, and `width` is in columns of 24.

    `warn_above` and `alarm_above` are the values from which a number is shown in yellow and in red.
    """

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    look: Look = Look.CURVE
    width: int = 8
    stacked: bool = False
    warn_above: float | None = None
    alarm_above: float | None = None


class Row(msgspec.Struct, frozen=True):
    """A row of panels under a title."""

    title: str
    panels: tuple[Panel, ...]


OF: Final = 'job="$job",instance=~"$instance"'
"""The labels by which the dashboard chooses."""

RATE: Final = "[$__rate_interval]"
"""The time that Grafana takes for a rate."""

JOB: Final = '{job="$job"}'
"""All instances of the job, chosen or not."""


def total(name: str, by: str = "instance") -> str:
    """Return the expression of a sum over the chosen instances, by a label."""
    return f"sum by ({by}) ({name}{{{OF}}})"


def rate_of(name: str, by: str = "instance") -> str:
    """Return the expression of a sum of rates over the chosen instances, by a label."""
    return f"sum by ({by}) (rate({name}{{{OF}}}{RATE}))"
