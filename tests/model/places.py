"""The places of documents, and their owners in a cluster where all instances know each other."""

from collections.abc import Collection
from functools import lru_cache

from peruserd.core.ownership.hashing import document_hash
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.ownership.ranges import ShardMap
from peruserd.simcluster.model.nodes import Node
from peruserd.simcluster.model.shard_maps import MapDocument
from tests.model.witness import AUTH_DB, ObservedCluster


@lru_cache(maxsize=256)
def as_shard_map(document: MapDocument) -> ShardMap:
    """Return the shard map of a database that is there, as peruserd reads it; neither of the two ever changes."""
    assert document.current is not None
    hosts = {str(covered): nodes for covered, nodes in document.hosts.items()}
    return ShardMap.build(document.name, document.current.suffix, hosts)


def shard_map_of(model: ObservedCluster) -> ShardMap:
    """Return the shard map of the authentication database as the first node knows it."""
    return as_shard_map(model.nodes[0].maps[AUTH_DB])


def owner_of(model: ObservedCluster, instances: Collection[str], document_id: str) -> Node:
    """Return the node whose instance owns a document; `instances` are the live ones, by the names of their nodes."""
    shard_map = shard_map_of(model)
    covered = shard_map.ranges_holding(document_hash(document_id))[0]
    owner = Ownership.of(shard_map, covered, tuple(sorted(instances))).owner(document_id)
    return model.by_name[str(owner)]
