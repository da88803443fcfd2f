"""Finds out whether a user is ready, on the server itself; it changes nothing, and asks no other instance."""

from peruserd.core.cluster.views import Feed
from peruserd.core.common.names import database_name, user_document_id
from peruserd.core.configuration.config import Config
from peruserd.core.users.readiness import Readiness, UserState, is_whole_look, lets_in, readiness, unservable
from peruserd.couch.client import Client
from peruserd.couch.copies import Copies, ShardLayout, SingleLayout
from peruserd.couch.errors import NotFoundError


class ReadinessReader:
    """Reads the state of users, from any number of threads."""

    def __init__(self, client: Client, copies: Copies, prefix: str) -> None:
        self._client = client
        self._copies = copies
        self._prefix = prefix

    def look(self, user: str, number: int = 0) -> Readiness | None:
        """Return the state of a user; `number` counts the looks at the same user, from 0. Raises CouchError.

        Returns None if a small look (see `core.users.readiness`) shows that the user is not served yet. A small look is
        one request. A whole look is a request to each copy of the document and of the database.
        """
        if unservable(self._prefix, user) is not None:
            return Readiness(user, UserState.UNSERVABLE)
        database = database_name(self._prefix, user)
        if not is_whole_look(number) and not self._seems_served(user, database):
            return None
        evidence = self._copies.evidence(user_document_id(user))
        return readiness(user, evidence, self._copies.security(database))

    def _seems_served(self, user: str, database: str) -> bool:
        try:
            return lets_in(self._client.security(database), user)
        except NotFoundError:
            return False


def open_reader(client: Client, feed: Feed, node: str, config: Config) -> ReadinessReader:
    """Return the reader for a server with this kind of feed, attached to this node."""
    auth_db = config.couchdb.auth_db
    layout = SingleLayout(client, node, auth_db) if feed is Feed.DATABASE else ShardLayout(client, "_local", auth_db)
    return ReadinessReader(client, Copies(client, layout), config.databases.prefix)
