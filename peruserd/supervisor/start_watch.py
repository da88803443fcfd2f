"""The start watch: it notices restarts of nodes without an instance, also a restart between two views.

CouchDB opens a node's own list of databases when the node starts, and its answer says when that was. So one small
request shows each restart, however short. With each view one such node is asked in turn.
"""

from collections.abc import Iterable
from typing import Final

import msgspec
import structlog

from peruserd.core.cluster.leases import Breaks
from peruserd.core.cluster.views import View
from peruserd.couch.client import Client
from peruserd.couch.errors import CouchError, InterruptedRequestError, RefusedError
from peruserd.couch.session import quoted

# A node that hangs must not delay the cluster watch for longer.
_WITHIN_SECONDS: Final = 1.0

# After a node has not answered, it is left out for this many views.
_PASSED_OVER: Final = 10

log = structlog.get_logger(__name__)


class StartWatch:
    """Follows the views of one instance."""

    def __init__(self, client: Client) -> None:
        self._client = client
        # For each node: its last start, and the number of starts since the first one that was seen.
        self._starts: dict[str, tuple[str, int]] = {}
        # The nodes that are not asked yet in this round.
        self._queue: list[str] = []
        self._silent: dict[str, int] = {}

    def ask_next(self, view: View, hosts: Iterable[str]) -> tuple[Breaks, ...]:
        """Ask one of the connected `hosts` without an instance; return how often each of these was started."""
        lonely = set(hosts).intersection(view.nodes).difference(view.instances)
        self._starts = {node: known for node, known in self._starts.items() if node in lonely}
        self._silent = {node: views - 1 for node, views in self._silent.items() if node in lonely and views > 1}
        self._queue = [each for each in self._queue if each in lonely] or sorted(lonely)
        if self._queue and (node := self._queue.pop(0)) not in self._silent:
            self._ask(node)
        return tuple(Breaks(node, f"starts of {node}", count) for node, (_, count) in self._starts.items())

    def _ask(self, node: str) -> None:
        try:
            answer = self._client.session.request("GET", f"/_node/{quoted(node)}/_dbs", within_seconds=_WITHIN_SECONDS)
            found = answer.expect(200).decode(_Opened).instance_start_time
        except (InterruptedRequestError, RefusedError):
            raise
        except CouchError as error:
            log.debug("a node does not say when it was started", node=node, kind=error.kind, error=str(error))
            self._silent[node] = _PASSED_OVER
            return
        before, count = self._starts.get(node, (found, 0))
        self._starts[node] = found, count + (found != before)


class _Opened(msgspec.Struct, frozen=True):
    """The answer about a database. A server that does not say when it was opened gives the same text each time."""

    instance_start_time: str = ""
