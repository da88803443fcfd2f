"""The rows of the dashboard about users: who is served, who waits, and who owns them."""

from typing import Final

from peruserd.monitoring.panel import JOB, OF, Look, Panel, Query, Row, rate_of, total

SERVED: Final = Row(
    "Users",
    (
        Panel(
            "Users served and revoked",
            "Users served to the end, and users whose access was taken away, in a second.",
            "cps",
            (
                Query(rate_of("peruserd_users_provisioned_total"), "{{instance}} served"),
                Query(rate_of("peruserd_users_revoked_total"), "{{instance}} revoked"),
            ),
        ),
        Panel(
            "Latency",
            "Time from reading a change to the end of the work on the user.",
            "s",
            (
                Query(f"job:peruserd_provisioning_latency_seconds:p50_5m{JOB}", "50 %"),
                Query(f"job:peruserd_provisioning_latency_seconds:p95_5m{JOB}", "95 %"),
                Query(f"job:peruserd_provisioning_latency_seconds:p99_5m{JOB}", "99 %"),
            ),
        ),
        Panel(
            "Users served later than 10 s",
            "Part of the users, within five minutes and within an hour. The objective is at most 1 %.",
            "percentunit",
            (
                Query(f"job:peruserd_provisioning_slow:ratio_rate5m{JOB}", "5 minutes"),
                Query(f"job:peruserd_provisioning_slow:ratio_rate1h{JOB}", "1 hour"),
            ),
        ),
        Panel(
            "Looks, by reason",
            "Looks at users in a second, by the reason for them.",
            "cps",
            (Query(rate_of("peruserd_looks_total", "reason"), "{{reason}}"),),
            stacked=True,
        ),
        Panel(
            "Databases and access",
            "Databases made and dropped, and security objects written, in a second.",
            "cps",
            (
                Query(rate_of("peruserd_access_changes_total", "action"), "{{action}}"),
                Query(rate_of("peruserd_databases_dropped_total", "job"), "drop"),
            ),
        ),
        Panel(
            "Failures, by kind",
            "Looks at users and reads of feeds that failed, in a second.",
            "cps",
            (Query(f"{rate_of('peruserd_failures_total', 'kind')} > 0", "{{kind}}"),),
            stacked=True,
        ),
    ),
)

STUCK: Final = Row(
    "What is stuck",
    (
        Panel(
            "Longest wait, by listener",
            "Time for which the oldest change of each listener has waited.",
            "s",
            (Query(f"peruserd_listener_lag_seconds{{{OF}}}", "{{listener}}"),),
        ),
        Panel(
            "Age of the feeds",
            "Time since each feed was last read. Without changes it reaches the time of a long poll.",
            "s",
            (Query(f"peruserd_listener_feed_age_seconds{{{OF}}}", "{{listener}}"),),
        ),
        Panel(
            "Waiting and under work",
            "Documents that wait for work, and those under work.",
            "none",
            (
                Query(total("peruserd_listener_waiting"), "{{instance}} waiting"),
                Query(total("peruserd_listener_in_flight"), "{{instance}} under work"),
            ),
        ),
        Panel(
            "Quarantine, by kind",
            "Users in quarantine by the kind of their failure.",
            "none",
            (Query(f"{total('peruserd_quarantined_users_by_kind', 'kind')} > 0", "{{kind}}"),),
            stacked=True,
        ),
        Panel(
            "Oldest user in quarantine",
            "Time since the first failure of the user who has been there longest.",
            "s",
            (Query(f"peruserd_quarantine_oldest_seconds{{{OF}}}", "{{instance}}"),),
        ),
        Panel(
            "Listeners on hold, by reason",
            "Listeners that try no user, because the cluster serves nobody or the state cannot be written.",
            "none",
            (Query(f"{total('peruserd_listeners_on_hold', 'reason')} > 0", "{{reason}}"),),
            stacked=True,
        ),
    ),
)

OWNERS: Final = Row(
    "Who owns what",
    (
        Panel(
            "Owners of the ranges",
            "Part of the documents that each instance owns, as a sum over the ranges.",
            "none",
            (Query(total("peruserd_range_owned_ratio"), "{{instance}}"),),
            width=12,
            stacked=True,
        ),
        Panel(
            "Sum of the parts of each range",
            "It is 1 unless users have no owner, or two.",
            "none",
            (Query(total("peruserd_range_owned_ratio", "range"), "{{range}}"),),
            width=12,
        ),
        Panel(
            "Instances alive",
            "Live instances, as each instance believes. The curves are equal while all agree.",
            "none",
            (Query(f"peruserd_instances_alive{{{OF}}}", "{{instance}}"),),
        ),
        Panel(
            "Nodes connected",
            "CouchDB nodes connected to the node of each instance.",
            "none",
            (Query(f"peruserd_nodes_connected{{{OF}}}", "{{instance}}"),),
        ),
        Panel(
            "Ready",
            "Whether each instance serves all its users.",
            "none",
            (Query(f"peruserd_ready{{{OF}}}", "{{instance}}"),),
            Look.STATES,
        ),
    ),
)
