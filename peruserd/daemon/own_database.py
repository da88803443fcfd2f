"""Whether peruserd's own database can be trusted with what an instance keeps there beside its leases."""

from collections.abc import Callable

from peruserd.core.configuration.config import Config
from peruserd.couch.client import Client
from peruserd.couch.session import Session
from peruserd.couch.single_journal import prepare_journal
from peruserd.supervisor.loop import Supervisor
from peruserd.supervisor.watcher import ClusterReader


def own_database_test(
    config: Config, session: Session, cluster_reader: ClusterReader, supervisor: Supervisor
) -> Callable[[], bool]:
    """Return a function that says so; it makes the database on a server without shards, and can raise CouchError."""

    def is_usable() -> bool:
        if cluster_reader.shard_node() is None:
            return prepare_journal(Client(session), config.cluster.database)
        # It is the database of the leases: where these can be read, it is ours and closed to others.
        return supervisor.leases_readable

    return is_usable
