"""The journal's database on a server without shards, where one instance serves everybody and nobody shares it.

A cluster's is made and guarded by `couch.cluster_database`; here it is made by the one instance there is.
"""

from typing import Final

from peruserd.core.config import DatabasesConfig
from peruserd.couch.client import Client
from peruserd.couch.errors import ConflictError
from peruserd.couch.journal import Journal

_MARKER_ID: Final = "peruserd"
_MARKER: Final = {"type": "peruserd.cluster", "format": 1}
_ADMINS_ONLY: Final = {"admins": {"roles": ["_admin"]}, "members": {"roles": ["_admin"]}}


def prepare_journal(client: Client, name: str) -> bool:
    """Make the database and mark it, unless it is there; False where it is somebody else's. Raises CouchError."""
    journal = Journal(client.session, name)
    if not client.database_exists(name):
        client.create_database(name, DatabasesConfig())
    elif journal.read(_MARKER_ID).bodies == [_MARKER]:
        return True
    elif client.documents_in(f"/{name}"):
        return False
    client.put_security(name, _ADMINS_ONLY)
    try:
        journal.write(_MARKER_ID, _MARKER, None)
    except ConflictError:
        return journal.read(_MARKER_ID).bodies == [_MARKER]
    return True
