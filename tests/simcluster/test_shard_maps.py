"""Shard map documents: nodes that learned of different things agree again."""

from hypothesis import given, settings
from hypothesis import strategies as st

from peruserd.core.ownership.ranges import HASH_SPACE, Range, ShardMap
from peruserd.simcluster.model.shard_maps import Added, Life, MapDocument, Split, join

RANGES = ("00000000-7fffffff", "80000000-ffffffff")
HALVES = {
    "00000000-7fffffff": ("00000000-3fffffff", "40000000-7fffffff"),
    "80000000-ffffffff": ("80000000-bfffffff", "c0000000-ffffffff"),
}
NODES = ("node1", "node2", "node3")

# Changes of a map that has copies on the first three of these nodes; `node4` can get copies.
Change = tuple[str, str, str]
CHANGES = st.tuples(
    st.sampled_from(["add", "remove", "split"]), st.sampled_from(RANGES), st.sampled_from([*NODES, "node4"])
)


def _made() -> MapDocument:
    added = tuple(Added(covered, node) for covered in RANGES for node in NODES)
    return MapDocument("db", (Life(".100", added),), frozenset())


def _split(document: MapDocument, entry: Split) -> MapDocument:
    low, high = map(Range.parse, entry.halves)
    return document.split(Range.parse(entry.covered), (low, high), entry.node)


def _changed(document: MapDocument, changes: list[Change]) -> MapDocument:
    """Make those of the changes that can be made."""
    for what, covered, node in changes:
        wanted = Range.parse(covered)
        there = document.placed.get(node, {})
        if what == "add" and not any(each.overlaps(wanted) for each in there):
            document = document.add(wanted, node)
        elif what == "remove" and wanted in there:
            document = document.remove(wanted, node)
        elif what == "split" and wanted in there:
            document = _split(document, Split(covered, HALVES[covered], node))
    return document


def _entries(document: MapDocument) -> set[object]:
    assert document.current is not None
    return set(document.current.changes)


SPLITS = [Split(covered, halves, node) for covered, halves in HALVES.items() for node in NODES]


@settings(deadline=None)
@given(st.sets(st.sampled_from(SPLITS)), st.sets(st.sampled_from(SPLITS)))
def test_splits_learned_apart_come_together(ours: set[Split], theirs: set[Split]) -> None:
    """Two nodes that each saw some splits know all of them after they meet, and have the same document."""
    one, other = _made(), _made()
    for entry in ours:
        one = _split(one, entry)
    for entry in theirs:
        other = _split(other, entry)
    joined = join(one, other)
    assert joined.as_json()["by_node"] == join(other, one).as_json()["by_node"]
    assert _entries(joined) == ours | theirs
    assert not ShardMap.build("db", ".100", {str(each): nodes for each, nodes in joined.hosts.items()}).holes()


@settings(deadline=None)
@given(*[st.lists(CHANGES, max_size=6)] * 4)
def test_copies_added_and_removed_apart_come_together(
    before: list[Change], ours: list[Change], theirs: list[Change], others: list[Change]
) -> None:
    """Three nodes know of every change and agree on the copies, whatever they did and in whatever order they meet."""
    start = _changed(_made(), before)
    one, two, three = (_changed(start, changes) for changes in (ours, theirs, others))
    joined = join(join(one, two), three)
    assert _entries(joined) == _entries(one) | _entries(two) | _entries(three)
    for other in (join(join(two, one), three), join(one, join(two, three)), join(three, join(one, two))):
        assert other.placed == joined.placed
    assert join(joined, two) is joined
    assert _entries(join(two, joined)) == _entries(joined)
    # Nobody who only learns what was done later loses or keeps a copy by it.
    assert join(start, one).placed == one.placed


def test_a_copy_removed_apart_from_its_being_made_again_is_gone_only_once() -> None:
    """One side removes a copy. The other side removes it and makes a new one, which is there after they meet."""
    covered = Range.parse(RANGES[0])
    removed = _made().remove(covered, "node3")
    again = removed.add(covered, "node3")
    for joined in (join(removed, again), join(_made().remove(covered, "node3"), again)):
        assert covered in joined.placed["node3"]
    assert covered not in join(again.remove(covered, "node3"), removed).placed["node3"]


def test_the_halves_of_a_copy_removed_apart_stay() -> None:
    """The node that split its copy had it still; what it made of it is in nobody's removal."""
    covered = Range.parse(RANGES[0])
    split = _split(_made(), SPLITS[2])
    joined = join(_made().remove(covered, "node3"), split)
    assert joined.placed["node3"] == split.placed["node3"]


def test_the_change_log_tells_of_copies_added_and_removed() -> None:
    """As CouchDB's own document has it after an operator has moved a copy."""
    covered = Range.parse(RANGES[0])
    document = _made().add(covered, "node4").remove(covered, "node1").as_json()
    assert document["changelog"][-2:] == [["add", RANGES[0], "node4"], ["delete", RANGES[0], "node1"]]
    assert document["by_node"]["node1"] == [RANGES[1]]
    assert document["by_node"]["node4"] == [RANGES[0]]
    assert document["by_range"][RANGES[0]] == ["node2", "node3", "node4"]
    assert document["_rev"].startswith("3-")


def test_a_life_that_ended_stays_ended() -> None:
    """A node that was away when a database was deleted and made again takes over the new life."""
    old = _made()
    remade = old.deleted().recreated(Life(".101", (Added("00000000-ffffffff", "node1"),)))
    for joined in (join(old, remade), join(remade, old)):
        assert joined.current is not None
        assert joined.current.suffix == ".101"
    assert join(old.deleted(), old).current is None


def test_hosts_of_a_place_are_the_union_while_a_range_is_split() -> None:
    """The whole range on two nodes and its halves on one: each place has all three."""
    split = _split(_made(), SPLITS[0])
    assert len(split.hosts) == 4
    for position in (0, HASH_SPACE // 4, HASH_SPACE // 2 - 1):
        assert split.hosts_of(position) == set(NODES)


def test_the_revision_counts_what_happened() -> None:
    """Made, split three times, deleted, made again: as in the recording, that is 1, 4, 5 and 6."""
    document = _made()
    assert document.rev.startswith("1-")
    for entry in SPLITS[:3]:
        document = _split(document, entry)
    assert document.rev.startswith("4-")
    assert document.deleted().rev.startswith("5-")
    assert document.deleted().recreated(Life(".101", ())).rev.startswith("6-")
