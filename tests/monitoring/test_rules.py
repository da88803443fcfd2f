"""The exported rules: understood by Prometheus, about metrics that there are, and proved to fire and to end."""

import os
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from textwrap import indent

import pytest

from peruserd.core.processes.counters import LATENCY_BUCKETS
from peruserd.monitoring.exported import ALERTS, RULES_FILE, Form, rule_tests
from peruserd.monitoring.files import TESTS_FILE, files
from peruserd.monitoring.recordings import RECORDINGS, SLOW_SECONDS
from peruserd.monitoring.rules import Alert, Recording
from peruserd.monitoring.yaml_text import Value, written
from tests.monitoring.expressions import metrics, unknown

ALERTS_PAGE = Path(__file__).parents[2] / "docs" / "alerts.md"


@pytest.fixture
def promtool(need_tool: Callable[[str], str]) -> Callable[..., str]:
    """Run promtool with these arguments, and return its output; it must end well."""
    tool = need_tool("promtool")

    def run(*arguments: str | Path) -> str:
        ran = subprocess.run(
            [tool, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            # It collects its garbage half as often, which saves a quarter of its processor time.
            env={**os.environ, "GOGC": "200"},
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    return run


@pytest.mark.processes
@pytest.mark.parametrize("form", [Form(), Form("couch/users", "https://wiki/alerts", 0.05)], ids=["plain", "scaled"])
def test_each_alert_fires_and_ends_when_it_should(promtool: Callable[..., str], tmp_path: Path, form: Form) -> None:
    """Promtool runs the exported tests: not one step too early, then firing with its words, then over."""
    exported = files(form)
    shipped = tmp_path / RULES_FILE
    shipped.write_text(exported[RULES_FILE])
    assert f"{len(ALERTS) + len(RECORDINGS)} rules found" in promtool("check", "rules", shipped)
    head, *tests = _TEST.split(exported[TESTS_FILE])
    named = zip((each.name for each in ALERTS), tests, strict=True)
    assert promtool("test", "rules", *write_apart(tmp_path, form, head, named)).count("SUCCESS") == len(ALERTS)


_TEST = re.compile(r"^(?=  - name: )", re.MULTILINE)
_RULE = re.compile(r"^(?= {2,6}- (?:name|record|alert): )", re.MULTILINE)


def write_apart(directory: Path, form: Form, head: str, tests: Iterable[tuple[str, str]]) -> Iterator[Path]:
    """Write a file for each test of an alert, with the rules that it needs beside it, and return its path.

    Promtool evaluates all rules of a file at each step, so most of the time would go to rules that see nothing. Every
    line is one of the exported files. The first test has all rules, because they must also work together.
    """
    everything = files(form)[RULES_FILE]
    for number, (alert, test) in enumerate(tests):
        kept = _about(test, everything) if number else everything
        assert f"- alert: {alert}\n" in kept, "otherwise it would be silent"
        apart = directory / str(number)
        apart.mkdir()
        (apart / RULES_FILE).write_text(kept)
        path = apart / TESTS_FILE
        path.write_text(head + test)
        yield path


def _about(test: str, everything: str) -> str:
    """Return the file of rules without those that read none of the test's series, and no recording of these series.

    No rule reads alerts, so the others would not change what is looked at.
    """
    read = set(re.findall(r"- series: \W?([\w:]+)", test))
    assert read
    assert "ALERTS" not in everything
    kept = []
    for part in _RULE.split(everything):
        is_rule = part.lstrip().startswith(("- record:", "- alert:"))
        if not is_rule or not read.isdisjoint(re.findall(r"[\w:]+", part)):
            kept.append(part)
            read.update(re.findall(r"- record: (\S+)", part))
    return "".join(kept)


def test_each_alert_has_its_test() -> None:
    """Each test looks before, while and after the alert fires."""
    document = rule_tests(Form())
    assert isinstance(document, dict)
    assert [each["name"] for each in document["tests"]] == [each.name for each in ALERTS]
    for each in document["tests"]:
        fires = [bool(moment["exp_alerts"]) for moment in each["alert_rule_test"]]
        # An alert that fires with the first bad value has no moment between the two.
        assert fires in ([False, False, True, True, False], [False, True, True, False])


@pytest.mark.parametrize("rule", [*ALERTS, *RECORDINGS], ids=lambda rule: getattr(rule, "name", "recording"))
def test_rules_name_only_what_there_is(rule: Alert | Recording) -> None:
    """A renamed metric, label or value would make an alert silent for ever."""
    assert unknown(rule.expr) == set()
    assert metrics(rule.expr) or "up{" in rule.expr


def test_a_misspelt_name_is_found() -> None:
    """The check itself works."""
    assert unknown("peruserd_reddy == 0") == {"peruserd_reddy"}
    assert unknown('peruserd_listener_state{state="field"}') == {"peruserd_listener_state{state=field}"}
    assert unknown('peruserd_ready{listener="a"}') == {"peruserd_ready{listener}"}
    assert unknown("job:peruserd_invented:rate5m") == {"job:peruserd_invented:rate5m"}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_says_what_it_is_and_what_to_do(alert: Alert) -> None:
    """The document has a section for each with meaning, cause and what to do, and the link leads there."""
    sections = {part.partition("\n")[0]: part for part in ALERTS_PAGE.read_text().split("\n## ")[1:]}
    section = sections[alert.name]
    for word in ("**Meaning.**", "**Cause.**", "**What to do.**"):
        assert section.count(word) == 1, word
    for text in (alert.summary, alert.description):
        assert text
        labels = set(re.findall(r"\$labels\.(\w+)", text))
        assert labels <= set(alert.proof.labels), "the alert has no such label"


def test_the_document_has_no_section_of_an_alert_that_is_gone() -> None:
    """Sections are in the order of the table."""
    titles = re.findall(r"^## (.*)$", ALERTS_PAGE.read_text(), re.MULTILINE)
    assert titles == [each.name for each in ALERTS]


def test_names_are_unique() -> None:
    """Two rules of one name would be one alert to a person."""
    assert len({each.name for each in ALERTS}) == len(ALERTS)
    assert len({each.record for each in RECORDINGS}) == len(RECORDINGS)


def test_the_bound_of_slow_users_is_one_of_the_histogram() -> None:
    """Otherwise the recorded part would be nothing."""
    assert SLOW_SECONDS in map(str, LATENCY_BUCKETS)


HERE = 'instance="n1:9984",job="peruserd"'


def course(name: str, series: dict[str, str], *, minutes: int, fires: bool) -> tuple[str, dict[str, Value]]:
    """Return an alert and its test: whether it fires after so many minutes of these values."""
    return name, {
        "interval": "30s",
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)',
                "eval_time": f"{minutes}m",
                "exp_samples": [{"labels": "{}", "value": int(fires)}],
            }
        ],
    }


COURSES = {
    "a standby is not ready and well": course(
        "PeruserdNotReady",
        {f"peruserd_ready{{{HERE}}}": "0x100", f"peruserd_standby{{{HERE}}}": "1x100"},
        minutes=30,
        fires=False,
    ),
    "an instance that knows nothing yet is not ready": course(
        "PeruserdNotReady", {f"peruserd_ready{{{HERE}}}": "0x100"}, minutes=30, fires=True
    ),
    "CouchDB was never seen": course(
        "PeruserdCouchDBNotSeen", {f"peruserd_reading_failures_total{{{HERE}}}": "1+1x20"}, minutes=5, fires=True
    ),
    "a failed reading between others is nothing": course(
        "PeruserdCouchDBNotSeen",
        {
            f"peruserd_reading_failures_total{{{HERE}}}": "1+1x20",
            f"peruserd_reading_age_seconds{{{HERE}}}": "3x20",
        },
        minutes=5,
        fires=False,
    ),
    "an audit that never ends a round": course(
        "PeruserdAuditOld",
        {
            f"peruserd_start_time_seconds{{{HERE}}}": "0x400",
            f"peruserd_audit_interval_seconds{{{HERE}}}": "600x400",
        },
        minutes=120,
        fires=True,
    ),
    "a standby has no audit": course(
        "PeruserdAuditOld",
        {
            f"peruserd_start_time_seconds{{{HERE}}}": "0x400",
            f"peruserd_audit_interval_seconds{{{HERE}}}": "600x400",
            f"peruserd_standby{{{HERE}}}": "1x400",
        },
        minutes=120,
        fires=False,
    ),
    "a part of the metrics fails": course(
        "PeruserdMetricsMissing",
        {
            f"up{{{HERE}}}": "1x40",
            f'peruserd_build_info{{{HERE},version="1"}}': "1x40",
            f'peruserd_collector_failures_total{{{HERE},part="audit"}}': "0+1x40",
        },
        minutes=10,
        fires=True,
    ),
    "the supervisor has too many descriptors open": course(
        "PeruserdDescriptorsUsedUp",
        {f"process_open_fds{{{HERE}}}": "900x40", f"process_max_fds{{{HERE}}}": "1024x40"},
        minutes=10,
        fires=True,
    ),
    "another program of this machine is none of ours": course(
        "PeruserdDescriptorsUsedUp",
        {'process_open_fds{job="node"}': "900x40", 'process_max_fds{job="node"}': "1024x40"},
        minutes=10,
        fires=False,
    ),
    "a pause of all drops makes none overdue": course(
        "PeruserdDeletionsOverdue",
        {
            f"peruserd_deletions_overdue_seconds{{{HERE}}}": "200000x60",
            f"peruserd_deletions_paused{{{HERE}}}": "1x60",
        },
        minutes=25,
        fires=False,
    ),
    "two clusters with a label each are added up apart": course(
        "PeruserdRangeNotOwnedOnce",
        {
            f'peruserd_range_owned_ratio{{cluster="a",{HERE},range="00000000-ffffffff"}}': "1x40",
            f'peruserd_range_owned_ratio{{cluster="b",{HERE},range="00000000-ffffffff"}}': "1x40",
        },
        minutes=15,
        fires=False,
    ),
    "nobody signs up": course(
        "PeruserdSignUpsSlow",
        {
            f'peruserd_provisioning_latency_seconds_bucket{{{HERE},le="10.0"}}': "7x200",
            f"peruserd_provisioning_latency_seconds_count{{{HERE}}}": "9x200",
        },
        minutes=80,
        fires=False,
    ),
    "a password that was refused once and is right now": course(
        "PeruserdPasswordRefused",
        {
            f"peruserd_authenticated{{{HERE}}}": "1x20",
            f"peruserd_password_refusals_total{{{HERE}}}": "3x20",
        },
        minutes=5,
        fires=False,
    ),
}


@pytest.mark.processes
def test_what_looks_like_trouble_and_what_is(promtool: Callable[..., str], tmp_path: Path) -> None:
    """The exceptions and the second halves of conditions, which the exported tests do not pass through."""
    head, *_ = _TEST.split(files(Form())[TESTS_FILE])
    tests = ((alert, indent(written([{"name": name, **test}]), "  ")) for name, (alert, test) in COURSES.items())
    paths = write_apart(tmp_path, Form(), head, tests)
    assert promtool("test", "rules", *paths).count("SUCCESS") == len(COURSES)
    assert len(COURSES) >= 13
