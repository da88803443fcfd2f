"""The watcher: a thread that looks at the cluster again and again and hands on what it saw.

It only looks. What follows from a view is decided by the supervisor's loop.
"""

import threading
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from peruserd.core.backoff import Backoff
from peruserd.core.config import CouchDBConfig, FeedChoice
from peruserd.core.quarantine import Advice
from peruserd.core.views import Feed, Plan, View, make_database_plan, make_plan
from peruserd.couch.client import Client
from peruserd.couch.errors import CouchError, InterruptedRequestError

_BACKOFF: Final = Backoff(first_seconds=1.0, most_seconds=15.0)

# CouchDB 3.4 and later lock an account for a while that is refused again and again.
_REFUSED_SECONDS: Final = 60.0

log = structlog.get_logger(__name__)


class NoShardsError(CouchError):
    """The server has no shards to follow, and the configuration asks for them."""

    kind = "no_shards"
    advice = Advice.ASK_OPERATOR


class Attachment(msgspec.Struct, frozen=True):
    """The node an instance is attached to, and how its feeds are read."""

    node: str
    feed: Feed


def attach(client: Client, *, node: str, feed: FeedChoice) -> Attachment:
    """Find out which node answers and how to read it. Raises CouchError.

    The absence of `/_node/_local` is the sign of a server without shards (PouchDB Server, CouchDB 1.x, a proxy that
    forbids it).
    """
    name = client.node_name() if node == "_local" else node
    if feed is FeedChoice.DATABASE or (name is None and feed is FeedChoice.AUTO):
        return Attachment(name or "_local", Feed.DATABASE)
    if name is None:
        raise NoShardsError(
            "the server has no /_node/_local, so it has no shards to follow; set couchdb.feed to 'auto' or 'database'"
        )
    return Attachment(name, Feed.SHARD)


class Lookout:
    """Sees the cluster through one node: attaches to it first, then looks; and plans by what was seen."""

    def __init__(self, client: Client, couchdb: CouchDBConfig) -> None:
        self._client = client
        self._couchdb = couchdb
        self.attachment: Attachment | None = None

    def attach(self) -> Attachment:
        """Return the attachment, made at the first call; raises CouchError while that is not possible."""
        if self.attachment is None:
            self.attachment = attach(self._client, node=self._couchdb.node, feed=self._couchdb.feed)
            log.info("attached", node=self.attachment.node, feed=self.attachment.feed.value, url=self._couchdb.url)
        return self.attachment

    def look(self) -> View:
        """Return the cluster as the node sees it now; raises CouchError.

        Every connected node counts as one with a live instance, until instances give signs of life of their own.
        """
        attachment = self.attach()
        if attachment.feed is Feed.DATABASE:
            # Nothing here tells of other instances: this one is alone, and all is its own.
            return View(nodes=(attachment.node,), instances=(attachment.node,), shard_map=None)
        nodes = tuple(sorted(self._client.membership().all_nodes))
        shard_map = self._client.shard_map(attachment.node, self._couchdb.auth_db)
        return View(nodes=nodes, instances=nodes, shard_map=shard_map)

    def plan(self, view: View) -> Plan:
        """Return what this instance does by a view that `look` returned."""
        attachment = self.attach()
        if attachment.feed is Feed.DATABASE:
            return make_database_plan(self._couchdb.auth_db, attachment.node)
        return make_plan(view, attachment.node)


class Watcher:
    """Looks at the cluster every `interval_seconds` and passes each view on; from a thread of its own."""

    def __init__(
        self, look_once: Callable[[], View], *, interval_seconds: float, on_view: Callable[[View], None]
    ) -> None:
        self._look = look_once
        self._interval = interval_seconds
        self._on_view = on_view
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self.failures = 0

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; returns at once, a request under way ends by itself or with its session."""
        self._stopping.set()

    def _run(self) -> None:
        wait = 0.0
        while not self._stopping.wait(wait):
            try:
                view = self._look()
            except InterruptedRequestError:
                return
            except CouchError as error:
                wait = self._failed(error)
            else:
                if self.failures:
                    log.info("cluster can be seen again", failures=self.failures)
                self.failures = 0
                self._on_view(view)
                wait = self._interval

    def _failed(self, error: CouchError) -> float:
        self.failures += 1
        if self.failures == 1:
            log.warning("cluster cannot be seen; the last view stays in force", kind=error.kind, error=str(error))
        if error.advice is Advice.ASK_OPERATOR:
            return _REFUSED_SECONDS
        return max(self._interval, _BACKOFF.bound(self.failures))
