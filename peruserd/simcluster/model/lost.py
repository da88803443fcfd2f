"""Copies that the shard map names and whose files are gone, and how CouchDB makes them again. Pure.

The files of a deleted database go after its shard map, on each node at a moment of its own (`fabric_db_delete`). The
name of a file has the second in which the database was made. So a database that is made again in the same second can
lose files that are its own. A node makes such a file again, empty and with the object of a new database, when a
clustered request needs it (`mem3_util:get_or_create_db`), and never by itself.
"""

from collections.abc import Iterable

from peruserd.simcluster.model import errors
from peruserd.simcluster.model.cluster_model import ClusterModel
from peruserd.simcluster.model.copies import ShardCopy
from peruserd.simcluster.model.nodes import Node
from peruserd.simcluster.model.shard_maps import parse_range


def lose(node: Node, name: str, covered: str | None) -> None:
    """Remove the files of a node's copies of a database, or of its copy of one range. The shard map stays."""
    wanted = None if covered is None else parse_range(covered)
    gone = [copy for copy in node.holdings.get(name, ()) if wanted in (None, copy.range)]
    if not gone:
        raise errors.no_shard()
    for copy in gone:
        node.remove(copy)
    node.holdings[name] = [copy for copy in node.holdings[name] if copy not in gone]


def make_again(model: ClusterModel, nodes: Iterable[Node], name: str) -> list[ShardCopy]:
    """Make the copies of a database that nodes have lost, and return these."""
    made: list[ShardCopy] = []
    for node in nodes:
        document = node.database(name)
        placed = () if document is None else document.placed.get(node.name, ())
        if document is None or len(node.holdings.get(name, ())) == len(placed):
            continue
        new = [
            model.make_copy(node.name, path, covered)
            for covered in placed
            if (path := document.path(covered)) not in node.shards
        ]
        node.shards.update((copy.path, copy) for copy in new)
        node.holdings[name] = sorted([*node.holdings.get(name, ()), *new], key=lambda copy: copy.range)
        made += new
    if made:
        model.note_damage(name)
    return made


def synchronise(model: ClusterModel, at: Node, name: str) -> None:
    """Let the copies of a database replicate to each other, as an admin can ask for. The lost copies come again.

    CouchDB compares their security objects then. The one that most copies have wins, also where it is a new one's.
    """
    model.map_of(at, name)
    older = model.copies_of(at, name)
    # Nobody is there to replicate from where all are lost.
    if not older:
        return
    make_again(model, model.reachable(at), name)
    for copy in older:
        for document_id in copy.docs:
            model.spread(name, document_id, copy)
    model.note_damage(name)
    model.note_replicated_document(name)
