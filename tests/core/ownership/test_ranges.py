from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.ownership.ranges import HASH_SPACE, WHOLE_SPACE, Range, ShardMap, split_evenly

POSITIONS = st.integers(0, HASH_SPACE - 1)
RANGES = st.tuples(POSITIONS, POSITIONS).map(lambda ends: Range(min(ends), max(ends)))


@given(each=RANGES)
def test_a_range_is_read_as_it_is_written(each: Range) -> None:
    """A range's text is CouchDB's, two times eight hexadecimal digits, and reading it gives the range back."""
    assert str(each) == f"{each.begin:08x}-{each.end:08x}"
    assert Range.parse(str(each)) == each


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00000000",
        "0-7fffffff",
        "00000000-7FFFFFFF",
        "00000000-7fffffff\n",
        " 00000000-7fffffff",
        "00000000-7fffffff0",
        "00000000:7fffffff",
        "-0000001-7fffffff",
    ],
)
def test_text_that_is_no_range_is_refused(text: str) -> None:
    """A text that is no range of CouchDB's raises an error with that text."""
    with pytest.raises(ValueError, match="is not a range such as 00000000-7fffffff"):
        Range.parse(text)


def test_a_range_that_ends_before_it_begins_is_refused() -> None:
    """The ends of a range are in order."""
    with pytest.raises(ValueError, match="ends before it begins"):
        Range.parse("80000000-7fffffff")


def test_both_ends_belong_to_a_range() -> None:
    """The first and the last place are inside, their peers are not."""
    each = Range(16, 32)
    assert [place for place in (15, 16, 32, 33) if place in each] == [16, 32]


@given(first=RANGES, second=RANGES)
def test_ranges_overlap_exactly_where_a_place_is_in_both(first: Range, second: Range) -> None:
    """Two ranges overlap if an end of one lies in the other, whichever is asked."""
    shared = first.begin in second or first.end in second or second.begin in first
    assert first.overlaps(second) == second.overlaps(first) == shared


@given(first=RANGES, second=RANGES)
def test_a_range_holds_what_lies_wholly_in_it(first: Range, second: Range) -> None:
    """A range holds another one if both its ends lie inside. It overlaps each range that it holds, and itself."""
    assert first.holds(second) == (second.begin in first and second.end in first)
    assert first.holds(first)
    if first.holds(second):
        assert first.overlaps(second)
        assert first.width >= second.width
        assert (first.width == second.width) == (first == second)


def test_the_width_of_a_range_counts_its_places() -> None:
    """Both ends count."""
    assert (Range(5, 5).width, Range(0, 1).width, WHOLE_SPACE.width) == (1, 2, HASH_SPACE)


@given(count=st.one_of(st.integers(1, 300), st.sampled_from([512, 1000, 4096])))
def test_even_ranges_cover_the_hash_space_without_overlap(count: int) -> None:
    """Each place is in exactly one of the ranges, and none but the last is longer than another."""
    ranges = split_evenly(count)
    assert len(ranges) == count
    assert (ranges[0].begin, ranges[-1].end) == (0, HASH_SPACE - 1)
    assert all(one.end + 1 == following.begin for one, following in pairwise(ranges))
    lengths = [each.end - each.begin + 1 for each in ranges]
    assert len(set(lengths[:-1])) <= 1
    assert lengths[-1] - lengths[0] < count


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, ["00000000-ffffffff"]),
        (2, ["00000000-7fffffff", "80000000-ffffffff"]),
        (3, ["00000000-55555554", "55555555-aaaaaaa9", "aaaaaaaa-ffffffff"]),
        (4, ["00000000-3fffffff", "40000000-7fffffff", "80000000-bfffffff", "c0000000-ffffffff"]),
    ],
)
def test_even_ranges_are_cut_where_couchdb_cuts_them(count: int, expected: list[str]) -> None:
    """A database made with q=count has these ranges; the remainder of a division goes to the last."""
    assert [str(each) for each in split_evenly(count)] == expected


@pytest.mark.parametrize("count", [0, -1])
def test_no_database_has_less_than_one_range(count: int) -> None:
    """Cutting the space into nothing is refused."""
    with pytest.raises(ValueError, match="at least one range"):
        split_evenly(count)


def test_a_shard_map_is_in_order_whatever_the_servers_answer() -> None:
    """Ranges ascend and nodes are sorted as text and named once, so equal answers make equal maps."""
    shard_map = ShardMap.build(
        "_users", ".1", {"80000000-ffffffff": ["n2", "n10", "n2"], "00000000-7fffffff": ["n3", "n1"]}
    )
    assert list(shard_map.hosts.items()) == [
        (Range(0, 0x7FFFFFFF), ("n1", "n3")),
        (Range(0x80000000, 0xFFFFFFFF), ("n10", "n2")),
    ]


def test_a_shard_map_with_a_range_that_cannot_be_read_is_refused() -> None:
    """A map that is misunderstood in part would lose users, so it is an error."""
    with pytest.raises(ValueError, match="'all' is not a range"):
        ShardMap.build("_users", ".1", {"00000000-7fffffff": ["n1"], "all": ["n1"]})


def test_while_a_range_is_split_a_place_has_the_hosts_of_all_ranges_that_hold_it() -> None:
    """The old range on two nodes and its halves on one: each place is in two ranges, on all three nodes."""
    shard_map = ShardMap.build(
        "_users",
        ".1",
        {"00000000-ffffffff": ["n1", "n3"], "00000000-7fffffff": ["n2"], "80000000-ffffffff": ["n2"]},
    )
    assert shard_map.ranges_holding(0x7FFFFFFF) == (Range(0, 0x7FFFFFFF), WHOLE_SPACE)
    assert shard_map.ranges_holding(0x80000000) == (WHOLE_SPACE, Range(0x80000000, 0xFFFFFFFF))
    assert shard_map.hosts_of(0) == shard_map.hosts_of(HASH_SPACE - 1) == ("n1", "n2", "n3")


@given(shard_map=st.from_type(ShardMap))
def test_a_whole_map_has_no_holes(shard_map: ShardMap) -> None:
    """However far each node has split its copies, no part of the hash space is without a range."""
    assert shard_map.holes() == ()


@given(ranges=st.sets(RANGES, max_size=5), position=POSITIONS)
def test_holes_are_exactly_the_places_that_no_range_holds(ranges: set[Range], position: int) -> None:
    """Each place, the peers of every range's ends included, is either in a range or in a hole."""
    shard_map = ShardMap.build("_users", ".1", {str(each): ["n1"] for each in ranges})
    ends = {place for each in ranges for place in (each.begin - 1, each.begin, each.end, each.end + 1)}
    for place in filter(range(HASH_SPACE).__contains__, {position, 0, HASH_SPACE - 1, *ends}):
        in_hole = any(place in hole for hole in shard_map.holes())
        assert in_hole != bool(shard_map.ranges_holding(place))


@pytest.mark.parametrize(
    ("copies", "silent", "is_lacking"),
    [(3, 1, False), (3, 2, True), (2, 1, True), (1, 0, False), (1, 1, True), (4, 2, True)],
)
def test_a_range_needs_more_than_half_of_its_copies(copies: int, silent: int, *, is_lacking: bool) -> None:
    """A majority counts as for the answers to a write in CouchDB. The other range has all of its copies."""
    first, second = split_evenly(2)
    nodes = [f"n{number}" for number in range(copies)]
    shard_map = ShardMap.build("_users", ".1", {str(first): nodes, str(second): nodes})
    lacking = shard_map.without_majority({(first, node) for node in nodes[:silent]})
    assert lacking == ((first,) if is_lacking else ())
