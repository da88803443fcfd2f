"""The watcher: a thread that looks at the cluster again and again and hands on what it saw.

It only looks; the supervisor's loop decides what follows from a view.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from peruserd.core.cluster.views import Feed, Plan, View, make_database_plan, make_plan
from peruserd.core.configuration.config import CouchDBConfig
from peruserd.couch.client import Client, Membership
from peruserd.couch.cluster_database import ClusterDatabase, ForeignDatabaseError, Surroundings
from peruserd.couch.errors import CouchError, InterruptedRequestError, RefusedError
from peruserd.supervisor.attaching import Attaching, Attachment
from peruserd.supervisor.membership import LeaseObserver, LiveInstances
from peruserd.supervisor.pausing import pause_after
from peruserd.supervisor.second_writer import SecondWriter
from peruserd.supervisor.slashes import SlashesLostError, SlashWatch

# Between two looks, also where one is asked for: a look is four requests, and few changes need to be seen sooner.
_MIN_SECONDS: Final = 0.2

log = structlog.get_logger(__name__)


class ClusterReader:
    """Sees the cluster through one node: attaches to it first, then looks; and plans by what was seen.

    `database` is where the leases are. An instance looks out for a `second_writer` as well; a command asks every node
    for itself. With `slashes` a look fails where no copy can be read because of a proxy; a command says so instead.
    """

    def __init__(
        self,
        client: Client,
        couchdb: CouchDBConfig,
        observer: LeaseObserver,
        database: ClusterDatabase,
        second_writer: SecondWriter | None = None,
        slashes: SlashWatch | None = None,
    ) -> None:
        self._client = client
        self._couchdb = couchdb
        self._observer = observer
        self._database = database
        self._second_writer = second_writer
        self._slashes = slashes
        # Where the last look showed no leases, the silence until the next one says nothing.
        self._blind = False
        self._attaching = Attaching(client, couchdb)

    def attach(self) -> Attachment:
        """Return the attachment, made at the first call; raises CouchError while that is not possible."""
        return self._attaching.attach()

    def shard_node(self) -> str | None:
        """Return the node as `attach` does; None where there are no shards, so neither leases nor a map to watch."""
        attachment = self.attach()
        return attachment.node if attachment.feed is Feed.SHARD else None

    def prepare(self) -> Attachment:
        """Attach, and look at the database of the leases; raises CouchError, ForeignDatabaseError among them."""
        attachment = self.attach()
        if attachment.feed is Feed.SHARD and self._slashes_lost() is None:
            membership = self._client.membership()
            exists = self._client.shard_map(attachment.node, self._couchdb.auth_db) is not None
            state = self._database.mind(_surroundings(attachment.node, membership, exists), time.monotonic())
            if state.refused:
                raise ForeignDatabaseError(state.why)
        return attachment

    def look(self) -> View:
        """Return the cluster as the node sees it now; raises CouchError.

        Alive are the instances that are believed by their leases and whose node is connected to this one: an instance
        beside a node that is cut off acts on its side of the cut.
        """
        attachment = self._attaching.review(time.monotonic())
        if attachment.feed is Feed.DATABASE:
            # Nothing here tells of other instances: this one is alone, and all is its own.
            return View(nodes=(attachment.node,), instances=(attachment.node,), shard_map=None)
        was_blind, self._blind = self._blind, True
        # Before anything is made or written: the database of the leases cannot be read back either.
        if (lost := self._slashes_lost()) is not None:
            raise lost
        membership = self._client.membership()
        attachment = self._attaching.confirm(attachment, membership)
        nodes = tuple(sorted(membership.all_nodes))
        shard_map = self._client.shard_map(attachment.node, self._couchdb.auth_db)
        if was_blind:
            self._observer.suspend_expiry(attachment.node, time.monotonic())
        live = self._read_leases(attachment.node, membership, auth_db_exists=shard_map is not None)
        self._blind = live is None
        if live is None:
            live = self._observer.suspend_expiry(attachment.node, time.monotonic())
        if self._second_writer is not None:
            self._second_writer.look(attachment.node)
        return View(
            nodes=nodes,
            instances=tuple(each for each in live.instances if each in nodes or each == attachment.node),
            shard_map=shard_map,
            standby=live.standby_for is not None,
            newcomers=tuple(each for each in live.newcomers if each in nodes),
            leases_readable=not self._blind,
            cut_off=not membership.has_majority,
            breaks=live.breaks,
        )

    def _read_leases(self, node: str, membership: Membership, *, auth_db_exists: bool) -> LiveInstances | None:
        """Return who is there by the leases, or None where these cannot be read or trusted now."""
        seen = _surroundings(node, membership, auth_db_exists)
        if not self._database.mind(seen, time.monotonic()).usable:
            return None
        try:
            leases = self._client.leases(self._database.name)
        except (InterruptedRequestError, RefusedError):
            raise
        except CouchError as error:
            # Deleted a moment ago, no copy answers, or a proxy has words of its own: the next look finds out.
            log.info("leases cannot be read", kind=error.kind, error=str(error))
            self._database.suspect()
            return None
        return self._observer.observe(node, leases, time.monotonic())

    def _slashes_lost(self) -> SlashesLostError | None:
        return None if self._slashes is None else self._slashes.look()

    def plan(self, view: View, seen: View) -> Plan:
        """Return what this instance does by the view in force and the one seen last, both from `look`."""
        attachment = self.attach()
        if attachment.feed is Feed.DATABASE:
            return make_database_plan(self._couchdb.auth_db, attachment.node)
        return make_plan(view, attachment.node, seen)


def _surroundings(node: str, membership: Membership, auth_db_exists: bool) -> Surroundings:  # noqa: FBT001
    return Surroundings(node, membership.all_nodes, membership.cluster_nodes, auth_db_exists)


class Watcher:
    """Looks at the cluster every `interval_seconds` and passes each view on; from a thread of its own.

    `on_failure` is called whenever a look has shown nothing. Any thread may read `trouble`, which says why the last one
    has shown nothing.
    """

    def __init__(
        self,
        look_once: Callable[[], View],
        *,
        interval_seconds: float,
        on_view: Callable[[View], None],
        on_failure: Callable[[], None],
    ) -> None:
        self._look = look_once
        self._interval = interval_seconds
        self._on_view = on_view
        self._on_failure = on_failure
        self._stopping = False
        self._wanted = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self.failures = 0
        self.trouble: str | None = None

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; returns at once, a request under way ends by itself or with its session."""
        self._stopping = True
        self._wanted.set()

    def look_soon(self) -> None:
        """Look at once instead of after the interval: something has changed that a look would show."""
        # Listeners lose their copies also where the node is away or refuses us: the back-off of failed looks stands.
        if not self.failures:
            self._wanted.set()

    def _run(self) -> None:
        wait = 0.0
        while not self._stops_within(wait):
            try:
                view = self._look()
            except InterruptedRequestError:
                return
            except CouchError as error:
                wait = self._failed(error.kind, error)
            except Exception as error:
                # Without this thread the last view would stay in force for ever, and nobody would know.
                log.exception("unforeseen failure of a look")
                wait = self._failed("unforeseen", error)
            else:
                if self.failures:
                    log.info("cluster can be seen again", failures=self.failures)
                self.failures = 0
                self.trouble = None
                self._on_view(view)
                wait = self._interval

    def _stops_within(self, wait: float) -> bool:
        # A copy that stays away makes its listener ask again and again.
        time.sleep(min(wait, _MIN_SECONDS))
        self._wanted.wait(max(0.0, wait - _MIN_SECONDS))
        self._wanted.clear()
        return self._stopping

    def _failed(self, kind: str, error: Exception) -> float:
        self._on_failure()
        self.failures += 1
        self.trouble = str(error) or type(error).__name__
        if self.failures == 1:
            log.warning("cluster cannot be seen; the last view stays in force", kind=kind, error=str(error))
        return max(self._interval, pause_after(error, self.failures))
