"""Alerts about an instance itself, its machine, the audit and deletions."""

from typing import Final

from peruserd.monitoring.rules import Alert, Grows, Proof, Severity

_HERE: Final = 'instance="n1:9984",job="peruserd"'
_COPY: Final = f'{_HERE},listener="00000000-ffffffff@n1"'
_HERE_LABELS: Final = {"instance": "n1:9984", "job": "peruserd"}
_BY_JOB: Final = {"job": "peruserd"}
_MEBIBYTE: Final = 1 << 20

INSTANCE: Final = (
    Alert(
        name="PeruserdDown",
        severity=Severity.CRITICAL,
        expr='up{job="$job"} == 0',
        holds="2m",
        summary="{{ $labels.instance }} does not answer",
        description="Its metrics cannot be read. The other instances take its users over if it is gone.",
        proof=Proof({f"up{{{_HERE}}}": (1.0, 0.0)}, _HERE_LABELS),
    ),
    Alert(
        name="PeruserdAbsent",
        severity=Severity.CRITICAL,
        expr='absent(up{job="$job"})',
        holds="5m",
        summary="Prometheus knows no instance of peruserd",
        description="No target has the job $job, so PeruserdDown cannot fire.",
        proof=Proof({f"up{{{_HERE}}}": (1.0, None)}, _BY_JOB),
    ),
    Alert(
        name="PeruserdMetricsMissing",
        severity=Severity.WARNING,
        expr=(
            'up{job="$job"} == 1 unless on (job, instance) peruserd_build_info\n'
            "or\n"
            "sum by (job, cluster, instance) (increase(peruserd_collector_failures_total[{10m}])) > 0"
        ),
        holds="2m",
        summary="Metrics of {{ $labels.instance }} are missing",
        description="The target is no peruserd, or a part of its metrics cannot be collected.",
        proof=Proof(
            {
                f"up{{{_HERE}}}": (1.0, 1.0),
                f'peruserd_build_info{{{_HERE},version="0.1.0"}}': (1.0, None),
            },
            _HERE_LABELS,
        ),
    ),
    Alert(
        name="PeruserdUnhealthy",
        severity=Severity.CRITICAL,
        expr="peruserd_healthy == 0",
        holds="1m",
        summary="{{ $labels.instance }} needs a restart",
        description="A part of the instance stands still or is gone, or most listeners fail, as `/healthz` says.",
        proof=Proof({f"peruserd_healthy{{{_HERE}}}": (1.0, 0.0)}, _HERE_LABELS),
    ),
    Alert(
        name="PeruserdNotReady",
        severity=Severity.CRITICAL,
        expr="peruserd_ready == 0 unless peruserd_standby == 1 unless peruserd_drained == 1",
        holds="10m",
        summary="{{ $labels.instance }} is not ready",
        description="It does not serve all its users, and `/readyz` says why.",
        proof=Proof(
            {f"peruserd_ready{{{_HERE}}}": (1.0, 0.0), f"peruserd_standby{{{_HERE}}}": (0.0, 0.0)}, _HERE_LABELS
        ),
    ),
    Alert(
        name="PeruserdRestarts",
        severity=Severity.WARNING,
        expr="changes(peruserd_start_time_seconds[{15m}]) > 2",
        holds="0s",
        summary="{{ $labels.instance }} starts again and again",
        description="It has started several times within 15 minutes.",
        proof=Proof(
            {f"peruserd_start_time_seconds{{{_HERE}}}": (1_000.0, Grows(30.0))},
            _HERE_LABELS,
            true_after="1m",
            true_for="14m",
        ),
    ),
    Alert(
        name="PeruserdReloadRefused",
        severity=Severity.WARNING,
        expr="peruserd_config_last_reload_successful == 0",
        holds="1m",
        summary="{{ $labels.instance }} has refused its configuration",
        description="It could not be taken over, mostly for a mistake in it. The configuration before stays in force.",
        proof=Proof({f"peruserd_config_last_reload_successful{{{_HERE}}}": (1.0, 0.0)}, _HERE_LABELS),
    ),
    Alert(
        name="PeruserdThreadFails",
        severity=Severity.WARNING,
        expr="peruserd_thread_failures_in_a_row > 0",
        holds="2m",
        summary="A part of {{ $labels.instance }} does not work",
        description="The thread {{ $labels.thread }} fails in each turn. After five minutes the instance ends.",
        proof=Proof(
            {f'peruserd_thread_failures_in_a_row{{{_HERE},thread="cluster-watch"}}': (0.0, 3.0)},
            {**_HERE_LABELS, "thread": "cluster-watch"},
        ),
    ),
    Alert(
        name="PeruserdStateNotWritable",
        severity=Severity.CRITICAL,
        expr=(
            'peruserd_listeners_on_hold{reason="state"} > 0\n'
            "or\n"
            "peruserd_state_free_bytes < 64 * 1024 * 1024\n"
            "or\n"
            "peruserd_state_read_only == 1"
        ),
        holds="1m",
        summary="The state of {{ $labels.instance }} cannot be written",
        description="Its disk is full, read-only or broken, or does not answer. Nobody is served meanwhile.",
        proof=Proof({f"peruserd_state_free_bytes{{{_HERE}}}": (1_024.0 * _MEBIBYTE, 32.0 * _MEBIBYTE)}, _HERE_LABELS),
    ),
    Alert(
        name="PeruserdDescriptorsUsedUp",
        severity=Severity.WARNING,
        expr=(
            'process_open_fds{job="$job"} > 0.8 * process_max_fds{job="$job"}\n'
            "or\n"
            "peruserd_listener_open_fds > 0.8 * peruserd_listener_max_fds"
        ),
        holds="5m",
        summary="{{ $labels.instance }} has nearly all its file descriptors open",
        description="Open file descriptors of one process: {{ $value }}. That is more than 80 % of its limit.",
        proof=Proof(
            {
                f"peruserd_listener_open_fds{{{_COPY}}}": (100.0, 900.0),
                f"peruserd_listener_max_fds{{{_COPY}}}": (1_024.0, 1_024.0),
            },
            {**_HERE_LABELS, "listener": "00000000-ffffffff@n1"},
            shown="900",
        ),
    ),
    Alert(
        name="PeruserdAuditOld",
        severity=Severity.WARNING,
        expr=(
            "peruserd_audit_age_seconds > 2 * peruserd_audit_interval_seconds\n"
            "or\n"
            "(time() - peruserd_start_time_seconds > 3 * peruserd_audit_interval_seconds\n"
            "  unless peruserd_audit_age_seconds unless peruserd_standby == 1 unless peruserd_drained == 1)"
        ),
        holds="1h",
        summary="The audit of {{ $labels.instance }} is too slow",
        description="Its last whole round is older than twice `audit.interval`, or it has never ended one.",
        proof=Proof(
            {
                f"peruserd_audit_age_seconds{{{_HERE}}}": (90_000.0, 180_000.0),
                f"peruserd_audit_interval_seconds{{{_HERE}}}": (86_400.0, 86_400.0),
            },
            _HERE_LABELS,
        ),
    ),
    Alert(
        name="PeruserdAuditFindings",
        severity=Severity.WARNING,
        expr=(
            "sum by (job, cluster, kind) "
            '(peruserd_audit_findings{round="last",kind=~"held|unreadable|unpadded|no_user|copy_behind"}) > 0'
        ),
        holds="15m",
        summary="The audit has found what only a person can decide ({{ $labels.job }})",
        description="Users with the finding {{ $labels.kind }} in the last whole round: {{ $value }}.",
        proof=Proof(
            {f'peruserd_audit_findings{{{_HERE},kind="no_user",round="last"}}': (0.0, 2.0)},
            {**_BY_JOB, "kind": "no_user"},
            shown="2",
        ),
    ),
    Alert(
        name="PeruserdAuditFindingsStay",
        severity=Severity.WARNING,
        expr=(
            "sum by (job, cluster, kind) "
            '(peruserd_audit_findings{round="last",kind=~"missing|not_named|public|copies_differ|still_named"}) > 0\n'
            "and\n"
            'sum by (job, cluster, kind) (peruserd_audit_findings{round="running"}) > 0'
        ),
        holds="15m",
        summary="Findings of the audit are not repaired, or come again ({{ $labels.job }})",
        description="Users with the finding {{ $labels.kind }} in the last round: {{ $value }}. Some have it again.",
        proof=Proof(
            {
                f'peruserd_audit_findings{{{_HERE},kind="public",round="last"}}': (1.0, 1.0),
                f'peruserd_audit_findings{{{_HERE},kind="public",round="running"}}': (0.0, 1.0),
            },
            {**_BY_JOB, "kind": "public"},
            shown="1",
        ),
    ),
    Alert(
        name="PeruserdDeletionsStopped",
        severity=Severity.CRITICAL,
        expr="peruserd_deletion_breaker_open == 1",
        holds="1m",
        summary="Too many databases were to be dropped at once ({{ $labels.instance }})",
        description="All drops of the cluster wait until somebody has looked at them.",
        proof=Proof({f"peruserd_deletion_breaker_open{{{_HERE}}}": (0.0, 1.0)}, _HERE_LABELS),
    ),
    Alert(
        name="PeruserdDeletionsOverdue",
        severity=Severity.WARNING,
        expr="peruserd_deletions_overdue_seconds > 86400 unless peruserd_deletions_paused == 1",
        holds="15m",
        summary="Databases of deleted users are not dropped ({{ $labels.instance }})",
        description="The oldest drop is overdue for {{ $value | humanizeDuration }}.",
        proof=Proof(
            {
                f"peruserd_deletions_overdue_seconds{{{_HERE}}}": (0.0, 172_800.0),
                f"peruserd_deletions_paused{{{_HERE}}}": (0.0, 0.0),
            },
            _HERE_LABELS,
            shown="2d 0h 0m 0s",
        ),
    ),
    Alert(
        name="PeruserdReturnsHeld",
        severity=Severity.WARNING,
        expr="peruserd_deletions_held_returns > 0",
        holds="15m",
        summary="Users who came back wait for a decision ({{ $labels.instance }})",
        description="Databases that are kept shut, because their names were freed before: {{ $value }}.",
        proof=Proof({f"peruserd_deletions_held_returns{{{_HERE}}}": (0.0, 1.0)}, _HERE_LABELS, shown="1"),
    ),
)
