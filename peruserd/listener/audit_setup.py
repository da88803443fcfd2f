"""Building a listener's auditor from its parts."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from peruserd import threads
from peruserd.core.audit.diagnosis import Rules
from peruserd.core.audit.rounds import Pace
from peruserd.core.cluster.views import Copy, Feed
from peruserd.core.feed.lanes import Lane
from peruserd.core.processes.messages import ListenerStart, Reconfigure, Report, Stage
from peruserd.couch.client import Client
from peruserd.couch.copies import copies_of
from peruserd.couch.errors import InterruptedRequestError
from peruserd.couch.observing import open_observer
from peruserd.couch.paced import PacedSession
from peruserd.couch.sources import open_source
from peruserd.couch.tokens import Tokens
from peruserd.listener.audit_tools import Tools
from peruserd.listener.auditing import Auditor
from peruserd.listener.change_tracker import ChangeTracker
from peruserd.listener.deletion_setup import Owned
from peruserd.listener.template_writer import template_writer_of

# The audit adds no more users while so many wait. Workers then always have something to do, and the queue takes little
# memory.
_MAX_WAITING: Final = 1_000


class AuditSetup:
    """The auditor of a listener, its own session, and its share of the instance's request rate."""

    def __init__(
        self,
        start: ListenerStart,
        tokens: Tokens,
        tracker: ChangeTracker,
        owned: Owned,
        waits: Callable[[str], bool],
        stopping: threading.Event,
        on_change: Callable[[], None],
    ) -> None:
        self._start = start
        self._stopping = stopping
        self._share = start.share
        self._max_in_flight = start.max_in_flight
        self._pace = Pace(start.audit.interval, start.audit.rate)
        self._divide()
        # Nobody waits for the audit, so its requests may wait without limit until the server lets the instance in.
        self._session = PacedSession(
            start.couchdb, tokens, patience_seconds=float("inf"), before_request=self._wait_for_turn
        )
        client = Client(self._session)
        self.auditor = Auditor(
            Tools(
                client=client,
                copy=start.copy,
                source=open_source(start.copy, client),
                observer=open_observer(
                    client, start.copy, start.databases.prefix, template_writer_of(client, start).reader()
                ),
                others=lambda: other_copies(client, start.copy),
                rules=lambda: self._rules(client),
                mine=owned,
                is_calm=lambda: _is_calm(tracker.report()),
                look=lambda document_ids: tracker.look(document_ids, Lane.AUDIT),
                has_room=lambda: tracker.report().waiting < _MAX_WAITING,
                waits=waits,
                on_change=on_change,
            ),
            tracker.patient_store,
            self._pace,
            stopping,
        )

    def share(self, in_flight: int) -> None:
        """Set the rate for a listener that may work on so many users: both are divided in the same way."""
        self._share = in_flight
        self._divide()

    def take_over(self, message: Reconfigure) -> None:
        """Take another interval and rate."""
        self._max_in_flight = message.max_in_flight
        self._pace.change(message.audit.interval, message.audit.rate)
        self._divide()

    def interrupt(self) -> None:
        """End a request under way."""
        self._session.interrupt()

    def _divide(self) -> None:
        self._pace.divide(self._share, self._max_in_flight)

    def _wait_for_turn(self) -> None:
        if threads.pause(self._stopping, self._pace.request(time.monotonic())):
            raise InterruptedRequestError("the audit is stopping")

    def _rules(self, client: Client) -> Rules:
        has_shards = self._start.copy.feed is Feed.SHARD
        nodes = len(client.membership().cluster_nodes) if has_shards else None
        return Rules(self._start.databases, self._start.deletion, nodes, self._start.access)


def other_copies(client: Client, followed: Copy) -> Sequence[Copy]:
    """Return the copies on other nodes that can hold documents of this range, always in the same order.

    Raises CouchError.
    """
    if followed.feed is Feed.DATABASE:
        return ()
    shard_map = client.shard_map("_local", followed.database)
    if shard_map is None:
        return ()
    overlapping = [each for each in shard_map.hosts if each.overlaps(followed.range)]
    return sorted(each for each in copies_of(shard_map, overlapping) if each.node != followed.node)


def _is_calm(report: Report) -> bool:
    return report.caught_up and report.stage is Stage.FOLLOWING
