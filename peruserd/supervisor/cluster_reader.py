"""The cluster reader: reads nodes, shard map and leases through one node, and makes the plan of an instance.

It decides nothing; `core.cluster` does.
"""

import time

import structlog

from peruserd.core.cluster.views import Feed, Plan, View, make_database_plan, make_plan
from peruserd.core.configuration.config import CouchDBConfig
from peruserd.couch.client import Client
from peruserd.couch.cluster_database import ClusterDatabase, ForeignDatabaseError, Surroundings
from peruserd.couch.errors import CouchError, InterruptedRequestError, RefusedError
from peruserd.couch.shapes import Membership
from peruserd.supervisor.attaching import Attaching, Attachment
from peruserd.supervisor.membership import LeaseTracker, LiveInstances
from peruserd.supervisor.peruser_watch import PeruserWatch
from peruserd.supervisor.slashes import SlashesLostError, SlashWatch

log = structlog.get_logger(__name__)


class ClusterReader:
    """Reads the cluster through one node, to which it attaches first, and makes plans from views.

    - `database` holds the leases.
    - `peruser_watch` is for instances; commands ask every node themselves.
    - `slashes` is for instances too: reading fails if a proxy decodes slashes, because no copy can be read then.
      Commands report that themselves.
    """

    def __init__(
        self,
        client: Client,
        couchdb: CouchDBConfig,
        observer: LeaseTracker,
        database: ClusterDatabase,
        peruser_watch: PeruserWatch | None = None,
        slashes: SlashWatch | None = None,
    ) -> None:
        self._client = client
        self._couchdb = couchdb
        self._observer = observer
        self._database = database
        self._peruser_watch = peruser_watch
        self._slashes = slashes
        # If the last reading showed no leases, the silence of an instance until the next one means nothing.
        self._blind = False
        self._attaching = Attaching(client, couchdb)

    def attach(self) -> Attachment:
        """Return the attachment, made at the first call; raises CouchError while that is not possible."""
        return self._attaching.attach()

    @property
    def attached(self) -> Attachment | None:
        """Return the attachment without making one; None while there is none. For any thread."""
        return self._attaching.current

    def shard_node(self) -> str | None:
        """Return the attached node; None without shards, where there are no leases and no maps to watch."""
        attachment = self.attach()
        return attachment.node if attachment.feed is Feed.SHARD else None

    def prepare(self) -> Attachment:
        """Attach, and check the database of the leases; raises CouchError, including ForeignDatabaseError."""
        attachment = self.attach()
        if attachment.feed is Feed.SHARD and self._slashes_lost() is None:
            membership = self._client.membership()
            exists = self._client.shard_map(attachment.node, self._couchdb.auth_db) is not None
            state = self._database.check(_surroundings(attachment.node, membership, exists), time.monotonic())
            if state.refused:
                raise ForeignDatabaseError(state.why)
        return attachment

    def read(self) -> View:
        """Return the cluster as the node sees it now; raises CouchError.

        An instance is alive if its lease is believed and its node is connected to this one. An instance beside a node
        that is cut off acts on its own side of the cut.
        """
        attachment = self._attaching.review(time.monotonic())
        if attachment.feed is Feed.DATABASE:
            # On such a server instances cannot know of each other. This one counts as the only one and owns all.
            return View(nodes=(attachment.node,), instances=(attachment.node,), shard_map=None, me=attachment.node)
        was_blind, self._blind = self._blind, True
        # This comes before any write, because the database of the leases could not be read back either.
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
        if self._peruser_watch is not None:
            self._peruser_watch.check(attachment.node)
        connected = (each for each in live.instances if each in nodes or each == attachment.node)
        return View(
            nodes=nodes,
            instances=live.drain.owners(connected),
            shard_map=shard_map,
            standby=live.standby_for is not None,
            newcomers=tuple(each for each in live.newcomers if each in nodes),
            leases_readable=not self._blind,
            cut_off=not membership.has_majority,
            breaks=live.breaks,
            away=membership.away,
            me=attachment.node,
            drained=tuple(sorted(live.drain.drained)),
        )

    def _read_leases(self, node: str, membership: Membership, *, auth_db_exists: bool) -> LiveInstances | None:
        """Return the live instances by the leases; None if these cannot be read or trusted now."""
        seen = _surroundings(node, membership, auth_db_exists)
        if not self._database.check(seen, time.monotonic()).usable:
            return None
        try:
            leases = self._client.leases(self._database.name)
        except (InterruptedRequestError, RefusedError):
            raise
        except CouchError as error:
            # The database was just deleted, no copy answers, or a proxy has answered. The next reading finds out.
            log.info("leases cannot be read", kind=error.kind, error=str(error))
            self._database.check_soon()
            return None
        return self._observer.observe(node, leases, time.monotonic())

    def _slashes_lost(self) -> SlashesLostError | None:
        return None if self._slashes is None else self._slashes.check()

    def plan(self, view: View, seen: View) -> Plan:
        """Return the plan of this instance by the view in force and the view seen last, both from `read`."""
        attachment = self.attach()
        if attachment.feed is Feed.DATABASE:
            return make_database_plan(self._couchdb.auth_db, attachment.node)
        return make_plan(view, attachment.node, seen)


def _surroundings(node: str, membership: Membership, auth_db_exists: bool) -> Surroundings:  # noqa: FBT001
    return Surroundings(node, membership.all_nodes, membership.cluster_nodes, auth_db_exists)
