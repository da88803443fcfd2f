"""The paths of CouchDB's pages for one node, or for one copy of a shard."""

from peruserd.core.cluster.views import Copy
from peruserd.couch.session import quoted


def map_path(node: str, database: str) -> str:
    """Return the path of a database's shard map in a node's list of databases."""
    return f"/_node/{quoted(node)}/_dbs/{quoted(database)}"


def copy_path(copy: Copy) -> str:
    """Return the path of one copy of a shard, which is the same through every node."""
    return f"/_node/{quoted(copy.node)}/{quoted(copy.shard_name)}"
