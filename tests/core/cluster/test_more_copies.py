"""How a database gets more copies."""

from typing import Any

from peruserd.core.cluster.more_copies import nodes_to_add, with_copies

MAP: dict[str, Any] = {
    "_id": "peruserd",
    "_rev": "1-a",
    "shard_suffix": [46, 49],
    "changelog": [["add", "00000000-ffffffff", "n1"]],
    "by_node": {"n1": ["00000000-ffffffff"]},
    "by_range": {"00000000-ffffffff": ["n1"]},
    "props": {},
}


def test_as_many_nodes_get_a_copy_as_are_missing() -> None:
    """Nodes without one, in their order, and no more than there are."""
    assert nodes_to_add(("n1", "n2"), ("n1",), ("n1", "n3", "n4"), 3) == ("n3", "n4")
    assert nodes_to_add(("n1", "n2"), ("n1", "n2"), ("n1", "n2", "n3", "n4"), 3) == ("n3",)
    assert nodes_to_add(("n1", "n2"), ("n1", "n2"), ("n1", "n2", "n3"), 2) == ()
    assert nodes_to_add(("n1", "n2"), (), ("n1", "n2"), 3) == ()


def test_a_map_with_more_copies_keeps_everything_else() -> None:
    """All that CouchDB reads (nodes, ranges, the log of changes) tells of the new copies; the old map is kept."""
    changed = with_copies(MAP, ["n2"])
    assert changed == {
        **MAP,
        "changelog": [["add", "00000000-ffffffff", "n1"], ["add", "00000000-ffffffff", "n2"]],
        "by_node": {"n1": ["00000000-ffffffff"], "n2": ["00000000-ffffffff"]},
        "by_range": {"00000000-ffffffff": ["n1", "n2"]},
    }
    assert with_copies(changed, ["n1", "n2"]) == changed
    assert MAP["by_range"] == {"00000000-ffffffff": ["n1"]}
