"""The parts of a listener's auditor put together."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from peruserd.core.audit.diagnosis import Rules
from peruserd.core.audit.rounds import Pace
from peruserd.core.cluster.views import Copy, Feed
from peruserd.core.feed.lanes import Lane
from peruserd.core.processes.messages import ListenerStart, Report, Stage
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
from peruserd.listener.furnishing import furnisher_of
from peruserd.listener.store import Store

# Users who may wait before the audit gives more of them: so that workers never starve, and little memory.
_MAX_WAITING: Final = 1_000


class AuditDesk:
    """The auditor of a listener, the session by which it looks, and its part of the instance's pace."""

    def __init__(
        self,
        start: ListenerStart,
        tokens: Tokens,
        tracker: ChangeTracker,
        store: Store,
        owned: Owned,
        waits: Callable[[str], bool],
        stopping: threading.Event,
        on_change: Callable[[], None],
    ) -> None:
        self._start = start
        self._stopping = stopping
        self._pace = Pace(start.audit.interval, start.audit.rate)
        self.share(start.share)
        # Nobody waits for the audit, so it waits to be let in for as long as that takes.
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
                    client, start.copy, start.databases.prefix, furnisher_of(client, start).reader()
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
            store,
            self._pace,
            stopping,
        )

    def share(self, in_flight: int) -> None:
        """Go at the pace of a listener that may work on so many users: the rate is divided as they are."""
        self._pace.divide(in_flight, self._start.max_in_flight)

    def interrupt(self) -> None:
        """End a request under way."""
        self._session.interrupt()

    def _wait_for_turn(self) -> None:
        if self._stopping.wait(self._pace.request(time.monotonic())):
            raise InterruptedRequestError("the audit is stopping")

    def _rules(self, client: Client) -> Rules:
        has_shards = self._start.copy.feed is Feed.SHARD
        nodes = len(client.membership().cluster_nodes) if has_shards else None
        return Rules(self._start.databases, self._start.deletion, nodes, self._start.access)


def other_copies(client: Client, followed: Copy) -> Sequence[Copy]:
    """Return the copies on other nodes that can have documents of the range followed, in an order that stays.

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
