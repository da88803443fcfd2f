"""The dashboard, against Grafana's own schema and against the metrics that there are."""

import json
import subprocess
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

from peruserd.monitoring.dashboard import dashboard
from peruserd.monitoring.recordings import RECORDINGS
from peruserd.monitoring.yaml_text import written
from tests.monitoring.expressions import unknown
from tests.monitoring.grafana_types import left_out, misfits

COLUMNS = 24


@pytest.fixture(scope="module")
def model() -> dict[str, Any]:
    """Return the dashboard."""
    return dashboard("peruserd")


def panels(model: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the panels that are no titles of rows."""
    return [each for each in model["panels"] if each["type"] != "row"]


def test_grafanas_types_know_every_part(model: dict[str, Any]) -> None:
    """The schema drops what it does not know; so what went through it must have lost nothing."""
    register_default_plugins()
    known = Dashboard.from_json(model)
    assert list(left_out(model, json.loads(JSONEncoder().encode(known)))) == []


def test_every_value_is_of_the_type_that_grafana_expects(model: dict[str, Any]) -> None:
    """The types are checked down to each option of each panel."""
    register_default_plugins()
    found = Dashboard.from_json(model)
    assert list(misfits(found, Dashboard)) == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda model: model["panels"][1].update(titel="x"), "titel"),
        (lambda model: model["panels"][1]["gridPos"].update(w="wide"), "grid_pos.w"),
        (lambda model: model["panels"][1]["fieldConfig"]["defaults"].update(units="s"), "units"),
        (lambda model: model["templating"]["list"][0].update(type="data source"), "type_val"),
        (lambda model: model["panels"][1]["options"].update(colorMode="loud"), "color_mode"),
    ],
)
def test_a_mistake_is_found(change: Callable[[dict[str, Any]], None], where: str) -> None:
    """The two checks themselves work."""
    register_default_plugins()
    model = dashboard("peruserd")
    change(model)
    found = Dashboard.from_json(model)
    wrong = [*left_out(model, json.loads(JSONEncoder().encode(found))), *misfits(found, Dashboard)]
    assert any(where in each for each in wrong), wrong


def test_each_panel_says_what_it_shows(model: dict[str, Any]) -> None:
    """A title, a sentence, a unit that Grafana knows, a query with its legend, and an id of its own."""
    known = {value for name, value in vars(units).items() if isinstance(value, str) and not name.startswith("_")}
    ids = [each["id"] for each in model["panels"]]
    assert len(set(ids)) == len(ids)
    titles = [each["title"] for each in panels(model)]
    assert len(set(titles)) == len(titles)
    for panel in panels(model):
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"] in known
        assert panel["targets"]
        assert len({each["refId"] for each in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            assert target["legendFormat"]


def test_panels_neither_overlap_nor_leave_the_grid(model: dict[str, Any]) -> None:
    """Grafana would move them, and show another picture than was meant."""
    places = [each["gridPos"] for each in model["panels"]]
    for place in places:
        assert 0 <= place["x"] < place["x"] + place["w"] <= COLUMNS
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)
    # No line is left half empty in the middle of the dashboard.
    assert sorted(place["y"] for place in places) == [place["y"] for place in places]


def test_the_data_source_can_be_chosen_everywhere(model: dict[str, Any]) -> None:
    """An imported dashboard must not name the data source of whoever made it."""
    variables = {each["name"]: each for each in model["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    queried = [variables["job"], variables["instance"], *model["annotations"]["list"], *panels(model)]
    assert all(each["datasource"] == chosen for each in queried)
    assert all(target["datasource"] == chosen for panel in panels(model) for target in panel["targets"])


def expressions(model: dict[str, Any]) -> list[str]:
    """Return every expression of the dashboard, with its variables filled in."""
    found = [target["expr"] for panel in panels(model) for target in panel["targets"]]
    found += [each["expr"] for each in model["annotations"]["list"]]
    return [
        each.replace("$job", "peruserd").replace("$instance", ".*").replace("$__rate_interval", "2m") for each in found
    ]


def test_expressions_name_only_what_there_is(model: dict[str, Any]) -> None:
    """Their variables are those of the dashboard, and each recorded expression is shown or used by an alert."""
    for each in expressions(model):
        assert unknown(each) == set(), each
        assert "$" not in each, each
        assert 'job="peruserd"' in each or "ALERTS" in each
    shown = " ".join(expressions(model))
    unused = {each.record for each in RECORDINGS if each.record not in shown}
    assert unused <= {
        "job:peruserd_provisioning_slow:ratio_rate30m",
        "job:peruserd_provisioning_slow:ratio_rate6h",
    }


def test_prometheus_understands_every_expression(
    model: dict[str, Any], need_tool: Callable[[str], str], tmp_path: Path
) -> None:
    """Promtool reads each of them as a rule."""
    rules = [{"record": f"job:panel:{place}", "expr": each} for place, each in enumerate(expressions(model))]
    file = tmp_path / "panels.yml"
    file.write_text(written({"groups": [{"name": "panels", "rules": list(rules)}]}))
    checked = subprocess.run(
        [need_tool("promtool"), "check", "rules", file], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(rules)} rules found" in checked.stdout
