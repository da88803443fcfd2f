"""Shard map documents: nodes that learned of different things agree again."""

from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.ranges import HASH_SPACE, ShardMap
from peruserd.simcluster.maps import Added, Life, MapDocument, Split, join

RANGES = ("00000000-7fffffff", "80000000-ffffffff")
HALVES = {
    "00000000-7fffffff": ("00000000-3fffffff", "40000000-7fffffff"),
    "80000000-ffffffff": ("80000000-bfffffff", "c0000000-ffffffff"),
}
NODES = ("node1", "node2", "node3")


def _made() -> MapDocument:
    added = tuple(Added(covered, node) for covered in RANGES for node in NODES)
    return MapDocument("db", (Life(".100", added),), frozenset())


SPLITS = [Split(covered, halves, node) for covered, halves in HALVES.items() for node in NODES]


@given(st.sets(st.sampled_from(SPLITS)), st.sets(st.sampled_from(SPLITS)))
def test_splits_learned_apart_come_together(ours: set[Split], theirs: set[Split]) -> None:
    """Two nodes that each saw some splits know all of them after they meet, and have the same document."""
    one, other = _made(), _made()
    for entry in ours:
        one = one.split(entry)
    for entry in theirs:
        other = other.split(entry)
    joined = join(one, other)
    assert joined.as_json()["by_node"] == join(other, one).as_json()["by_node"]
    assert joined.current is not None
    assert set(joined.current.splits) == ours | theirs
    assert not ShardMap.build("db", ".100", {str(each): nodes for each, nodes in joined.hosts.items()}).holes()


def test_a_life_that_ended_stays_ended() -> None:
    """A node that was away when a database was deleted and made again takes over the new life."""
    old = _made()
    remade = old.dead().reborn(Life(".101", (Added("00000000-ffffffff", "node1"),)))
    for joined in (join(old, remade), join(remade, old)):
        assert joined.current is not None
        assert joined.current.suffix == ".101"
    assert join(old.dead(), old).current is None


def test_hosts_of_a_place_are_the_union_while_a_range_is_split() -> None:
    """The whole range on two nodes and its halves on one: each place has all three."""
    split = _made().split(SPLITS[0])
    assert len(split.hosts) == 4
    for position in (0, HASH_SPACE // 4, HASH_SPACE // 2 - 1):
        assert split.hosts_of(position) == set(NODES)


def test_the_revision_counts_what_happened() -> None:
    """Made, split three times, deleted, made again: as in the recording, that is 1, 4, 5 and 6."""
    document = _made()
    assert document.rev.startswith("1-")
    for entry in SPLITS[:3]:
        document = document.split(entry)
    assert document.rev.startswith("4-")
    assert document.dead().rev.startswith("5-")
    assert document.dead().reborn(Life(".101", ())).rev.startswith("6-")
