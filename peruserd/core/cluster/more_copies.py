"""Adding copies of a database, by the same change of its shard map that an operator makes by hand. Pure."""

from collections.abc import Collection, Mapping
from typing import Any


def nodes_to_add(hosts: Collection[str], live: Collection[str], able: Collection[str], wanted: int) -> tuple[str, ...]:
    """Return the nodes that should get a copy, so that `wanted` copies are alive, or as many as `able` nodes allow.

    `hosts` are the nodes of the shard map, and `live` are those among them with a working copy.
    """
    spare = sorted(set(able).difference(hosts))
    return tuple(spare[: max(0, wanted - len(live))])


def with_copies(document: Mapping[str, Any], nodes: Collection[str]) -> dict[str, Any]:
    """Return a shard map, as CouchDB keeps it, with an additional copy of each range on each of these nodes."""
    changelog = list(document.get("changelog", ()))
    by_node = {node: list(ranges) for node, ranges in document["by_node"].items()}
    by_range = {covered: list(hosts) for covered, hosts in document["by_range"].items()}
    for node in sorted(nodes):
        for covered in sorted(by_range):
            if node not in by_range[covered]:
                changelog.append(["add", covered, node])
                by_node.setdefault(node, []).append(covered)
                by_range[covered].append(node)
    return {**document, "changelog": changelog, "by_node": by_node, "by_range": by_range}
