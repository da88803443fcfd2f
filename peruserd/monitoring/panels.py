"""The rows of the Grafana dashboard, the overview first. `monitoring.dashboard` makes Grafana's model of them."""

from typing import Final

from peruserd.monitoring.panel import JOB, Look, Panel, Query, Row
from peruserd.monitoring.panels_instance import AUDIT, COUCHDB, PROCESSES
from peruserd.monitoring.panels_users import OWNERS, SERVED, STUCK

_OVERVIEW: Final = Row(
    "At a glance",
    (
        Panel(
            "Instances that are ready",
            "Instances that serve all their users. Those that stand by or are drained do not count.",
            "none",
            (
                Query(f"sum(peruserd_ready{JOB}) or vector(0)", "ready"),
                Query(
                    f"count(up{JOB}) - (sum(peruserd_standby{JOB}) or vector(0)) "
                    f"- (sum(peruserd_drained{JOB}) or vector(0))",
                    "of",
                ),
            ),
            Look.NUMBER,
            4,
        ),
        Panel(
            "Alerts",
            "Alerts of peruserd that fire now. The document of the alerts says what to do.",
            "none",
            (Query('count(ALERTS{alertname=~"Peruserd.*",alertstate="firing"}) or vector(0)', "firing"),),
            Look.NUMBER,
            4,
            alarm_above=1,
        ),
        Panel(
            "Users served",
            "Users served to the end in a second, over all instances.",
            "cps",
            (Query(f"job:peruserd_users_provisioned:rate5m{JOB}", "served"),),
            Look.NUMBER,
            4,
        ),
        Panel(
            "Latency, 99 %",
            "Time from reading a change within which 99 % of the users were served.",
            "s",
            (Query(f"job:peruserd_provisioning_latency_seconds:p99_5m{JOB}", "p99"),),
            Look.NUMBER,
            4,
            warn_above=2.5,
            alarm_above=10,
        ),
        Panel(
            "Longest wait",
            "Time for which the oldest change has waited that is neither finished nor in quarantine.",
            "s",
            (Query(f"job:peruserd_listener_lag_seconds:max{JOB}", "waits"),),
            Look.NUMBER,
            4,
            warn_above=30,
            alarm_above=120,
        ),
        Panel(
            "In quarantine",
            "Users who could not be served, over all instances.",
            "none",
            (Query(f"job:peruserd_quarantined_users:sum{JOB}", "users"),),
            Look.NUMBER,
            4,
            warn_above=1,
            alarm_above=20,
        ),
    ),
)

ROWS: Final = (_OVERVIEW, SERVED, STUCK, OWNERS, COUCHDB, AUDIT, PROCESSES)
"""The rows of the dashboard, from the top."""
