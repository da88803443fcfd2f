"""Paths of pages that CouchDB has for one node, or for one copy of a shard."""

from peruserd.core.cluster.views import Copy
from peruserd.couch.session import quoted


def map_path(node: str, database: str) -> str:
    """Return the path of a database's shard map in a node's list of databases."""
    return f"/_node/{quoted(node)}/_dbs/{quoted(database)}"


def copy_path(copy: Copy) -> str:
    """Return the path at which one copy of a shard is asked, through whichever node."""
    return f"/_node/{quoted(copy.node)}/{quoted(copy.shard_name)}"
