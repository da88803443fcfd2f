"""The metrics: complete, well-formed, and without a user's name or a process id in any label."""

import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from peruserd.core.cluster.leases import Lease
from peruserd.core.cluster.views import Copy, View
from peruserd.core.configuration.config import Config
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.ownership.ranges import Range
from peruserd.core.processes.counters import Counters
from peruserd.core.processes.lifecycle import Reason, State
from peruserd.core.processes.liveness import Life
from peruserd.core.processes.messages import Report, Stage, Usage
from peruserd.couch.cluster_database import DatabaseState
from peruserd.couch.tally import Tally
from peruserd.couch.tokens import NOBODY, Tokens
from peruserd.daemon.cluster_metrics import ClusterMetrics
from peruserd.daemon.collecting import GuardedCollector
from peruserd.daemon.health import Health
from peruserd.daemon.metrics import InstanceMetrics, ListenerMetrics, Reloaded
from peruserd.daemon.samples import Samples
from peruserd.monitoring.table import FAMILIES
from peruserd.supervisor.fleet_status import FleetStatus
from peruserd.supervisor.listener import ListenerStatus
from peruserd.supervisor.state_writes import Room
from peruserd.threads import LastingThread, Register

COPY = Copy("_users", Range(0, 0x7FFFFFFF), "node1@127.0.0.1", ".1")


class StandingFleet:
    """A fleet with a given status."""

    def __init__(self, status: FleetStatus) -> None:
        self._status = status

    def status(self) -> FleetStatus:
        """Return the status."""
        return self._status


USAGE = Usage(cpu_seconds=1.25, resident_bytes=9_000_000, descriptors=17, threads=6, descriptor_limit=1_024)


def status(
    *,
    checkpoint: int | str = 5,
    pid: int | None = None,
    usage: Usage | None = USAGE,
    stage: Stage = Stage.FOLLOWING,
    on_hold: str | None = None,
    more: dict[str, Any] | None = None,
    ownership: Ownership | None = None,
) -> FleetStatus:
    """Make a status with one running listener and one of every counter."""
    counters = Counters(changes_seen=7, databases_created=3, failures={"timeout": 2}, access_changes={"grant": 4})
    counters.latency.observe(0.03)
    counters.latency.observe(400.0)
    report = Report(
        rounds=1,
        stage=stage,
        caught_up=True,
        checkpoint=checkpoint,
        shard_sequence=6,
        waiting=1,
        in_flight=2,
        quarantined=4,
        permanent=3,
        on_hold=on_hold,
        counters=counters,
        usage=usage,
        **(more or {}),
    )
    listener = ListenerStatus(
        COPY, State.RUNNING, None, restarts=1, pid=pid, report=report, caught_up=True, ownership=ownership
    )
    return FleetStatus((listener,), counters, {Reason.CRASHED: 1}, unreadable=())


class StandingSupervisor:
    """A supervisor with a given view."""

    def __init__(self, view: View | None) -> None:
        self.view = view
        self.has_seen_cluster = view is not None
        self.leases_readable = view is not None
        self.last_round = 0.0
        self.plans = 3


class StandingDatabase:
    """A database of leases with a given state."""

    def __init__(self, state: DatabaseState) -> None:
        self.state = state


class StandingPeruserWatch:
    """A second writer that is on, off, or not known."""

    def __init__(self, *, is_on: bool | None) -> None:
        self.is_on = is_on


class StandingAuthenticator:
    """An authenticator with a token."""

    tokens = Tokens(NOBODY)
    logins = 4
    refusals = 1


class StandingRenewer:
    """A lease renewer that renewed the lease a while ago, or never."""

    def __init__(self, silence: float | None, *, maintenance: bool) -> None:
        self._silence = silence
        self.failures = 2
        self.maintenance = maintenance

    def seconds_since_renewal(self) -> float | None:
        """Return the seconds since the renewal."""
        return self._silence


class StandingClusterWatch:
    """A cluster watch that read the cluster at some time, or never."""

    def __init__(self, succeeded_at: float | None) -> None:
        self.succeeded_at = succeeded_at
        self.failures_in_all = 5


class StandingMember:
    """A member beside the first node."""

    lease = Lease("n1", "i1", 1)
    differing = 1


LEASES = DatabaseState(usable=True, live=("n1", "n2"), hosts=("n1", "n2", "n3"), expected=3)
VIEW = View(nodes=("n1", "n2", "n3"), instances=("n1", "n2"), shard_map=None)

# The clocks at each scrape.
NOW, WALL = 1_000.0, 1_700_000_000.0


def exported(
    given: FleetStatus,
    view: View | None = VIEW,
    silence: float | None = 1.5,
    *,
    maintenance: bool = False,
    leases: DatabaseState = LEASES,
    peruser_is_on: bool | None = None,
    read_at: float | None = 990.0,
    room: Room | None = None,
    tally: Tally | None = None,
    reloaded: Reloaded | None = None,
) -> str:
    """Return the result of a scrape."""
    registry = CollectorRegistry()
    fleet, supervisor = StandingFleet(given), StandingSupervisor(view)
    database = StandingDatabase(leases)
    health = Health(fleet, supervisor, database, lambda: None)
    of_cluster = ClusterMetrics(
        fleet,
        supervisor,  # type: ignore[arg-type]
        StandingClusterWatch(read_at),  # type: ignore[arg-type]
        StandingMember(),  # type: ignore[arg-type]
        StandingRenewer(silence, maintenance=maintenance),  # type: ignore[arg-type]
        database,  # type: ignore[arg-type]
        StandingPeruserWatch(is_on=peruser_is_on),  # type: ignore[arg-type]
        StandingAuthenticator(),  # type: ignore[arg-type]
        clock=lambda: NOW,
    )
    of_listeners = ListenerMetrics(fleet, tally or Tally(), clock=lambda: NOW, wall_clock=lambda: WALL)
    register = Register(lambda: NOW)
    register.add(LastingThread("cluster-watch", print, register=register))
    of_instance = InstanceMetrics(
        health,
        Config,
        lambda: room,
        started_at=WALL - 60,
        reloaded=None if reloaded is None else lambda: reloaded,
        register=register,
    )
    parts = {**of_instance.parts(), **of_listeners.parts(), **of_cluster.parts()}
    registry.register(GuardedCollector(parts))
    text = generate_latest(registry).decode()
    for part in parts:
        assert value(text, "peruserd_collector_failures_total", part=part) == 0
    return text


def value(text: str, name: str, **labels: str) -> float:
    """Return one sample's value."""
    # To parse a whole scrape takes a hundred times as long.
    of_name = [line for line in text.splitlines() if line.partition("{")[0].partition(" ")[0] == name]
    for family in text_string_to_metric_families("\n".join(of_name)):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return float(sample.value)
    raise AssertionError(f"no {name} {labels}")


@pytest.mark.parametrize("stage", [Stage.FOLLOWING, Stage.SCANNING])
def test_a_scan_shows_although_the_listener_has_caught_up(stage: Stage) -> None:
    """In the last part of a scan no user waits, and on a large cluster it takes hours."""
    text = exported(status(stage=stage))
    assert value(text, "peruserd_listener_caught_up") == 1
    assert value(text, "peruserd_listener_scanning") == (stage is Stage.SCANNING)


def test_counters_and_gauges_are_exported() -> None:
    """A scrape shows the listeners' reports."""
    text = exported(status())
    listener = str(COPY)
    assert value(text, "peruserd_changes_seen_total") == 7
    assert value(text, "peruserd_databases_created_total") == 3
    assert value(text, "peruserd_failures_total", kind="timeout") == 2
    assert value(text, "peruserd_access_changes_total", action="grant") == 4
    assert value(text, "peruserd_listener_restarts_total", listener=listener) == 1
    assert value(text, "peruserd_listener_ends_total", reason="crashed") == 1
    assert value(text, "peruserd_quarantined_users", listener=listener) == 4
    assert value(text, "peruserd_quarantined_users_permanent", listener=listener) == 3
    assert value(text, "peruserd_listener_on_hold", listener=listener) == 0
    assert value(exported(status(on_hold="no majority")), "peruserd_listener_on_hold", listener=listener) == 1
    assert value(text, "peruserd_checkpoint_sequence", listener=listener) == 5
    assert value(text, "peruserd_shard_sequence", listener=listener) == 6
    assert value(text, "peruserd_listener_state", listener=listener, state="running") == 1
    assert value(text, "peruserd_listener_state", listener=listener, state="backoff") == 0
    assert value(text, "peruserd_ready") == 1


def test_too_few_copies_of_the_leases_can_be_seen() -> None:
    """The metrics are the expected copies, the answering ones, and whether leases can be read; none at first."""
    text = exported(status())
    assert value(text, "peruserd_lease_copies_live") == 2
    assert value(text, "peruserd_lease_copies_expected") == 3
    assert value(text, "peruserd_leases_readable") == 1
    assert "\nperuserd_lease_copies" not in exported(status(), leases=DatabaseState())


def test_every_counter_of_a_listener_is_exported() -> None:
    """A counter that is added later must be exported too."""
    text = exported(status())
    for field in msgspec.structs.fields(Counters):
        if field.type is int:
            assert value(text, f"peruserd_{field.name}_total") == getattr(status().counters, field.name)


def test_what_is_believed_of_the_cluster_is_exported() -> None:
    """The metrics show nodes, instances and leases as the instance sees them."""
    text = exported(status())
    assert value(text, "peruserd_nodes_connected") == 3
    assert value(text, "peruserd_instances_alive") == 2
    assert value(text, "peruserd_standby") == 0
    assert value(text, "peruserd_lease_age_seconds") == 1.5
    assert value(text, "peruserd_lease_failures_total") == 2
    assert value(text, "peruserd_node_maintenance") == 0
    assert value(text, "peruserd_plans_total") == 3
    assert value(text, "peruserd_reading_age_seconds") == 10
    assert value(text, "peruserd_reading_failures_total") == 5
    assert value(text, "peruserd_instances_differing") == 1
    assert value(text, "peruserd_cut_off") == 0
    assert value(exported(msgspec.structs.replace(status(), cut_off=True)), "peruserd_cut_off") == 1


def test_how_the_server_lets_the_instance_in_is_exported() -> None:
    """The metrics are whether it is let in, and how often the password was accepted and refused."""
    text = exported(status())
    assert value(text, "peruserd_authenticated") == 1
    assert value(text, "peruserd_logins_total") == 4
    assert value(text, "peruserd_password_refusals_total") == 1


def test_standing_by_and_maintenance_are_exported() -> None:
    """The metrics are 1 in these cases."""
    text = exported(status(), msgspec.structs.replace(VIEW, standby=True), maintenance=True)
    assert value(text, "peruserd_standby") == 1
    assert value(text, "peruserd_node_maintenance") == 1


def test_a_second_writer_is_exported_once_it_is_known() -> None:
    """The metric is 1 while couch_peruser is on, 0 while it is off, and missing while that is unknown."""
    for is_on in (True, False):
        assert value(exported(status(), peruser_is_on=is_on), "peruserd_couch_peruser_enabled") == is_on
    assert "\nperuserd_couch_peruser_enabled" not in exported(status(), peruser_is_on=None)


def test_what_is_not_known_yet_is_left_out() -> None:
    """Before the first view and the first lease there is no sample, because it would be wrong."""
    text = exported(status(), view=None, silence=None, read_at=None)
    for name in ("nodes_connected", "instances_alive", "standby", "lease_age_seconds", "reading_age_seconds"):
        assert f"\nperuserd_{name}" not in text
    assert value(text, "peruserd_lease_failures_total") == 2
    assert value(text, "peruserd_plans_total") == 3


def test_the_latency_histogram_is_cumulative_and_counts_what_is_beyond_its_bounds() -> None:
    """Of two observations one is below 50 ms."""
    text = exported(status())
    assert value(text, "peruserd_provisioning_latency_seconds_bucket", le="0.05") == 1
    assert value(text, "peruserd_provisioning_latency_seconds_bucket", le="60.0") == 1
    assert value(text, "peruserd_provisioning_latency_seconds_bucket", le="+Inf") == 2
    assert value(text, "peruserd_provisioning_latency_seconds_count") == 2
    assert value(text, "peruserd_provisioning_latency_seconds_sum") == pytest.approx(400.03)


def test_an_opaque_sequence_is_left_out() -> None:
    """A clustered feed's sequence is no number, so there is no sample."""
    assert "peruserd_checkpoint_sequence{" not in exported(status(checkpoint="13-g1AAAA"))


def test_what_a_listeners_process_takes_stands_under_its_range_and_without_its_pid() -> None:
    """The listener measures its own process, because no other process may. No label has the process id."""
    text = exported(status(pid=os.getpid()))
    assert value(text, "peruserd_listener_cpu_seconds_total", listener=str(COPY)) == 1.25
    (listener,) = status(pid=os.getpid()).listeners
    restarted = msgspec.structs.replace(listener, retired_cpu_seconds=10.0)
    again = exported(msgspec.structs.replace(status(), listeners=(restarted,)))
    assert value(again, "peruserd_listener_cpu_seconds_total", listener=str(COPY)) == 11.25
    assert value(text, "peruserd_listener_resident_memory_bytes", listener=str(COPY)) == 9_000_000
    assert value(text, "peruserd_listener_open_fds", listener=str(COPY)) == 17
    assert value(text, "peruserd_listener_max_fds", listener=str(COPY)) == 1_024
    assert value(text, "peruserd_listener_threads", listener=str(COPY)) == 6
    labels = [sample.labels for family in text_string_to_metric_families(text) for sample in family.samples]
    assert not any(str(os.getpid()) in each.values() for each in labels)


@pytest.mark.parametrize("given", [status(pid=None), status(pid=7, usage=None)], ids=["gone", "cannot-measure"])
def test_a_process_of_which_nothing_is_known_is_left_out(given: FleetStatus) -> None:
    """If the process has ended, or could not measure itself, there is no sample, because it would be old or wrong."""
    assert "peruserd_listener_resident_memory_bytes{" not in exported(given)


def test_promtool_finds_nothing_to_mend(need_tool: Callable[[str], str]) -> None:
    """Names, types and help texts follow Prometheus' conventions."""
    promtool = need_tool("promtool")
    checked = subprocess.run(
        [promtool, "check", "metrics"],
        input=exported(status(pid=os.getpid())),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_how_long_somebody_waits_is_told_by_the_clock_that_processes_share() -> None:
    """A listener that has stopped reporting shows by ages that grow."""
    text = exported(status(more={"oldest_waiting_since": NOW - 7.5, "read_at": NOW - 30}))
    assert value(text, "peruserd_listener_lag_seconds", listener=str(COPY)) == 7.5
    assert value(text, "peruserd_listener_feed_age_seconds", listener=str(COPY)) == 30
    assert value(exported(status()), "peruserd_listener_lag_seconds", listener=str(COPY)) == 0
    assert "\nperuserd_listener_feed_age_seconds{" not in exported(status())


def test_the_quarantine_shows_by_kind_and_by_its_oldest_user() -> None:
    """Kinds of a file that an older version has written count as other."""
    more = {"kinds": {"timeout": 3, "of_old": 1}, "oldest_kept_since": WALL - 3_600}
    text = exported(status(more=more))
    assert value(text, "peruserd_quarantined_users_by_kind", kind="timeout") == 3
    assert value(text, "peruserd_quarantined_users_by_kind", kind="other") == 1
    assert value(text, "peruserd_quarantined_users_by_kind", kind="held") == 0
    assert value(text, "peruserd_quarantine_oldest_seconds") == 3_600
    assert value(exported(status()), "peruserd_quarantine_oldest_seconds") == 0


def test_a_clock_that_was_set_back_makes_no_age_negative() -> None:
    """The first failure is of the wall clock."""
    text = exported(status(more={"oldest_kept_since": WALL + 60}))
    assert value(text, "peruserd_quarantine_oldest_seconds") == 0


def test_a_hold_has_a_reason_of_the_list() -> None:
    """The words of the server are no label."""
    text = exported(status(on_hold="no majority of \u202e\x1b[31m", more={"hold_kind": "no_majority"}))
    assert value(text, "peruserd_listeners_on_hold", reason="no_majority") == 1
    assert value(text, "peruserd_listeners_on_hold", reason="timeout") == 0
    assert value(exported(status()), "peruserd_listeners_on_hold", reason="no_majority") == 0
    assert "x1b" not in text


def test_requests_of_all_processes_are_added_up() -> None:
    """The supervisor makes requests too, such as those for leases."""
    tally = Tally()
    tally.answered(200, 0.02)
    tally.answered(418, None)
    tally.unanswered("timeout")
    given = status()
    given.counters.requests = {"200": 4, "invented": 1}
    given.counters.request_latency.observe(0.3)
    text = exported(given, tally=tally)
    assert value(text, "peruserd_requests_total", outcome="200") == 5
    assert value(text, "peruserd_requests_total", outcome="4xx") == 1
    assert value(text, "peruserd_requests_total", outcome="timeout") == 1
    assert value(text, "peruserd_requests_total", outcome="other") == 1
    assert value(text, "peruserd_requests_total", outcome="503") == 0
    assert value(text, "peruserd_request_latency_seconds_count") == 2


def test_who_owns_a_range_is_exported_by_parts_that_add_up_to_1() -> None:
    """Of three hosts one has no live instance, so the next one has its part as well."""
    ownership = Ownership("_users", COPY.range, ((COPY.range, ("n1", "n2", "n3")),), ("n1", "n2"))
    text = exported(status(ownership=ownership))
    covered = str(COPY.range)
    assert value(text, "peruserd_range_owned_ratio", range=covered) == pytest.approx(2 / 3)
    assert value(text, "peruserd_range_owner_ratio", range=covered, owner="n1") == pytest.approx(2 / 3)
    assert value(text, "peruserd_range_owner_ratio", range=covered, owner="n2") == pytest.approx(1 / 3)


def test_two_listeners_of_one_name_are_one_sample() -> None:
    """The old listener and the new one are there for a moment after `_users` was made anew. Prometheus takes no two."""
    given = status()
    (listener,) = given.listeners
    newer = msgspec.structs.replace(listener, copy=msgspec.structs.replace(COPY, suffix=".2"), restarts=9)
    text = exported(msgspec.structs.replace(given, listeners=(listener, newer)))
    assert text.count("\nperuserd_listener_restarts_total{") == 1


def test_the_state_directory_shows_its_room() -> None:
    """A directory that cannot be asked, or does not answer, has no sample, and nothing else is missing."""
    text = exported(status(), room=Room(free=5, size=7, read_only=True))
    assert value(text, "peruserd_state_free_bytes") == 5
    assert value(text, "peruserd_state_size_bytes") == 7
    assert value(text, "peruserd_state_read_only") == 1
    assert "\nperuserd_state_free_bytes " not in exported(status())


def test_a_thread_that_fails_hangs_or_has_ended_shows() -> None:
    """The sign of life of a thread that waits is due at no time, and so never overdue."""
    lives = (
        Life("fails", due=float("inf"), failures=3),
        Life("hangs", due=time.monotonic() - 100.0),
        Life("gone", ended=True),
    )

    class Standing(Register):
        def lives(self) -> list[Life]:
            return list(lives)

    out = Samples()
    health = Health(StandingFleet(status()), StandingSupervisor(VIEW), StandingDatabase(LEASES), lambda: None)
    InstanceMetrics(health, Config, lambda: None, started_at=0.0, register=Standing()).parts()["health"](out)
    found = {
        (sample.name, sample.labels["thread"]): sample.value
        for family in out.families()
        for sample in family.samples
        if "thread" in sample.labels
    }
    assert found["peruserd_thread_failures_in_a_row", "fails"] == 3
    assert found["peruserd_thread_overdue_seconds", "fails"] == 0
    assert found["peruserd_thread_overdue_seconds", "hangs"] >= 100
    assert found["peruserd_thread_overdue_seconds", "gone"] == float("inf")


def test_a_reload_that_was_refused_shows() -> None:
    """The start counts as the first success."""
    text = exported(status())
    assert value(text, "peruserd_config_last_reload_successful") == 1
    assert value(text, "peruserd_config_last_reload_success_timestamp_seconds") == WALL - 60
    text = exported(status(), reloaded=Reloaded(successful=False, success_at=WALL - 7))
    assert value(text, "peruserd_config_last_reload_successful") == 0
    assert value(text, "peruserd_config_last_reload_success_timestamp_seconds") == WALL - 7


# Families that other parts put: see the tests of those.
_OF_OTHERS = ("peruserd_audit_", "peruserd_deletion")


def test_every_metric_of_the_table_has_a_value_where_all_is_known() -> None:
    """A family that nobody puts would stand in the documents in vain."""
    ownership = Ownership("_users", COPY.range, ((COPY.range, ("n1", "n2")),), ("n1", "n2"))
    more = {"read_at": 990.0, "oldest_waiting_since": 995.0}
    room = Room(free=1, size=2, read_only=False)
    text = exported(status(pid=os.getpid(), more=more, ownership=ownership), peruser_is_on=True, room=room)
    found = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    expected = {each for each in FAMILIES.values() if not each.name.startswith(_OF_OTHERS)}
    assert {name for each in expected for name in each.series_names} <= found
