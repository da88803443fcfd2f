"""The metrics of an instance for Prometheus: its listeners and their work, and the instance as a whole.

The table in `peruserd.monitoring.table` names all metrics with their meanings.
"""

import time
from collections.abc import Callable
from typing import Final

import msgspec

from peruserd import __version__
from peruserd.core.configuration.config import Config
from peruserd.core.processes.counters import Counters
from peruserd.core.processes.lifecycle import State
from peruserd.core.processes.messages import Report, Stage
from peruserd.couch.tally import TALLY, Tally
from peruserd.daemon.health import Health
from peruserd.daemon.samples import Part, Samples
from peruserd.supervisor.fleet_status import StatusSource
from peruserd.supervisor.listener import ListenerStatus
from peruserd.supervisor.state_writes import Room
from peruserd.threads import REGISTER, Register

_COUNTERS: Final = (
    "changes_seen",
    "changes_owned",
    "users_provisioned",
    "users_revoked",
    "databases_created",
    "databases_dropped",
    "security_writes",
    "retries",
    "reviews",
    "feed_requests",
    "scans",
    "holds",
)


class ListenerMetrics:
    """The metrics of the listeners and of their work.

    `clock` is the monotonic clock of the listeners' reports. `tally` counts the requests of this process itself.
    """

    def __init__(
        self,
        fleet: StatusSource,
        tally: Tally = TALLY,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._fleet = fleet
        self._tally = tally
        self._clock = clock
        self._wall_clock = wall_clock

    def parts(self) -> dict[str, Part]:
        """Return the parts of these metrics by name. Each may fail without the others."""
        return {
            "counters": lambda out: _put_counters(out, self._fleet.status().counters),
            "requests": self._put_requests,
            "listeners": self._put_listeners,
            "trouble": self._put_trouble,
        }

    def _put_requests(self, out: Samples) -> None:
        counters = Counters(requests=self._tally.outcomes(), request_latency=self._tally.latency())
        counters.add(self._fleet.status().counters)
        out.put_counts("peruserd_requests", counters.requests)
        out.put_histogram("peruserd_request_latency_seconds", counters.request_latency)

    def _put_listeners(self, out: Samples) -> None:
        status = self._fleet.status()
        now = self._clock()
        for each in status.listeners:
            copy = str(each.copy)
            for state in State:
                out.put("peruserd_listener_state", each.state is state, copy, state.value)
            out.put("peruserd_listener_restarts", each.restarts, copy)
            out.put("peruserd_listener_failures_in_a_row", each.failures, copy)
            out.put("peruserd_listener_caught_up", each.caught_up, copy)
            if each.report is not None:
                _put_report(out, copy, each.report, now)
            _put_usage(out, copy, each)
        out.put_counts("peruserd_listener_ends", {reason.value: count for reason, count in status.stops.items()})
        out.put("peruserd_unreadable_ranges", len(status.unreadable))
        out.put("peruserd_cut_off", status.cut_off)

    def _put_trouble(self, out: Samples) -> None:
        """Add what keeps users from being served, over all listeners."""
        reports = [each.report for each in self._fleet.status().listeners if each.report is not None]
        held = [each.hold_kind for each in reports if each.on_hold is not None]
        out.put_counts("peruserd_listeners_on_hold", {kind or "": held.count(kind) for kind in held})
        kinds = Counters()
        for report in reports:
            kinds.add(Counters(failures=report.kinds))
        out.put_counts("peruserd_quarantined_users_by_kind", kinds.failures)
        since = min((each.oldest_kept_since for each in reports if each.oldest_kept_since is not None), default=None)
        age = 0.0 if since is None else max(0.0, self._wall_clock() - since)
        out.put("peruserd_quarantine_oldest_seconds", age)


class Reloaded(msgspec.Struct, frozen=True):
    """The last reading of the configuration: whether it was taken over, when one was last, and why it was refused.

    The time is of the wall clock, in seconds. The start counts as taken over.
    """

    successful: bool
    success_at: float
    refused: str | None = None


class InstanceMetrics:
    """The metrics of the instance as a whole.

    `config` returns the configuration in force, `room` the room for the state, and `started_at` is of the wall clock.
    """

    def __init__(
        self,
        health: Health,
        config: Callable[[], Config],
        room: Callable[[], Room | None],
        *,
        started_at: float,
        reloaded: Callable[[], Reloaded] | None = None,
        register: Register = REGISTER,
    ) -> None:
        self._health = health
        self._register = register
        self._config = config
        self._room = room
        self._started_at = started_at
        self._reloaded = reloaded or (lambda: Reloaded(successful=True, success_at=started_at))

    def parts(self) -> dict[str, Part]:
        """Return the parts of these metrics by name. Each may fail without the others."""
        return {"instance": self._put_instance, "health": self._put_health, "state": self._put_state}

    def _put_instance(self, out: Samples) -> None:
        out.put("peruserd_build", 1, __version__)
        out.put("peruserd_start_time_seconds", self._started_at)
        reloaded = self._reloaded()
        out.put("peruserd_config_last_reload_successful", reloaded.successful)
        out.put("peruserd_config_last_reload_success_timestamp_seconds", reloaded.success_at)
        config = self._config()
        out.put("peruserd_audit_interval_seconds", config.audit.interval)
        out.put("peruserd_lease_ttl_seconds", config.cluster.lease_ttl)

    def _put_health(self, out: Samples) -> None:
        out.put("peruserd_ready", self._health.ready()[0])
        out.put("peruserd_healthy", self._health.healthy()[0])
        now = time.monotonic()
        for life in self._register.lives():
            out.put("peruserd_thread_failures_in_a_row", life.failures, life.name)
            overdue = float("inf") if life.ended else max(0.0, now - life.due)
            out.put("peruserd_thread_overdue_seconds", overdue, life.name)

    def _put_state(self, out: Samples) -> None:
        """Add the room for the state. A scrape must not wait for the disk, so another thread asks for it."""
        if (room := self._room()) is None:
            return
        out.put("peruserd_state_free_bytes", room.free)
        out.put("peruserd_state_size_bytes", room.size)
        out.put("peruserd_state_read_only", room.read_only)


def _put_counters(out: Samples, counters: Counters) -> None:
    for name in _COUNTERS:
        out.put(f"peruserd_{name}", getattr(counters, name))
    out.put_counts("peruserd_looks", counters.looks)
    out.put_counts("peruserd_failures", counters.failures)
    out.put_counts("peruserd_access_changes", counters.access_changes)
    out.put_histogram("peruserd_provisioning_latency_seconds", counters.latency)


def _put_report(out: Samples, copy: str, report: Report, now: float) -> None:
    waiting, read_at = report.oldest_waiting_since, report.read_at
    out.put("peruserd_listener_lag_seconds", 0.0 if waiting is None else max(0.0, now - waiting), copy)
    out.put("peruserd_listener_feed_age_seconds", None if read_at is None else max(0.0, now - read_at), copy)
    out.put("peruserd_listener_scanning", report.stage is Stage.SCANNING, copy)
    out.put("peruserd_listener_on_hold", report.on_hold is not None, copy)
    out.put("peruserd_listener_waiting", report.waiting, copy)
    out.put("peruserd_listener_in_flight", report.in_flight, copy)
    out.put("peruserd_quarantined_users", report.quarantined, copy)
    out.put("peruserd_quarantined_users_permanent", report.permanent, copy)
    sequences = {"checkpoint": report.checkpoint, "shard": report.shard_sequence}
    for name, sequence in sequences.items():
        # The sequences of a clustered feed are opaque texts, so there is no number to show.
        out.put(f"peruserd_{name}_sequence", sequence if isinstance(sequence, int) else None, copy)


def _put_usage(out: Samples, copy: str, listener: ListenerStatus) -> None:
    """Add the figures of the listener's process. The listener measures them itself: no other process may."""
    usage = None if listener.pid is None or listener.report is None else listener.report.usage
    if usage is None:
        return
    out.put("peruserd_listener_cpu_seconds", listener.retired_cpu_seconds + usage.cpu_seconds, copy)
    out.put("peruserd_listener_resident_memory_bytes", usage.resident_bytes, copy)
    out.put("peruserd_listener_open_fds", usage.descriptors, copy)
    out.put("peruserd_listener_max_fds", usage.descriptor_limit, copy)
    out.put("peruserd_listener_threads", usage.threads, copy)
