"""The Grafana dashboard, as the JSON model that Grafana imports. Tests check it against Grafana's own schema."""

from collections.abc import Iterator
from typing import Any, Final

from peruserd.monitoring.panel import Look, Panel, Query, Row
from peruserd.monitoring.panels import ROWS

# Grafana 10.4 and newer read this version of the model.
_SCHEMA: Final = 39

_COLUMNS: Final = 24
_HEIGHTS: Final = {Look.NUMBER: 4, Look.CURVE: 8, Look.STATES: 8}

_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}

_GREEN: Final = {"color": "green", "value": None}


def dashboard(job: str) -> dict[str, Any]:
    """Return the dashboard; `job` is the one that is chosen at first."""
    return {
        "uid": "peruserd",
        "title": "peruserd",
        "description": "Users of CouchDB and their private databases, as peruserd serves them.",
        "tags": ["couchdb", "peruserd"],
        "timezone": "browser",
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "schemaVersion": _SCHEMA,
        "templating": {"list": list(_variables(job))},
        "annotations": {"list": [_restarts()]},
        "panels": list(_panels()),
    }


def _variables(job: str) -> Iterator[dict[str, Any]]:
    yield {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    yield {
        "name": "job",
        "label": "Job",
        "type": "query",
        "datasource": _DATASOURCE,
        "query": "label_values(peruserd_build_info, job)",
        "current": {"text": job, "value": job},
        "refresh": 2,
        "sort": 1,
    }
    yield {
        "name": "instance",
        "label": "Instance",
        "type": "query",
        "datasource": _DATASOURCE,
        "query": 'label_values(peruserd_build_info{job="$job"}, instance)',
        "current": {"text": ["All"], "value": ["$__all"]},
        "includeAll": True,
        "multi": True,
        "refresh": 2,
        "sort": 1,
    }


def _restarts() -> dict[str, Any]:
    return {
        "name": "Starts",
        "datasource": _DATASOURCE,
        "enable": True,
        "iconColor": "blue",
        "expr": 'changes(peruserd_start_time_seconds{job="$job"}[1m]) > 0',
    }


def _panels() -> Iterator[dict[str, Any]]:
    number = top = 0
    for row in ROWS:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": {"h": 1, "w": _COLUMNS, "x": 0, "y": top},
            "panels": [],
        }
        top += 1
        for panel, left, below in _placed(row):
            number += 1
            yield _panel(number, panel, left, top + below)
        top += max(below + _HEIGHTS[panel.look] for panel, _, below in _placed(row))


def _placed(row: Row) -> Iterator[tuple[Panel, int, int]]:
    """Return each panel with its column, and its place below the title of the row: from left to right, line by line."""
    left = below = height = 0
    for panel in row.panels:
        if left + panel.width > _COLUMNS:
            left, below, height = 0, below + height, 0
        yield panel, left, below
        left += panel.width
        height = max(height, _HEIGHTS[panel.look])


def _panel(number: int, panel: Panel, left: int, top: int) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.look.value,
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "gridPos": {"h": _HEIGHTS[panel.look], "w": panel.width, "x": left, "y": top},
        "targets": [_target(place, query) for place, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _options(panel.look),
    }


def _target(place: int, query: Query) -> dict[str, Any]:
    return {
        "refId": chr(ord("A") + place),
        "datasource": _DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend,
        "range": True,
    }


def _field(panel: Panel) -> dict[str, Any]:
    found: dict[str, Any] = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": _steps(panel)}}
    match panel.look:
        case Look.NUMBER:
            found["color"] = {"mode": "thresholds"}
        case Look.STATES:
            found["mappings"] = [
                {"type": "value", "options": {"0": {"text": "no", "color": "red"}, "1": {"text": "yes"}}}
            ]
            found["color"] = {"mode": "thresholds"}
            found["custom"] = {"fillOpacity": 70, "lineWidth": 0}
        case Look.CURVE:
            found["color"] = {"mode": "palette-classic"}
            found["custom"] = {
                "drawStyle": "line",
                "fillOpacity": 25 if panel.stacked else 0,
                "lineWidth": 1,
                "showPoints": "never",
                "stacking": {"group": "A", "mode": "normal" if panel.stacked else "none"},
            }
    return found


def _steps(panel: Panel) -> list[dict[str, Any]]:
    marks = {"yellow": panel.warn_above, "red": panel.alarm_above}
    return [_GREEN, *({"color": color, "value": value} for color, value in marks.items() if value is not None)]


def _options(look: Look) -> dict[str, Any]:
    match look:
        case Look.NUMBER:
            return {
                "colorMode": "value",
                "graphMode": "area",
                "justifyMode": "auto",
                "orientation": "auto",
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
                "textMode": "auto",
            }
        case Look.STATES:
            return {
                "alignValue": "left",
                "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": False},
                "mergeValues": True,
                "rowHeight": 0.9,
                "showValue": "never",
                "tooltip": {"mode": "single", "sort": "none"},
            }
        case Look.CURVE:
            return {
                "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
