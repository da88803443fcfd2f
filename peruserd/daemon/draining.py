"""Lets an instance give up its documents at an operator's word, and take them back."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

import structlog

from peruserd.core.cluster.draining import obstacle
from peruserd.core.cluster.leases import Lease, LeaseStatus
from peruserd.core.cluster.views import Feed
from peruserd.core.processes.control import Answer, Done, Drain, Refused
from peruserd.supervisor.cluster_reader import ClusterReader
from peruserd.supervisor.fleet_status import StatusSource
from peruserd.supervisor.lease_renewer import LeaseRenewer
from peruserd.supervisor.loop import Supervisor
from peruserd.supervisor.membership import Member

# Listeners end within some ten seconds. A lease takes as long as the cluster takes to write it.
_PATIENCE_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.05

# The others read leases twice in this many of their intervals, and never more slowly than this is waited for.
_READINGS: Final = 2
_MAX_READING_SECONDS: Final = 30.0

_DRAINED: Final = (
    "other instances serve its users now, so this node can be taken down; `peruserd drain --undo` ends that"
)
_UNDONE: Final = "this instance takes its users back after the quiet period, as one that has started"
_NOTED: Final = "{why}; this instance serves on, and gives its users up as soon as that has changed"

log = structlog.get_logger(__name__)


class Draining:
    """Carries out the orders. `poll_seconds` returns how often instances read the leases, in seconds."""

    def __init__(
        self,
        member: Member,
        supervisor: Supervisor,
        fleet: StatusSource,
        lease_renewer: Callable[[], LeaseRenewer],
        cluster_reader: ClusterReader,
        read_soon: Callable[[], None],
        poll_seconds: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._member = member
        self._supervisor = supervisor
        self._fleet = fleet
        self._lease_renewer = lease_renewer
        self._cluster_reader = cluster_reader
        self._read_soon = read_soon
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._said = False

    def is_drained(self) -> bool:
        """Say whether the plan leaves all documents to others, and no process acts on any; for any thread."""
        views = self._supervisor.views
        gives_up = self._member.draining and views is not None and views[0].gives_up
        return gives_up and not any(each.pid is not None for each in self._fleet.status().listeners)

    def on_round(self) -> None:
        """Let the others hear at once that the last listener has ended. The supervisor's loop calls this each round."""
        if not self._member.draining:
            return
        before, self._said = self._said, self.is_drained()
        if self._said and not before:
            self._lease_renewer().renew_soon()

    def carry_out(self, order: Drain, uid: int) -> Iterator[Answer]:
        """Carry out an order of the user with this id."""
        if order.undo:
            log.info("drain is undone", by=uid, was_ordered=self._member.draining)
            self._change(on=False)
            yield Done(_UNDONE)
            return
        attachment = self._cluster_reader.attached
        if attachment is not None and attachment.feed is Feed.DATABASE:
            yield Refused("this server has no shards, so no other instance can take over", again=False)
            return
        found = obstacle(self._supervisor.view, self._others())
        if found is not None and not (order.force and found.can_be_forced):
            advice = "; --force notes the order until that has changed" if found.can_be_forced else ""
            yield Refused(f"{found.why}{advice}", again=not found.can_be_forced)
            return
        log.info("drain is ordered", by=uid, forced=order.force, obstacle=None if found is None else found.why)
        self._change(on=True)
        if found is not None:
            yield Done(_NOTED.format(why=found.why))
        elif not order.waits:
            yield Done("`peruserd status` shows when it is done")
        else:
            yield self._waited()

    def _change(self, *, on: bool) -> None:
        self._member.drain(on=on)
        self._read_soon()
        if not on:
            # Nothing else follows from this for the lease.
            self._lease_renewer().renew_soon()

    def _others(self) -> list[Lease]:
        now = self._clock()
        return [each.lease for each in self._member.peers(now) if each.status is LeaseStatus.ALIVE]

    def _waited(self) -> Answer:
        until = self._clock() + _PATIENCE_SECONDS
        pause = threading.Event()
        while self._clock() < until:
            if not self._member.draining:
                return Refused("somebody has undone it meanwhile", again=False)
            written = self._lease_renewer().written
            if written is not None and written.drained:
                # Until then the others may not have read the lease.
                pause.wait(min(_READINGS * self._poll_seconds(), _MAX_READING_SECONDS))
                return Done(_DRAINED)
            pause.wait(_POLL_SECONDS)
        return Refused("it has not given up all users yet, and goes on with that; `peruserd status` shows how far")
