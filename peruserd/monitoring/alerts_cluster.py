"""Alerts about the cluster: CouchDB itself, leases, owners, and what somebody else does to databases."""

from typing import Final

from peruserd.monitoring.rules import Alert, Grows, Proof, Severity

_HERE: Final = 'instance="n1:9984",job="peruserd"'
_THERE: Final = 'instance="n2:9984",job="peruserd"'
_HERE_LABELS: Final = {"instance": "n1:9984", "job": "peruserd"}
_BY_JOB: Final = {"job": "peruserd"}
_RANGE: Final = 'range="00000000-ffffffff"'

CLUSTER: Final = (
    Alert(
        name="PeruserdCouchDBNotSeen",
        severity=Severity.CRITICAL,
        expr=(
            "(\n"
            "  peruserd_reading_age_seconds > 60\n"
            "  or\n"
            "  (peruserd_reading_failures_total > 0 unless peruserd_reading_age_seconds)\n"
            ")\n"
            "unless on (job, cluster, instance)\n"
            "(peruserd_authenticated == 0 and peruserd_password_refusals_total > 0)"
        ),
        holds="1m",
        summary="CouchDB cannot be read by {{ $labels.instance }}",
        description="Membership, shard map and leases cannot be read, so a change of the cluster is not seen.",
        proof=Proof({f"peruserd_reading_age_seconds{{{_HERE}}}": (2.0, 90.0)}, _HERE_LABELS),
    ),
    Alert(
        name="PeruserdPasswordRefused",
        severity=Severity.CRITICAL,
        expr="peruserd_authenticated == 0 and peruserd_password_refusals_total > 0",
        holds="1m",
        summary="CouchDB refuses the password of {{ $labels.instance }}",
        description="The instance can do nothing before the password is right.",
        proof=Proof(
            {
                f"peruserd_authenticated{{{_HERE}}}": (1.0, 0.0),
                f"peruserd_password_refusals_total{{{_HERE}}}": (0.0, 1.0),
            },
            _HERE_LABELS,
        ),
    ),
    Alert(
        name="PeruserdRequestsFail",
        severity=Severity.WARNING,
        expr="job:peruserd_requests_failed:ratio_rate5m > 0.05",
        holds="10m",
        summary="CouchDB fails many requests ({{ $labels.job }})",
        description="{{ $value | humanizePercentage }} of the requests got a 5xx or no answer.",
        proof=Proof(
            {
                f'peruserd_requests_total{{{_HERE},outcome="200"}}': (Grows(60.0), Grows(15.0)),
                f'peruserd_requests_total{{{_HERE},outcome="timeout"}}': (0.0, Grows(45.0)),
            },
            _BY_JOB,
            shown="75%",
            true_for="4m30s",
            well="10m",
        ),
    ),
    Alert(
        name="PeruserdNodeAway",
        severity=Severity.WARNING,
        expr="peruserd_nodes_away > 0",
        holds="2m",
        summary="Nodes of the cluster are not connected to {{ $labels.instance }}",
        description="Nodes that are away: {{ $value }}. The status page and `systemctl status peruserd` name them.",
        proof=Proof({f"peruserd_nodes_away{{{_HERE}}}": (0.0, 1.0)}, _HERE_LABELS, shown="1"),
    ),
    Alert(
        name="PeruserdCutOff",
        severity=Severity.CRITICAL,
        expr="peruserd_cut_off == 1",
        holds="2m",
        summary="The node of {{ $labels.instance }} is cut off from the majority",
        description="Writes of this time can be lost when the other nodes return. A scan follows then.",
        proof=Proof({f"peruserd_cut_off{{{_HERE}}}": (0.0, 1.0)}, _HERE_LABELS),
    ),
    Alert(
        name="PeruserdRangeUnreadable",
        severity=Severity.CRITICAL,
        expr="peruserd_unreadable_ranges > 0",
        holds="2m",
        summary="Users of a range cannot be served ({{ $labels.instance }})",
        description="Ranges of the authentication database without a connected host: {{ $value }}.",
        proof=Proof({f"peruserd_unreadable_ranges{{{_HERE}}}": (0.0, 1.0)}, _HERE_LABELS, shown="1"),
    ),
    Alert(
        name="PeruserdRangeNotOwnedOnce",
        severity=Severity.CRITICAL,
        expr="abs(sum by (job, cluster, range) (peruserd_range_owned_ratio) - 1) > 0.001",
        holds="5m",
        summary="Users of a range have no owner, or two ({{ $labels.job }})",
        description="The parts of the range {{ $labels.range }} that instances own add up to another number than 1.",
        proof=Proof(
            {
                f"peruserd_range_owned_ratio{{{_HERE},{_RANGE}}}": (0.5, 0.5),
                f"peruserd_range_owned_ratio{{{_THERE},{_RANGE}}}": (0.5, 1.0),
            },
            {**_BY_JOB, "range": "00000000-ffffffff"},
        ),
    ),
    Alert(
        name="PeruserdInstancesDisagree",
        severity=Severity.WARNING,
        expr=("max by (job, cluster) (peruserd_instances_alive) != min by (job, cluster) (peruserd_instances_alive)"),
        holds="5m",
        summary="Instances do not agree on who is alive ({{ $labels.job }})",
        description="Some instance does not see the lease or the node of another one.",
        proof=Proof(
            {
                f"peruserd_instances_alive{{{_HERE}}}": (2.0, 2.0),
                f"peruserd_instances_alive{{{_THERE}}}": (2.0, 1.0),
            },
            _BY_JOB,
        ),
    ),
    Alert(
        name="PeruserdLeasesUnreadable",
        severity=Severity.CRITICAL,
        expr="peruserd_leases_readable == 0",
        holds="2m",
        summary="Leases cannot be read by {{ $labels.instance }}",
        description="It is not known which instances live, so nobody takes over from a dead one.",
        proof=Proof({f"peruserd_leases_readable{{{_HERE}}}": (1.0, 0.0)}, _HERE_LABELS),
    ),
    Alert(
        name="PeruserdLeaseCopiesLost",
        severity=Severity.WARNING,
        expr="peruserd_lease_copies_live < peruserd_lease_copies_expected",
        holds="10m",
        summary="Copies of the leases do not answer ({{ $labels.instance }})",
        description="Copies of the database of the leases that answer: {{ $value }}. There should be more.",
        proof=Proof(
            {
                f"peruserd_lease_copies_live{{{_HERE}}}": (3.0, 2.0),
                f"peruserd_lease_copies_expected{{{_HERE}}}": (3.0, 3.0),
            },
            _HERE_LABELS,
            shown="2",
        ),
    ),
    Alert(
        name="PeruserdLeaseOld",
        severity=Severity.CRITICAL,
        expr="peruserd_lease_age_seconds > 0.75 * peruserd_lease_ttl_seconds",
        holds="0s",
        summary="The lease of {{ $labels.instance }} is not renewed",
        description="It was written {{ $value | humanizeDuration }} ago. Soon others take this instance for dead.",
        proof=Proof(
            {
                f"peruserd_lease_age_seconds{{{_HERE}}}": (5.0, 16.0),
                f"peruserd_lease_ttl_seconds{{{_HERE}}}": (20.0, 20.0),
            },
            _HERE_LABELS,
            shown="16s",
        ),
    ),
    Alert(
        name="PeruserdConfigurationDiffers",
        severity=Severity.WARNING,
        expr="peruserd_instances_differing > 0",
        holds="15m",
        summary="Instances have different configurations ({{ $labels.instance }})",
        description="Live instances with other databases, rights, templates or policies than this one: {{ $value }}.",
        proof=Proof({f"peruserd_instances_differing{{{_HERE}}}": (0.0, 1.0)}, _HERE_LABELS, shown="1"),
    ),
    Alert(
        name="PeruserdCouchPeruserOn",
        severity=Severity.CRITICAL,
        expr="peruserd_couch_peruser_enabled == 1",
        holds="1m",
        summary="couch_peruser is on beside {{ $labels.instance }}",
        description="Two programs write to the same databases, and each can undo the work of the other.",
        proof=Proof({f"peruserd_couch_peruser_enabled{{{_HERE}}}": (0.0, 1.0)}, _HERE_LABELS),
    ),
)
