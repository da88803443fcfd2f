"""The panels of the Grafana dashboard, by rows. `peruserd.monitoring.dashboard` makes Grafana's model of them.

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


# The labels by which a dashboard chooses.
_OF: Final = 'job="$job",instance=~"$instance"'
_RATE: Final = "[$__rate_interval]"
_JOB: Final = '{job="$job"}'


def _sum(name: str, by: str = "instance") -> str:
    return f"sum by ({by}) ({name}{{{_OF}}})"


def _rate(name: str, by: str = "instance") -> str:
    return f"sum by ({by}) (rate({name}{{{_OF}}}{_RATE}))"


_OVERVIEW: Final = Row(
    "At a glance",
    (
        Panel(
            "Instances that are ready",
            "Instances that serve all their users. Those that stand by or are drained do not count.",
            "none",
            (
                Query(f"sum(peruserd_ready{_JOB}) or vector(0)", "ready"),
                Query(
                    f"count(up{_JOB}) - (sum(peruserd_standby{_JOB}) or vector(0)) "
                    f"- (sum(peruserd_drained{_JOB}) or vector(0))",
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
            (Query(f"job:peruserd_users_provisioned:rate5m{_JOB}", "served"),),
            Look.NUMBER,
            4,
        ),
        Panel(
            "Latency, 99 %",
            "Time from reading a change within which 99 % of the users were served.",
            "s",
            (Query(f"job:peruserd_provisioning_latency_seconds:p99_5m{_JOB}", "p99"),),
            Look.NUMBER,
            4,
            warn_above=2.5,
            alarm_above=10,
        ),
        Panel(
            "Longest wait",
            "Time for which the oldest change has waited that is neither finished nor in quarantine.",
            "s",
            (Query(f"job:peruserd_listener_lag_seconds:max{_JOB}", "waits"),),
            Look.NUMBER,
            4,
            warn_above=30,
            alarm_above=120,
        ),
        Panel(
            "In quarantine",
            "Users who could not be served, over all instances.",
            "none",
            (Query(f"job:peruserd_quarantined_users:sum{_JOB}", "users"),),
            Look.NUMBER,
            4,
            warn_above=1,
            alarm_above=20,
        ),
    ),
)

_SERVED: Final = Row(
    "Users",
    (
        Panel(
            "Users served and revoked",
            "Users served to the end, and users whose access was taken away, in a second.",
            "cps",
            (
                Query(_rate("peruserd_users_provisioned_total"), "{{instance}} served"),
                Query(_rate("peruserd_users_revoked_total"), "{{instance}} revoked"),
            ),
        ),
        Panel(
            "Latency",
            "Time from reading a change to the end of the work on the user.",
            "s",
            (
                Query(f"job:peruserd_provisioning_latency_seconds:p50_5m{_JOB}", "50 %"),
                Query(f"job:peruserd_provisioning_latency_seconds:p95_5m{_JOB}", "95 %"),
                Query(f"job:peruserd_provisioning_latency_seconds:p99_5m{_JOB}", "99 %"),
            ),
        ),
        Panel(
            "Users served later than 10 s",
            "Part of the users, within five minutes and within an hour. The objective is at most 1 %.",
            "percentunit",
            (
                Query(f"job:peruserd_provisioning_slow:ratio_rate5m{_JOB}", "5 minutes"),
                Query(f"job:peruserd_provisioning_slow:ratio_rate1h{_JOB}", "1 hour"),
            ),
        ),
        Panel(
            "Looks, by reason",
            "Looks at users in a second, by the reason for them.",
            "cps",
            (Query(_rate("peruserd_looks_total", "reason"), "{{reason}}"),),
            stacked=True,
        ),
        Panel(
            "Databases and access",
            "Databases made and dropped, and security objects written, in a second.",
            "cps",
            (
                Query(_rate("peruserd_access_changes_total", "action"), "{{action}}"),
                Query(_rate("peruserd_databases_dropped_total", "job"), "drop"),
            ),
        ),
        Panel(
            "Failures, by kind",
            "Looks at users and reads of feeds that failed, in a second.",
            "cps",
            (Query(f"{_rate('peruserd_failures_total', 'kind')} > 0", "{{kind}}"),),
            stacked=True,
        ),
    ),
)

_STUCK: Final = Row(
    "What is stuck",
    (
        Panel(
            "Longest wait, by listener",
            "Time for which the oldest change of each listener has waited.",
            "s",
            (Query(f"peruserd_listener_lag_seconds{{{_OF}}}", "{{listener}}"),),
        ),
        Panel(
            "Age of the feeds",
            "Time since each feed was last read. Without changes it reaches the time of a long poll.",
            "s",
            (Query(f"peruserd_listener_feed_age_seconds{{{_OF}}}", "{{listener}}"),),
        ),
        Panel(
            "Waiting and under work",
            "Documents that wait for work, and those under work.",
            "none",
            (
                Query(_sum("peruserd_listener_waiting"), "{{instance}} waiting"),
                Query(_sum("peruserd_listener_in_flight"), "{{instance}} under work"),
            ),
        ),
        Panel(
            "Quarantine, by kind",
            "Users in quarantine by the kind of their failure.",
            "none",
            (Query(f"{_sum('peruserd_quarantined_users_by_kind', 'kind')} > 0", "{{kind}}"),),
            stacked=True,
        ),
        Panel(
            "Oldest user in quarantine",
            "Time since the first failure of the user who has been there longest.",
            "s",
            (Query(f"peruserd_quarantine_oldest_seconds{{{_OF}}}", "{{instance}}"),),
        ),
        Panel(
            "Listeners on hold, by reason",
            "Listeners that try no user, because the cluster serves nobody or the state cannot be written.",
            "none",
            (Query(f"{_sum('peruserd_listeners_on_hold', 'reason')} > 0", "{{reason}}"),),
            stacked=True,
        ),
    ),
)

_OWNERS: Final = Row(
    "Who owns what",
    (
        Panel(
            "Owners of the ranges",
            "Part of the documents that each instance owns, as a sum over the ranges.",
            "none",
            (Query(_sum("peruserd_range_owned_ratio"), "{{instance}}"),),
            width=12,
            stacked=True,
        ),
        Panel(
            "Sum of the parts of each range",
            "It is 1 unless users have no owner, or two.",
            "none",
            (Query(_sum("peruserd_range_owned_ratio", "range"), "{{range}}"),),
            width=12,
        ),
        Panel(
            "Instances alive",
            "Live instances, as each instance believes. The curves are equal while all agree.",
            "none",
            (Query(f"peruserd_instances_alive{{{_OF}}}", "{{instance}}"),),
        ),
        Panel(
            "Nodes connected",
            "CouchDB nodes connected to the node of each instance.",
            "none",
            (Query(f"peruserd_nodes_connected{{{_OF}}}", "{{instance}}"),),
        ),
        Panel(
            "Ready",
            "Whether each instance serves all its users.",
            "none",
            (Query(f"peruserd_ready{{{_OF}}}", "{{instance}}"),),
            Look.STATES,
        ),
    ),
)

_COUCHDB: Final = Row(
    "CouchDB",
    (
        Panel(
            "Requests, by outcome",
            "Requests to CouchDB in a second, by the status of the answer or the kind of error.",
            "reqps",
            (Query(f"{_rate('peruserd_requests_total', 'outcome')} > 0", "{{outcome}}"),),
            stacked=True,
        ),
        Panel(
            "Time of an answer",
            "Time from a request to the end of its answer, without long polls.",
            "s",
            (
                Query(f"histogram_quantile(0.5, {_rate('peruserd_request_latency_seconds_bucket', 'le')})", "50 %"),
                Query(f"histogram_quantile(0.99, {_rate('peruserd_request_latency_seconds_bucket', 'le')})", "99 %"),
            ),
        ),
        Panel(
            "Requests that failed",
            "Part of the requests that got a 5xx or no answer.",
            "percentunit",
            (Query(f"job:peruserd_requests_failed:ratio_rate5m{_JOB}", "failed"),),
        ),
        Panel(
            "Age of leases and readings",
            "Time since each lease was written, and since each instance has read the cluster.",
            "s",
            (
                Query(f"peruserd_lease_age_seconds{{{_OF}}}", "{{instance}} lease"),
                Query(f"peruserd_reading_age_seconds{{{_OF}}}", "{{instance}} reading"),
            ),
        ),
        Panel(
            "Copies of the leases",
            "Copies of the database of the leases that answer, and how many there should be.",
            "none",
            (
                Query(f"peruserd_lease_copies_live{{{_OF}}}", "{{instance}} live"),
                Query(f"max(peruserd_lease_copies_expected{{{_OF}}})", "expected"),
            ),
        ),
        Panel(
            "Logins and refusals",
            "Logins that succeeded, and refusals of the password, within the interval.",
            "none",
            (
                Query(f"sum(increase(peruserd_logins_total{{{_OF}}}{_RATE}))", "logins"),
                Query(f"sum(increase(peruserd_password_refusals_total{{{_OF}}}{_RATE}))", "refusals"),
            ),
        ),
    ),
)

_AUDIT: Final = Row(
    "The audit and deletions",
    (
        Panel(
            "Findings of the last round",
            "Users by what the last whole round of the audit has found.",
            "none",
            (
                Query(
                    f'sum by (kind) (peruserd_audit_findings{{{_OF},round="last"}}) > 0',
                    "{{kind}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Age of the last round",
            "Time since the oldest of the last rounds ended.",
            "s",
            (Query(f"peruserd_audit_age_seconds{{{_OF}}}", "{{instance}}"),),
        ),
        Panel(
            "Deletions",
            "Databases of deleted users that wait to be dropped, and those kept shut because their user came back.",
            "none",
            (
                Query(_sum("peruserd_deletions_waiting", "job"), "waiting"),
                Query(_sum("peruserd_deletions_held_returns", "job"), "kept shut"),
            ),
        ),
    ),
)

_PROCESSES: Final = Row(
    "Processes",
    (
        Panel(
            "Processor time",
            "Cores in use by the listeners and the supervisor of each instance.",
            "none",
            (
                Query(_rate("peruserd_listener_cpu_seconds_total"), "{{instance}} listeners"),
                Query(_rate("process_cpu_seconds_total"), "{{instance}} supervisor"),
            ),
        ),
        Panel(
            "Memory",
            "Resident memory of the listeners, shared parts counted for each, and of the supervisor.",
            "bytes",
            (
                Query(_sum("peruserd_listener_resident_memory_bytes"), "{{instance}} listeners"),
                Query(_sum("process_resident_memory_bytes"), "{{instance}} supervisor"),
            ),
        ),
        Panel(
            "Restarts of listeners",
            "Restarts after an unplanned end, within the interval.",
            "none",
            (Query(f"sum by (instance) (increase(peruserd_listener_restarts_total{{{_OF}}}{_RATE}))", "{{instance}}"),),
        ),
        Panel(
            "File descriptors",
            "The largest number of open descriptors of a listener, and those of the supervisor.",
            "none",
            (
                Query(f"max by (instance) (peruserd_listener_open_fds{{{_OF}}})", "{{instance}} listener"),
                Query(f"max by (instance) (process_open_fds{{{_OF}}})", "{{instance}} supervisor"),
            ),
        ),
        Panel(
            "Room for the state",
            "Free space of the file system with the state directory.",
            "bytes",
            (Query(f"peruserd_state_free_bytes{{{_OF}}}", "{{instance}}"),),
        ),
        Panel(
            "Time since the start",
            "Time since each instance started.",
            "s",
            (Query(f"time() - peruserd_start_time_seconds{{{_OF}}}", "{{instance}}"),),
        ),
    ),
)

ROWS: Final = (_OVERVIEW, _SERVED, _STUCK, _OWNERS, _COUCHDB, _AUDIT, _PROCESSES)
"""The rows of the dashboard, from the top."""
