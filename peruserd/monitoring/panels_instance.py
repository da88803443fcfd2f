"""The rows of the dashboard about an instance: its CouchDB, its audit and its processes."""

from typing import Final

from peruserd.monitoring.panel import JOB, OF, RATE, Panel, Query, Row, rate_of, total

COUCHDB: Final = Row(
    "CouchDB",
    (
        Panel(
            "Requests, by outcome",
            "Requests to CouchDB in a second, by the status of the answer or the kind of error.",
            "reqps",
            (Query(f"{rate_of('peruserd_requests_total', 'outcome')} > 0", "{{outcome}}"),),
            stacked=True,
        ),
        Panel(
            "Time of an answer",
            "Time from a request to the end of its answer, without long polls.",
            "s",
            (
                Query(f"histogram_quantile(0.5, {rate_of('peruserd_request_latency_seconds_bucket', 'le')})", "50 %"),
                Query(f"histogram_quantile(0.99, {rate_of('peruserd_request_latency_seconds_bucket', 'le')})", "99 %"),
            ),
        ),
        Panel(
            "Requests that failed",
            "Part of the requests that got a 5xx or no answer.",
            "percentunit",
            (Query(f"job:peruserd_requests_failed:ratio_rate5m{JOB}", "failed"),),
        ),
        Panel(
            "Age of leases and readings",
            "Time since each lease was written, and since each instance has read the cluster.",
            "s",
            (
                Query(f"peruserd_lease_age_seconds{{{OF}}}", "{{instance}} lease"),
                Query(f"peruserd_reading_age_seconds{{{OF}}}", "{{instance}} reading"),
            ),
        ),
        Panel(
            "Copies of the leases",
            "Copies of the database of the leases that answer, and how many there should be.",
            "none",
            (
                Query(f"peruserd_lease_copies_live{{{OF}}}", "{{instance}} live"),
                Query(f"max(peruserd_lease_copies_expected{{{OF}}})", "expected"),
            ),
        ),
        Panel(
            "Logins and refusals",
            "Logins that succeeded, and refusals of the password, within the interval.",
            "none",
            (
                Query(f"sum(increase(peruserd_logins_total{{{OF}}}{RATE}))", "logins"),
                Query(f"sum(increase(peruserd_password_refusals_total{{{OF}}}{RATE}))", "refusals"),
            ),
        ),
    ),
)

AUDIT: Final = Row(
    "The audit and deletions",
    (
        Panel(
            "Findings of the last round",
            "Users by what the last whole round of the audit has found.",
            "none",
            (
                Query(
                    f'sum by (kind) (peruserd_audit_findings{{{OF},round="last"}}) > 0',
                    "{{kind}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Age of the last round",
            "Time since the oldest of the last rounds ended.",
            "s",
            (Query(f"peruserd_audit_age_seconds{{{OF}}}", "{{instance}}"),),
        ),
        Panel(
            "Deletions",
            "Databases of deleted users that wait to be dropped, and those kept shut because their user came back.",
            "none",
            (
                Query(total("peruserd_deletions_waiting", "job"), "waiting"),
                Query(total("peruserd_deletions_held_returns", "job"), "kept shut"),
            ),
        ),
    ),
)

PROCESSES: Final = Row(
    "Processes",
    (
        Panel(
            "Processor time",
            "Cores in use by the listeners and the supervisor of each instance.",
            "none",
            (
                Query(rate_of("peruserd_listener_cpu_seconds_total"), "{{instance}} listeners"),
                Query(rate_of("process_cpu_seconds_total"), "{{instance}} supervisor"),
            ),
        ),
        Panel(
            "Memory",
            "Resident memory of the listeners, shared parts counted for each, and of the supervisor.",
            "bytes",
            (
                Query(total("peruserd_listener_resident_memory_bytes"), "{{instance}} listeners"),
                Query(total("process_resident_memory_bytes"), "{{instance}} supervisor"),
            ),
        ),
        Panel(
            "Restarts of listeners",
            "Restarts after an unplanned end, within the interval.",
            "none",
            (Query(f"sum by (instance) (increase(peruserd_listener_restarts_total{{{OF}}}{RATE}))", "{{instance}}"),),
        ),
        Panel(
            "File descriptors",
            "The largest number of open descriptors of a listener, and those of the supervisor.",
            "none",
            (
                Query(f"max by (instance) (peruserd_listener_open_fds{{{OF}}})", "{{instance}} listener"),
                Query(f"max by (instance) (process_open_fds{{{OF}}})", "{{instance}} supervisor"),
            ),
        ),
        Panel(
            "Room for the state",
            "Free space of the file system with the state directory.",
            "bytes",
            (Query(f"peruserd_state_free_bytes{{{OF}}}", "{{instance}}"),),
        ),
        Panel(
            "Time since the start",
            "Time since each instance started.",
            "s",
            (Query(f"time() - peruserd_start_time_seconds{{{OF}}}", "{{instance}}"),),
        ),
    ),
)
