"""Alerts about users: who waits, who is in quarantine, and listeners that do not serve them."""

from typing import Final

from peruserd.monitoring.rules import Alert, Course, Grows, Proof, Severity

_HERE: Final = 'instance="n1:9984",job="peruserd"'
_COPY: Final = f'{_HERE},listener="00000000-ffffffff@n1"'
_HERE_LABELS: Final = {"instance": "n1:9984", "job": "peruserd"}
_COPY_LABELS: Final = {**_HERE_LABELS, "listener": "00000000-ffffffff@n1"}
_BY_JOB: Final = {"job": "peruserd"}

_BUCKET: Final = "peruserd_provisioning_latency_seconds_bucket"
_COUNT: Final = "peruserd_provisioning_latency_seconds_count"


def _slow(fast: float, all_of_them: float) -> dict[str, tuple[Course, Course]]:
    """Return the series of sign-ups, of which in trouble only `fast` of `all_of_them` are served in time."""
    return {
        f'{_BUCKET}{{{_HERE},le="10.0"}}': (Grows(all_of_them), Grows(fast)),
        f"{_COUNT}{{{_HERE}}}": (Grows(all_of_them), Grows(all_of_them)),
    }


USERS: Final = (
    Alert(
        name="PeruserdUsersWaitTooLong",
        severity=Severity.CRITICAL,
        expr="peruserd_listener_lag_seconds > 120",
        holds="1m",
        summary="Users wait too long at {{ $labels.instance }}",
        description="The oldest change of {{ $labels.listener }} has waited for {{ $value | humanizeDuration }}.",
        proof=Proof(
            {f"peruserd_listener_lag_seconds{{{_COPY}}}": (0.0, 300.0)},
            _COPY_LABELS,
            shown="5m 0s",
        ),
    ),
    Alert(
        name="PeruserdFeedNotRead",
        severity=Severity.CRITICAL,
        expr="peruserd_listener_feed_age_seconds > 180",
        holds="1m",
        summary="New users are not seen at {{ $labels.instance }}",
        description="The feed of {{ $labels.listener }} was last read {{ $value | humanizeDuration }} ago.",
        proof=Proof(
            {f"peruserd_listener_feed_age_seconds{{{_COPY}}}": (25.0, 240.0)},
            _COPY_LABELS,
            shown="4m 0s",
        ),
    ),
    Alert(
        name="PeruserdSignUpsSlow",
        severity=Severity.CRITICAL,
        expr=(
            "job:peruserd_provisioning_slow:ratio_rate5m > 14.4 * 0.01\n"
            "and\n"
            "job:peruserd_provisioning_slow:ratio_rate1h > 14.4 * 0.01"
        ),
        holds="2m",
        summary="Many users are served slowly ({{ $labels.job }})",
        description=(
            "{{ $value | humanizePercentage }} of the users were served later than 10 s after their change was read. "
            "At this pace the objective of 99 % in a month is missed within two days."
        ),
        proof=Proof(_slow(0.0, 30.0), _BY_JOB, shown="100%", true_after="8m30s", true_for="4m30s", well="1h"),
    ),
    Alert(
        name="PeruserdSignUpsSlowly",
        severity=Severity.WARNING,
        expr=(
            "job:peruserd_provisioning_slow:ratio_rate30m > 6 * 0.01\n"
            "and\n"
            "job:peruserd_provisioning_slow:ratio_rate6h > 6 * 0.01"
        ),
        holds="15m",
        summary="Some users are served slowly ({{ $labels.job }})",
        description=(
            "{{ $value | humanizePercentage }} of the users were served later than 10 s after their change was read. "
            "At this pace the objective of 99 % in a month is missed within five days."
        ),
        proof=Proof(_slow(15.0, 30.0), _BY_JOB, shown="50%", true_after="43m", true_for="26m30s", well="6h"),
    ),
    Alert(
        name="PeruserdUsersInQuarantine",
        severity=Severity.WARNING,
        expr="sum by (job, cluster, instance) (peruserd_quarantined_users) > 0",
        holds="30m",
        summary="Users are in quarantine at {{ $labels.instance }}",
        description="Users who could not be served: {{ $value }}. They are tried again with growing pauses.",
        proof=Proof({f"peruserd_quarantined_users{{{_COPY}}}": (0.0, 3.0)}, _HERE_LABELS, shown="3"),
    ),
    Alert(
        name="PeruserdUsersNeedAPerson",
        severity=Severity.WARNING,
        expr="sum by (job, cluster, instance) (peruserd_quarantined_users_permanent) > 0",
        holds="5m",
        summary="Users in quarantine need a person at {{ $labels.instance }}",
        description="Users who are not served before somebody changes something: {{ $value }}.",
        proof=Proof({f"peruserd_quarantined_users_permanent{{{_COPY}}}": (0.0, 1.0)}, _HERE_LABELS, shown="1"),
    ),
    Alert(
        name="PeruserdQuarantineGrows",
        severity=Severity.CRITICAL,
        expr=("job:peruserd_quarantined_users:sum - (job:peruserd_quarantined_users:sum offset {30m}) > 20"),
        holds="5m",
        summary="More and more users are in quarantine ({{ $labels.job }})",
        description="Users who were not in quarantine half an hour ago: {{ $value }}.",
        proof=Proof(
            {f"peruserd_quarantined_users{{{_COPY}}}": (0.0, 50.0)},
            _BY_JOB,
            shown="50",
            well="35m",
        ),
    ),
    Alert(
        name="PeruserdOnHold",
        severity=Severity.CRITICAL,
        expr="peruserd_listener_on_hold == 1",
        holds="1m",
        summary="Nobody can be served at {{ $labels.instance }}",
        description=(
            "The listener {{ $labels.listener }} tries no user. CouchDB fails for everybody, or the state cannot be "
            "written."
        ),
        proof=Proof({f"peruserd_listener_on_hold{{{_COPY}}}": (0.0, 1.0)}, _COPY_LABELS),
    ),
    Alert(
        name="PeruserdListenerRestarts",
        severity=Severity.WARNING,
        expr="increase(peruserd_listener_restarts_total[{15m}]) > 2",
        holds="0s",
        summary="A listener ends again and again at {{ $labels.instance }}",
        description="The listener {{ $labels.listener }} was started again several times within 15 minutes.",
        proof=Proof(
            {f"peruserd_listener_restarts_total{{{_COPY}}}": (0.0, Grows(1.0))},
            _COPY_LABELS,
            true_after="1m",
            true_for="14m",
        ),
    ),
    Alert(
        name="PeruserdListenerFails",
        severity=Severity.CRITICAL,
        expr="peruserd_listener_failures_in_a_row > 2",
        holds="1m",
        summary="A listener does not stay up at {{ $labels.instance }}",
        description="The listener {{ $labels.listener }} has ended {{ $value }} times in a row, and serves nobody.",
        proof=Proof({f"peruserd_listener_failures_in_a_row{{{_COPY}}}": (0.0, 4.0)}, _COPY_LABELS, shown="4"),
    ),
)
