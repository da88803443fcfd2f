"""The places of documents, and their owners in a cluster where all instances know each other."""

from collections.abc import Collection

from peruserd.core.ownership.hashing import document_hash
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.ownership.ranges import ShardMap
from peruserd.simcluster.model.nodes import Node
from tests.model.witness import AUTH_DB, ObservedCluster


def shard_map_of(model: ObservedCluster) -> ShardMap:
    """Return the shard map of the authentication database as the first node knows it."""
    document = model.nodes[0].maps[AUTH_DB]
    assert document.current is not None
    hosts = {str(covered): nodes for covered, nodes in document.hosts.items()}
    return ShardMap.build(AUTH_DB, document.current.suffix, hosts)


def owner_of(model: ObservedCluster, instances: Collection[str], document_id: str) -> Node:
    """Return the node whose instance owns a document; `instances` are the live ones, by the names of their nodes."""
    shard_map = shard_map_of(model)
    (covered, *_) = [each for each in shard_map.hosts if document_hash(document_id) in each]
    owner = Ownership.of(shard_map, covered, tuple(sorted(instances))).owner(document_id)
    return model.by_name[str(owner)]
