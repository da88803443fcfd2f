"""Whether peruserd's own database can be trusted for the journal and the record of templates."""

from collections.abc import Callable

from peruserd.core.configuration.config import Config
from peruserd.couch.client import Client
from peruserd.couch.session import Session
from peruserd.couch.single_journal import prepare_journal
from peruserd.supervisor.cluster_reader import ClusterReader
from peruserd.supervisor.loop import Supervisor


def own_database_test(
    config: Config, session: Session, cluster_reader: ClusterReader, supervisor: Supervisor
) -> Callable[[], bool]:
    """Return a function that says so. On a server without shards it makes the database. It can raise CouchError."""

    def is_usable() -> bool:
        if cluster_reader.shard_node() is None:
            return prepare_journal(Client(session), config.cluster.database)
        # The leases are in the same database. If they can be read, it is ours and closed to others.
        return supervisor.leases_readable

    return is_usable
