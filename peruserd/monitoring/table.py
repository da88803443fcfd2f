"""The table of all metrics of an instance. The collectors and `docs/metrics.md` are made from it.

`make docs` writes the document. A metric that is missing here cannot be exported.
"""

from typing import Final

from peruserd.core.audit.findings import Finding
from peruserd.core.feed.lanes import Lane
from peruserd.core.processes.counters import STATUSES
from peruserd.core.processes.lifecycle import Reason, State
from peruserd.core.scheduling import state_hold
from peruserd.core.users.quarantine import KINDS, OF_THE_CLUSTER, UNSERVABLE_NAME
from peruserd.monitoring.families import Family, Label, counter, gauge, histogram, info, listed

LISTENER: Final = Label("listener", bounded_by="the copies that this instance follows, as `{range}@{node}`")
KIND: Final = Label("kind", listed(sorted({*KINDS, UNSERVABLE_NAME})))
KEPT: Final = Label("kind", listed(sorted(KINDS)))
HELD: Final = Label("reason", listed(sorted({*OF_THE_CLUSTER, state_hold.KIND})))
RANGE: Final = Label("range", bounded_by="the ranges that this instance follows")
OWNER: Final = Label("owner", bounded_by="the nodes beside which an instance can own a part of the range")
_WITHOUT_ANSWER: Final = ("timeout", "too_large", "unexpected_answer", "unreachable")
OUTCOME: Final = Label(
    "outcome",
    listed((*map(str, STATUSES), *(f"{digit}xx" for digit in range(1, 6)), *_WITHOUT_ANSWER)),
)
STATE: Final = Label("state", tuple(State))
ENDING: Final = Label("reason", tuple(Reason))
LANE: Final = Label("reason", listed(lane.name.lower() for lane in Lane))
ACTION: Final = Label("action", listed(("create", "grant", "revoke", "write")))
FINDING: Final = Label("kind", tuple(Finding))
ROUND: Final = Label("round", ("last", "running"))
THREAD: Final = Label("thread", bounded_by="the lasting threads of the supervisor")
PART: Final = Label("part", bounded_by="the parts of these metrics")
VERSION: Final = Label("version", bounded_by="the one version that runs")

BEFORE_REPORT: Final = "before the first report of the listener"
BEFORE_VIEW: Final = "before the instance knows the cluster"
BEFORE_ROUND: Final = "before every listener has ended a round"
WITHOUT_LEASES: Final = "before the database of the leases was looked at, and where there are no leases"
WITHOUT_DROPS: Final = "where nothing is ever dropped"
OPAQUE: Final = "where sequences are opaque texts"

USERS: Final = (
    counter("peruserd_users_provisioned", "Users served to the end: their database is there and secured."),
    counter("peruserd_users_revoked", "Users whose access was taken away after their document was deleted."),
    histogram(
        "peruserd_provisioning_latency_seconds",
        "Time from reading a live change to the end of the work on the user; users who change too often are left out.",
    ),
    counter("peruserd_databases_created", "Databases created: answers 201 and 202 only, never 412."),
    counter("peruserd_databases_dropped", "Databases deleted after their user document was."),
    counter("peruserd_security_writes", "Security objects written, with a majority's consent."),
    counter("peruserd_access_changes", "Databases made and security objects written, by what was done.", ACTION),
    counter("peruserd_looks", "Looks at users, by the reason for them.", LANE),
    counter("peruserd_reviews", "Looks at earlier work on documents that have another owner by now."),
)

TROUBLE: Final = (
    counter("peruserd_failures", "Looks at users and reads of feeds that failed, by kind.", KIND),
    gauge("peruserd_quarantined_users", "Users in quarantine.", LISTENER, missing=BEFORE_REPORT),
    gauge(
        "peruserd_quarantined_users_permanent",
        "Users in quarantine who need a person; most of them are still tried, at least once an hour.",
        LISTENER,
        missing=BEFORE_REPORT,
    ),
    gauge("peruserd_quarantined_users_by_kind", "Users in quarantine, by the kind of their failure.", KEPT),
    gauge(
        "peruserd_quarantine_oldest_seconds",
        "Time since the first failure of the user who has been in quarantine longest; 0 while nobody is.",
    ),
    counter("peruserd_retries", "Tries of users in quarantine."),
    gauge(
        "peruserd_listener_on_hold",
        "1 while no user is tried, because the cluster serves nobody or the state cannot be written.",
        LISTENER,
        missing=BEFORE_REPORT,
    ),
    gauge(
        "peruserd_listeners_on_hold", "Listeners on hold, by the kind of the failure that the hold began with.", HELD
    ),
    counter("peruserd_holds", "Times that a listener was on hold, because the cluster served nobody."),
    counter("peruserd_requests", "Requests to CouchDB, by the status of the answer or the kind of error.", OUTCOME),
    histogram("peruserd_request_latency_seconds", "Time from a request to the end of its answer, without long polls."),
)

LISTENERS: Final = (
    gauge("peruserd_listener_state", "1 for the state that the process of a listener is in.", LISTENER, STATE),
    gauge(
        "peruserd_listener_caught_up",
        "1 once the first backlog is finished and no user waits for a scan; users in quarantine do not change it.",
        LISTENER,
    ),
    gauge(
        "peruserd_listener_scanning",
        "1 while a scan goes on; the listener has caught up before the scan's last part.",
        LISTENER,
        missing=BEFORE_REPORT,
    ),
    counter("peruserd_scans", "Scans of a range that reached their end."),
    gauge(
        "peruserd_listener_lag_seconds",
        "Time for which the oldest live change waits that is neither finished nor in quarantine; users who change too "
        "often are left out.",
        LISTENER,
        missing=BEFORE_REPORT,
    ),
    gauge(
        "peruserd_listener_feed_age_seconds",
        "Time since the live feed was last read; it reaches `couchdb.long_poll_timeout` where nothing changes.",
        LISTENER,
        missing="before the feed was read once",
    ),
    gauge("peruserd_listener_waiting", "Documents that wait for work.", LISTENER, missing=BEFORE_REPORT),
    gauge("peruserd_listener_in_flight", "Documents under work.", LISTENER, missing=BEFORE_REPORT),
    counter("peruserd_changes_seen", "Rows read from the feeds, of documents owned or not."),
    counter("peruserd_changes_owned", "Changes of user documents that this instance owns."),
    counter("peruserd_feed_requests", "Pages of changes read."),
    gauge(
        "peruserd_checkpoint_sequence",
        "Sequence up to which all is done.",
        LISTENER,
        missing=OPAQUE,
    ),
    gauge(
        "peruserd_shard_sequence",
        "Last sequence seen of the copy.",
        LISTENER,
        missing=OPAQUE,
    ),
    gauge(
        "peruserd_listener_failures_in_a_row",
        "Unplanned ends since the listener was last caught up for half a minute.",
        LISTENER,
    ),
    counter("peruserd_listener_restarts", "Restarts of a listener after an unplanned end.", LISTENER),
    counter("peruserd_listener_ends", "Processes of listeners that ended, by reason.", ENDING),
    counter(
        "peruserd_listener_cpu_seconds",
        "Processor time of the listener's processes, with those that have ended.",
        LISTENER,
    ),
    gauge("peruserd_listener_resident_memory_bytes", "Memory of the process, shared parts included.", LISTENER),
    gauge("peruserd_listener_open_fds", "Open file descriptors of the process.", LISTENER),
    gauge(
        "peruserd_listener_max_fds", "Limit of file descriptors of the process.", LISTENER, missing="without a limit"
    ),
    gauge("peruserd_listener_threads", "Threads of the process.", LISTENER),
)

AUDIT: Final = (
    gauge(
        "peruserd_audit_findings",
        "Users by finding, in the last whole round and in the one that goes on.",
        FINDING,
        ROUND,
        missing="of the last round before every listener has ended one",
    ),
    gauge(
        "peruserd_audit_users",
        "Users looked at; in the last round, only those whom this instance owned.",
        ROUND,
        missing="of the last round before every listener has ended one",
    ),
    gauge("peruserd_audit_round_seconds", "Duration of the longest of the last rounds.", missing=BEFORE_ROUND),
    gauge("peruserd_audit_age_seconds", "Time since the oldest of the last rounds ended.", missing=BEFORE_ROUND),
    gauge("peruserd_audit_interval_seconds", "Time that a round is spread over (`audit.interval`)."),
    gauge("peruserd_deletions_waiting", "Databases of deleted users that wait to be dropped."),
    gauge("peruserd_deletions_overdue_seconds", "Time for which the oldest drop is overdue."),
    gauge(
        "peruserd_deletions_held_returns", 'Databases kept shut because their user came back (`on_return = "hold"`).'
    ),
    gauge("peruserd_deletions_beyond_bound", "Deletions that only the journal knows, because too many wait."),
    gauge(
        "peruserd_deletions_paused",
        "1 while no database is dropped in the cluster, or while that cannot be read.",
        missing=WITHOUT_DROPS,
    ),
    gauge(
        "peruserd_deletion_breaker_open",
        "1 while all drops wait because there were too many.",
        missing="where nothing is ever dropped, and while that cannot be read",
    ),
)

CLUSTER: Final = (
    gauge(
        "peruserd_range_owned_ratio",
        "Part of the range's documents that this instance owns; the parts of all instances add up to 1.",
        RANGE,
    ),
    gauge(
        "peruserd_range_owner_ratio",
        "Part of the range's documents that an instance owns, as this one believes.",
        RANGE,
        OWNER,
    ),
    gauge("peruserd_nodes_connected", "CouchDB nodes connected to this one.", missing=BEFORE_VIEW),
    gauge(
        "peruserd_nodes_away",
        "CouchDB nodes that belong to the cluster and are not connected to this one.",
        missing=BEFORE_VIEW,
    ),
    gauge("peruserd_instances_alive", "Live instances, as this one believes.", missing=BEFORE_VIEW),
    gauge(
        "peruserd_drained",
        "1 while it leaves its users to other instances, because it was told to (`peruserd drain`).",
        missing=BEFORE_VIEW,
    ),
    gauge("peruserd_standby", "1 for an instance that stands by for another one of its node.", missing=BEFORE_VIEW),
    gauge("peruserd_unreadable_ranges", "Ranges that no connected node hosts."),
    gauge("peruserd_cut_off", "1 while the nodes connected to this one are no majority of the cluster."),
    gauge(
        "peruserd_reading_age_seconds",
        "Time since membership, shard map and leases were last read.",
        missing="before the first time",
    ),
    counter("peruserd_reading_failures", "Readings of the cluster that failed."),
    gauge(
        "peruserd_instances_differing",
        "Live instances with another configuration of what all instances must share.",
    ),
    gauge(
        "peruserd_node_maintenance",
        "1 while the node of this instance is in maintenance; users are served all the same.",
    ),
    counter("peruserd_plans", "Plans carried out."),
    gauge(
        "peruserd_lease_age_seconds",
        "Time since the lease of this instance was written.",
        missing="before the first time",
    ),
    gauge(
        "peruserd_lease_ttl_seconds",
        "Age of a lease from which others take the instance for dead (`cluster.lease_ttl`).",
    ),
    counter("peruserd_lease_failures", "Leases that could not be written."),
    gauge(
        "peruserd_leases_readable",
        "1 while it is known which instances live; otherwise nobody is declared dead.",
        missing=WITHOUT_LEASES,
    ),
    gauge("peruserd_lease_copies_live", "Copies of the database of the leases that answer.", missing=WITHOUT_LEASES),
    gauge(
        "peruserd_lease_copies_expected", "Copies that the database of the leases should have.", missing=WITHOUT_LEASES
    ),
    gauge(
        "peruserd_couch_peruser_enabled",
        "1 while CouchDB's own couch_peruser writes beside this instance.",
        missing="while the node does not say",
    ),
    gauge("peruserd_authenticated", "1 while requests carry what lets them in."),
    counter("peruserd_logins", "Logins that succeeded."),
    counter("peruserd_password_refusals", "Refusals of the password by the server."),
)

INSTANCE: Final = (
    gauge("peruserd_ready", "1 while `/readyz` says `ok`."),
    gauge("peruserd_healthy", "1 while `/healthz` says `ok`."),
    gauge(
        "peruserd_thread_failures_in_a_row",
        "Turns of a thread that have failed in a row; it is tried again after pauses.",
        THREAD,
    ),
    gauge(
        "peruserd_thread_overdue_seconds",
        "Time for which a sign of life of a thread is overdue; infinite for one that has ended.",
        THREAD,
    ),
    gauge("peruserd_start_time_seconds", "When this instance started, in seconds since 1970."),
    gauge("peruserd_config_last_reload_successful", "1 if the configuration was taken over when it was last read."),
    gauge(
        "peruserd_config_last_reload_success_timestamp_seconds",
        "When the configuration was last taken over, in seconds since 1970.",
    ),
    gauge(
        "peruserd_state_free_bytes",
        "Space that is left for the state directory.",
        missing="while the directory cannot be asked",
    ),
    gauge(
        "peruserd_state_read_only",
        "1 while the file system of the state directory is read-only.",
        missing="while the directory cannot be asked",
    ),
    gauge(
        "peruserd_state_size_bytes",
        "Size of the file system of the state directory.",
        missing="while the directory cannot be asked",
    ),
    counter(
        "peruserd_collector_failures",
        "Times that a part of these metrics was left out because collecting it failed; the log says why.",
        PART,
    ),
    info("peruserd_build", "The program that runs.", VERSION),
)

SECTIONS: Final = {
    "Users": USERS,
    "Trouble": TROUBLE,
    "Listeners": LISTENERS,
    "The audit and deletions": AUDIT,
    "The cluster": CLUSTER,
    "The instance": INSTANCE,
}
"""All families, by section of the documents."""

FAMILIES: Final[dict[str, Family]] = {family.name: family for families in SECTIONS.values() for family in families}
"""All families by name."""
