"""Finding out which node answers, and how its feeds are read.

A proxy can make any answer, and somebody may be setting it up just now. So the database's own feed is used only if the
server gives the same answer twice. While that feed is used, the instance keeps asking for shards: see `Attaching`.
"""

import time
from typing import Final

import msgspec
import structlog

from peruserd.core.cluster.views import Feed
from peruserd.core.common.backoff import Backoff
from peruserd.core.configuration.choices import FeedChoice
from peruserd.core.configuration.config import CouchDBConfig
from peruserd.core.users.quarantine import Advice
from peruserd.couch.client import Client
from peruserd.couch.errors import (
    CouchError,
    ForbiddenError,
    InterruptedRequestError,
    RefusedError,
    UnexpectedAnswerError,
)
from peruserd.couch.session import quoted
from peruserd.couch.shapes import Membership

# The time between the two questions. A server without pages of nodes has none the second time either. A proxy that was
# just starting has started by then, or it answers `/` with an error as well.
_SURE_SECONDS: Final = 1.0

# Each time costs one small request. Such a server will hardly ever answer it differently.
_ASKING_AGAIN: Final = Backoff(initial_seconds=2.0, max_seconds=60.0)

log = structlog.get_logger(__name__)


class NoShardsError(CouchError):
    """The server has no shards to follow, and the configuration asks for them."""

    kind = "no_shards"
    advice = Advice.ASK_OPERATOR


class HiddenNodesError(CouchError):
    """The server has pages of nodes, and a proxy before it keeps them from this instance."""

    kind = "nodes_hidden"


class Attachment(msgspec.Struct, frozen=True):
    """The node an instance is attached to, and how its feeds are read."""

    node: str
    feed: Feed


class Attaching:
    """The attachment of an instance or a command, which can change while an instance runs.

    - An attachment stays if the configuration alone decides it.
    - If the database's feed was chosen only because pages of nodes were closed or missing, the instance changes to the
      shards as soon as these pages answer.
    - If the cluster has no node of the known name, the instance asks for the name again: the node was renamed, or had
      no name yet.
    """

    def __init__(self, client: Client, couchdb: CouchDBConfig) -> None:
        self._client = client
        self._couchdb = couchdb
        self._asked_again = 0
        self._ask_again_at = 0.0
        self.current: Attachment | None = None

    def attach(self) -> Attachment:
        """Return the attachment; the first call makes it, and raises CouchError while that is impossible."""
        return self.current or self._take(attach(self._client, self._couchdb))

    def review(self, now: float) -> Attachment:
        """Return the attachment. If pages of nodes were missing, ask for them again first; see the class.

        Raises CouchError if there is no attachment yet. `now` is of a monotonic clock, in seconds.
        """
        attachment = self.attach()
        if attachment.feed is Feed.SHARD or self._couchdb.feed is not FeedChoice.AUTO or now < self._ask_again_at:
            return attachment
        self._asked_again += 1
        self._ask_again_at = now + _ASKING_AGAIN.bound(self._asked_again)
        if self._asked_again == 1:
            # `attach` asked a moment ago.
            return attachment
        name = self._asked_name()
        if name is None or closed_page(self._client, name, self._couchdb.auth_db) is not None:
            return attachment
        return self._take(Attachment(name, Feed.SHARD))

    def confirm(self, attachment: Attachment, membership: Membership) -> Attachment:
        """Return the attachment, with the name by which the cluster knows the node; raises CouchError."""
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
            # The page is still closed, or the server is away; in that case the listener notices and logs it.
            return None

    def _take(self, attachment: Attachment) -> Attachment:
        self.current = attachment
        log.info("attached", node=attachment.node, feed=attachment.feed.value, url=self._couchdb.url)
        return attachment


def attach(client: Client, couchdb: CouchDBConfig) -> Attachment:
    """Find out which node answers and how to read it. Raises CouchError.

    A server without the page `/_node/_local` has no shards that can be followed. PouchDB Server, CouchDB 1.x and 2.x
    are such servers. A proxy that hides the page makes CouchDB 3 look like one of them. No request is sent if the
    configuration names the node or asks for the database's feed.
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
    """Return the refusal of a page that is needed to follow shards; None if no such page is known to be closed.

    A proxy can open only some of these pages. Raises InterruptedRequestError and RefusedError.
    """
    for ask in (client.membership, lambda: client.shard_map(name, auth_db)):
        try:
            ask()
        except ForbiddenError as error:
            return error
        except (InterruptedRequestError, RefusedError):
            raise
        except CouchError as error:
            # The failure may pass. Each later reading of the cluster asks again, and logs a failure.
            log.debug("a page of the cluster cannot be read now", kind=error.kind, error=str(error))
    return None


def _name_or_obstacle(client: Client, couchdb: CouchDBConfig) -> str | CouchError | None:
    """Return the node's name, the error that keeps this instance from the shards, or None without shards.

    A missing page counts only if the server says at `/` what it is. A proxy whose server has not started yet can answer
    every path with 404. CouchDB 3 has the page, so there a proxy hides it.
    """
    try:
        name = client.node_name()
    except (ForbiddenError, UnexpectedAnswerError) as error:
        # A proxy before the server closes the page, or redirects the request.
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
    """Return how to read a server whose `/_node` is closed by a proxy. Raises CouchError.

    A proxy can forbid everything while somebody sets it up. So the closed page counts only if the page of the
    authentication database is open.
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
