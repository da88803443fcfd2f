"""Finding out which node answers, and how its feeds are read.

A proxy can make any answer, and it can be one that is being set up. So an answer that decides for the feed of the whole
database is asked for twice, and asked for again as long as it is in force: see `Attaching`.
"""

import time
from typing import Final

import msgspec
import structlog

from peruserd.core.cluster.views import Feed
from peruserd.core.common.backoff import Backoff
from peruserd.core.configuration.config import CouchDBConfig, FeedChoice
from peruserd.core.users.quarantine import Advice
from peruserd.couch.client import Client, Membership
from peruserd.couch.errors import (
    CouchError,
    ForbiddenError,
    InterruptedRequestError,
    RefusedError,
    UnexpectedAnswerError,
)
from peruserd.couch.session import quoted

# A server that has no pages of nodes still has none after this time. A proxy that starts is through by then, or answers
# `/` with an error as well.
_SURE_SECONDS: Final = 1.0

# One small request each time, on a server that will hardly ever answer it otherwise.
_ASKING_AGAIN: Final = Backoff(initial_seconds=2.0, max_seconds=60.0)

log = structlog.get_logger(__name__)


class NoShardsError(CouchError):
    """The server has no shards to follow, and the configuration asks for them."""

    kind = "no_shards"
    advice = Advice.ASK_OPERATOR


class HiddenNodesError(CouchError):
    """The server has pages of nodes, and something before it does not let this instance at them."""

    kind = "nodes_hidden"


class Attachment(msgspec.Struct, frozen=True):
    """The node an instance is attached to, and how its feeds are read."""

    node: str
    feed: Feed


class Attaching:
    """The attachment of an instance or a command, which can change while an instance runs.

    - An attachment that follows from the configuration alone stays.
    - The database's feed, where nothing but closed or missing pages of nodes spoke for it, is left for the shards as
      soon as these pages answer.
    - The name of the node is asked for again where the cluster has no node of that name: it was renamed, or had no
      name yet.
    """

    def __init__(self, client: Client, couchdb: CouchDBConfig) -> None:
        self._client = client
        self._couchdb = couchdb
        self._asked_again = 0
        self._ask_again_at = 0.0
        self.current: Attachment | None = None

    def attach(self) -> Attachment:
        """Return the attachment, made at the first call; raises CouchError while that is not possible."""
        return self.current or self._take(attach(self._client, self._couchdb))

    def review(self, now: float) -> Attachment:
        """Return the attachment, after another look at the pages of nodes where they were missing; see the class.

        Raises CouchError where there is none yet. `now` is of a monotonic clock, in seconds.
        """
        attachment = self.attach()
        if attachment.feed is Feed.SHARD or self._couchdb.feed is not FeedChoice.AUTO or now < self._ask_again_at:
            return attachment
        self._asked_again += 1
        self._ask_again_at = now + _ASKING_AGAIN.bound(self._asked_again)
        if self._asked_again == 1:
            # It was asked for a moment ago.
            return attachment
        name = self._asked_name()
        if name is None or closed_page(self._client, name, self._couchdb.auth_db) is not None:
            return attachment
        return self._take(Attachment(name, Feed.SHARD))

    def confirm(self, attachment: Attachment, membership: Membership) -> Attachment:
        """Return the attachment under the name that the cluster knows the node by; raises CouchError."""
        if attachment.node in membership.all_nodes or self._couchdb.node != "_local":
            return attachment
        name = self._client.node_name()
        if name is None or name == attachment.node:
            return attachment
        log.warning("the node has another name", before=attachment.node)
        return self._take(Attachment(name, Feed.SHARD))

    def _asked_name(self) -> str | None:
        try:
            return self._client.node_name()
        except (InterruptedRequestError, RefusedError):
            raise
        except CouchError:
            # Closed still, or the server is away, which the listener finds out and says.
            return None

    def _take(self, attachment: Attachment) -> Attachment:
        self.current = attachment
        log.info("attached", node=attachment.node, feed=attachment.feed.value, url=self._couchdb.url)
        return attachment


def attach(client: Client, couchdb: CouchDBConfig) -> Attachment:
    """Find out which node answers and how to read it. Raises CouchError.

    The absence of `/_node/_local` is the sign of a server without shards (PouchDB Server, CouchDB 1.x and 2.x). A proxy
    that forbids `/_node` makes one without shards of any server. Where the database's feed is configured, nothing is
    asked at all.
    """
    if couchdb.feed is FeedChoice.DATABASE:
        return Attachment(couchdb.node, Feed.DATABASE)
    if couchdb.node != "_local":
        return Attachment(couchdb.node, Feed.SHARD)
    if not isinstance(name := _name_or_obstacle(client, couchdb), str):
        time.sleep(_SURE_SECONDS)
        name = _name_or_obstacle(client, couchdb)
    if isinstance(name, str):
        return Attachment(name, Feed.SHARD)
    if name is not None:
        return _closed(client, couchdb, name)
    if couchdb.feed is FeedChoice.AUTO:
        return Attachment("_local", Feed.DATABASE)
    raise NoShardsError(
        "the server has no /_node/_local, so it has no shards to follow; set couchdb.feed to 'auto' or 'database'"
    )


def closed_page(client: Client, name: str, auth_db: str) -> CouchError | None:
    """Return the refusal of a page without which shards cannot be followed; None where none is known to be closed.

    A proxy can let at some of these pages alone. Raises InterruptedRequestError and RefusedError.
    """
    for ask in (client.membership, lambda: client.shard_map(name, auth_db)):
        try:
            ask()
        except ForbiddenError as error:
            return error
        except (InterruptedRequestError, RefusedError):
            raise
        except CouchError as error:
            # Of this moment, as far as anybody knows: looks at the cluster ask again, and say so.
            log.debug("a page of the cluster cannot be read now", kind=error.kind, error=str(error))
    return None


def _name_or_obstacle(client: Client, couchdb: CouchDBConfig) -> str | CouchError | None:
    """Return the node's name, or what keeps shards from this instance, or None on a server without shards.

    A page that is missing is believed only of something that says at `/` what it is: a proxy whose server is not there
    yet can answer every path with 404. CouchDB 3 has the page, so something before it hides it.
    """
    try:
        name = client.node_name()
    except (ForbiddenError, UnexpectedAnswerError) as error:
        # Something before the server keeps the page, or sends those who ask for it elsewhere.
        return error
    if name is not None:
        return closed_page(client, name, couchdb.auth_db) or name
    welcome = client.welcome()
    if not welcome.is_known:
        raise UnexpectedAnswerError("GET /: the answer does not say what server this is, and GET /_node/_local is none")
    if welcome.has_shards:
        return HiddenNodesError(f"CouchDB {welcome.version} has /_node/_local, and something before it hides that page")
    return None


def _closed(client: Client, couchdb: CouchDBConfig, error: CouchError) -> Attachment:
    """Return how to read a server whose `/_node` something before it keeps closed. Raises CouchError.

    A proxy that is being set up can forbid everything for a while. So the closed page is believed only where the page
    of the authentication database is open.
    """
    if couchdb.feed is FeedChoice.SHARD:
        raise type(error)(
            f"{error}: shards are read through /_node; let peruserd's account at it, or set couchdb.feed to 'database'"
        ) from error
    client.documents_in(f"/{quoted(couchdb.auth_db)}")
    log.warning(
        "the pages of nodes are closed; users are served by the feed of the authentication database",
        error=str(error),
        advice="run one instance only, because none can hear of others; or let the account at /_node",
    )
    return Attachment("_local", Feed.DATABASE)
