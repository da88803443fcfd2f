"""The form of rules: alerts, each with the course of events that proves its times, and recorded expressions.

Expressions have places for times (see `peruserd.monitoring.times`).
"""

from enum import StrEnum

import msgspec


class Severity(StrEnum):
    """How soon somebody must look."""

    CRITICAL = "critical"  # users are not served, or will not be soon: now
    WARNING = "warning"  # within the working day


class Grows(msgspec.Struct, frozen=True):
    """A counter that grows by so much with each step."""

    by: float


Course = float | Grows | None
"""The values of a series for a while: the same one, a growing one, or none."""


class Proof(msgspec.Struct, frozen=True):
    """A course of events that makes an alert fire and end: all is well, then there is trouble, then all is well again.

    - `series`: each series with its values while all is well, and those while there is trouble.
    - `labels`: the labels of the alert that fires, without its name and severity.
    - `shown`: the value in the words of the alert, where these have it.
    - `true_after`: the time from the beginning of the trouble until the expression is true.
    - `true_for`: the time from its end until the expression is not true any more.
    - `well`: how long all is well at first.
    """

    series: dict[str, tuple[Course, Course]]
    labels: dict[str, str]
    shown: str = ""
    true_after: str = "0s"
    true_for: str = "0s"
    well: str = "2m"


class Alert(msgspec.Struct, frozen=True):
    """An alert. It fires once `expr` was true for the time `holds`.

    `summary` and `description` are for people, with Prometheus' templates. The document of the alerts says what to do.
    """

    name: str
    severity: Severity
    expr: str
    holds: str
    summary: str
    description: str
    proof: Proof

    @property
    def anchor(self) -> str:
        """Return the anchor of its section in the document of the alerts."""
        return self.name.lower()


class Recording(msgspec.Struct, frozen=True):
    """An expression that is recorded under a name of its own, for dashboards and alerts."""

    record: str
    expr: str
    meaning: str
