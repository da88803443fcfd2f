"""The contents of the exported files for Prometheus: rules, and the tests by which `promtool` proves their times."""

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from peruserd.monitoring.alerts_cluster import CLUSTER
from peruserd.monitoring.alerts_instance import INSTANCE
from peruserd.monitoring.alerts_users import USERS
from peruserd.monitoring.recordings import RECORDINGS
from peruserd.monitoring.rules import Alert, Course, Grows
from peruserd.monitoring.times import Times, seconds
from peruserd.monitoring.yaml_text import Value

ALERTS: Final = (*INSTANCE, *USERS, *CLUSTER)
"""All alerts."""

STEP_SECONDS: Final = 30
"""The time between two evaluations of the rules, and between two values in their tests."""

RULES_FILE: Final = "peruserd.rules.yml"

_GROUPS: Final = ("peruserd-recordings", "peruserd-alerts")

_LABEL: Final = re.compile(r"\{\{ \$labels\.(\w+) \}\}")
_VALUE: Final = re.compile(r"\{\{ \$value(?: \| \w+)? \}\}")


class Form(msgspec.Struct, frozen=True):
    """What an operator chooses: the job of the targets, where the document of the alerts is, and the scale of times."""

    job: str = "peruserd"
    runbook: str = "docs/alerts.md"
    scale: float = 1.0

    @property
    def times(self) -> Times:
        """Return the writer of times."""
        return Times(self.scale)

    def expression(self, text: str) -> str:
        """Return an expression with its times and the job."""
        return self.times.filled(text).replace("$job", self.job)


def rules(form: Form) -> Value:
    """Return the file of rules: one group of recorded expressions, and one of alerts."""
    interval = form.times.written(STEP_SECONDS)
    recordings: list[Value] = [{"record": each.record, "expr": form.expression(each.expr)} for each in RECORDINGS]
    alerts: list[Value] = [_alert(each, form) for each in ALERTS]
    return {
        "groups": [
            {"name": name, "interval": interval, "rules": found}
            for name, found in zip(_GROUPS, (recordings, alerts), strict=True)
        ]
    }


def _alert(alert: Alert, form: Form) -> Value:
    return {
        "alert": alert.name,
        "expr": form.expression(alert.expr),
        "for": form.times.written(seconds(alert.holds)),
        "labels": {"severity": alert.severity.value},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description.replace("$job", form.job),
            "runbook_url": f"{form.runbook}#{alert.anchor}",
        },
    }


def rule_tests(form: Form) -> Value:
    """Return the file of tests: for each alert that it does not fire too early, that it fires, and that it ends."""
    return {
        "rule_files": [RULES_FILE],
        "evaluation_interval": form.times.written(STEP_SECONDS),
        # Otherwise promtool takes the groups in any order, and alerts would sometimes see what was recorded before.
        "group_eval_order": list(_GROUPS),
        "tests": [_test(each, form) for each in ALERTS],
    }


def _test(alert: Alert, form: Form) -> Value:
    proof = alert.proof
    begins = seconds(proof.well)
    fires = begins + seconds(proof.true_after) + seconds(alert.holds)
    ends = fires + 4 * STEP_SECONDS
    clear = ends + seconds(proof.true_for)
    moments = {
        begins - STEP_SECONDS: False,
        fires - STEP_SECONDS: False,
        fires: True,
        ends - STEP_SECONDS: True,
        clear: False,
    }
    lengths = (begins, ends - begins, clear - ends + STEP_SECONDS)
    return {
        "name": alert.name,
        "interval": form.times.written(STEP_SECONDS),
        "input_series": [
            {
                "series": series.replace('job="peruserd"', f'job="{form.job}"'),
                "values": " ".join(_values((well, ill, well), lengths)),
            }
            for series, (well, ill) in proof.series.items()
        ],
        "alert_rule_test": [
            {
                "eval_time": form.times.written(moment),
                "alertname": alert.name,
                "exp_alerts": [_expected(alert, form)] if is_firing else [],
            }
            for moment, is_firing in moments.items()
        ],
    }


def _expected(alert: Alert, form: Form) -> Value:
    labels = {name: form.job if name == "job" else value for name, value in alert.proof.labels.items()}

    def shown(text: str) -> str:
        named = _LABEL.sub(lambda place: labels[place[1]], text.replace("$job", form.job))
        return _VALUE.sub(lambda _: alert.proof.shown, named)

    return {
        "exp_labels": {"severity": alert.severity.value, **labels},
        "exp_annotations": {
            "summary": shown(alert.summary),
            "description": shown(alert.description),
            "runbook_url": f"{form.runbook}#{alert.anchor}",
        },
    }


def _values(courses: tuple[Course, ...], lengths: tuple[int, ...]) -> Iterator[str]:
    """Write the values of a series, in promtool's notation, one part after the other. A counter never falls."""
    last: float | None = None
    for course, length in zip(courses, lengths, strict=True):
        steps = length // STEP_SECONDS
        match course:
            case None:
                yield "stale" if last is not None else "_"
                yield from ["_"] * (steps - 1)
                last = None
            case Grows(by):
                first = (last or 0.0) + by
                yield f"{first:g}+{by:g}x{steps - 1}"
                last = first + by * (steps - 1)
            case value:
                last = value if not _is_counter(courses) else max(value, last or 0.0)
                yield f"{last:g}+0x{steps - 1}"


def _is_counter(courses: tuple[Course, ...]) -> bool:
    return any(isinstance(each, Grows) for each in courses)
