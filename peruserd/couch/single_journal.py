"""The journal's database on a server without shards, where only one instance runs.

On a cluster `couch.cluster_database` makes and guards it.
"""

import time

import structlog

from peruserd.core.cluster.cluster_database import ADMINS_ONLY, MARKER, MARKER_ID, is_marker
from peruserd.core.configuration.config import DatabasesConfig
from peruserd.core.users.security import is_blank
from peruserd.couch.client import Client
from peruserd.couch.cluster_database import CLOSED_UNCLEARED
from peruserd.couch.deletions import DeletionJournal
from peruserd.couch.errors import ConflictError
from peruserd.couch.journal import Journal
from peruserd.couch.session import quoted

log = structlog.get_logger(__name__)


def prepare_journal(client: Client, name: str) -> bool:
    """Make the database, mark it and close it to all but server admins; False if it is somebody else's.

    A database without the marker counts as ours if it never had a document and gives nobody access: an earlier attempt
    to make it may have been cut short. Raises CouchError.
    """
    journal = Journal(client.session, name)
    if not client.database_exists(name):
        client.create_database(name, DatabasesConfig())
    elif _is_marked(journal):
        _keep_closed(client, name, DeletionJournal(journal))
        return True
    elif client.documents_in(f"/{quoted(name)}") or not is_blank(client.security(name)):
        return False
    client.put_security(name, ADMINS_ONLY)
    try:
        journal.write(MARKER_ID, MARKER, None)
    except ConflictError:
        return _is_marked(journal)
    return True


def _is_marked(journal: Journal) -> bool:
    bodies = [each for each in journal.read(MARKER_ID).bodies if each is not None]
    return bool(bodies) and all(is_marker(each) for each in bodies)


def _keep_closed(client: Client, name: str, journal: DeletionJournal) -> None:
    found = client.security(name)
    if found == ADMINS_ONLY:
        return
    log.error(
        "journal of deletions is not closed to all but server admins; closing it, and pausing all deletions",
        database=name,
        found=found,
        advice="peruserd deletions list --all; peruserd deletions resume",
    )
    client.put_security(name, CLOSED_UNCLEARED)
    journal.distrust(time.time())
    client.put_security(name, ADMINS_ONLY)
