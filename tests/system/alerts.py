"""Whether an exported alert would fire by what an instance shows now, as Prometheus' own engine finds."""

import json
import math
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from peruserd.monitoring.exported import ALERTS, RULES_FILE, STEP_SECONDS, Form, rules
from peruserd.monitoring.times import seconds
from peruserd.monitoring.yaml_text import Value, written

_HOLDS: Final = {each.name: seconds(each.holds) for each in ALERTS}
_TARGET: Final = {"job": Form().job, "instance": "here:9984"}

Series = tuple[str, float]
"""A series with its labels, and its value."""


class Alerts:
    """Asks `promtool`, with files in `directory`."""

    def __init__(self, promtool: str, directory: Path) -> None:
        self._promtool = promtool
        self._directory = directory
        directory.mkdir()

    def fires(self, name: str, scrape: str | None, *, ageing: bool = False) -> bool:
        """Say whether an alert fires if a scrape stays as it is for as long as the alert waits; None is no answer.

        With `ageing` each age grows with time, because what it is the age of does not happen any more.
        """
        rounds = _HOLDS[name] // STEP_SECONDS + 4
        fires = f'(count(ALERTS{{alertname="{name}",alertstate="firing"}}) > bool 0) or vector(0)'
        moment = f"{rounds * STEP_SECONDS}s"
        test = {
            "interval": f"{STEP_SECONDS}s",
            "input_series": [
                {"series": series, "values": f"{value!r}+{STEP_SECONDS if ageing and _is_age(series) else 0}x{rounds}"}
                for series, value in _series(scrape)
            ],
            "promql_expr_test": [
                {"expr": fires, "eval_time": moment, "exp_samples": [{"labels": "{}", "value": 1}]},
            ],
        }
        file = self._directory / f"{name}.test.yml"
        # JSON is YAML too.
        rules_file = f"{name}.{RULES_FILE}"
        (self._directory / rules_file).write_text(written(_rules_with(name)))
        file.write_text(json.dumps({"rule_files": [rules_file], "tests": [test]}))
        ran = subprocess.run(
            [self._promtool, "test", "rules", file.name],
            cwd=self._directory,
            capture_output=True,
            text=True,
            check=False,
        )
        said = ran.stdout + ran.stderr
        assert ran.returncode == 0 or "got: {} 0E+00" in said, said
        return ran.returncode == 0


def _rules_with(alert: str) -> Value:
    """Return the exported rules without the other alerts. No rule reads alerts, and these take a third of the time."""
    document = rules(Form())
    assert isinstance(document, dict)
    recordings, alerts = document["groups"]
    (kept,) = [rule for rule in alerts["rules"] if rule["alert"] == alert]
    return {"groups": [recordings, {**alerts, "rules": [kept]}]}


def _series(scrape: str | None) -> Iterator[Series]:
    yield _written("up", {}), float(scrape is not None)
    for family in text_string_to_metric_families(scrape or ""):
        for sample in family.samples:
            value = sample.value if math.isfinite(sample.value) else 1e300
            yield _written(sample.name, sample.labels), value


def _written(name: str, labels: dict[str, str]) -> str:
    pairs: Iterable[tuple[str, Any]] = {**_TARGET, **labels}.items()
    return f"{name}{{{','.join(f'{key}={json.dumps(value)}' for key, value in pairs)}}}"


def _is_age(series: str) -> bool:
    return series.partition("{")[0].endswith("_age_seconds")
