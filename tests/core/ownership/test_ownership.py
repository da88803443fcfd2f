import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from peruserd.core.cluster.views import View
from peruserd.core.ownership.hashing import document_hash, document_key
from peruserd.core.ownership.ownership import Owners, Ownership
from peruserd.core.ownership.ranges import HASH_SPACE, WHOLE_SPACE, Range, ShardMap

LOWER, UPPER = Range(0, 0x7FFFFFFF), Range(0x80000000, 0xFFFFFFFF)
HOSTS = ("n1", "n2", "n3")


def _map(hosts: dict[Range, list[str]]) -> ShardMap:
    return ShardMap.build("_users", ".1", {str(each): nodes for each, nodes in hosts.items()})


def _whole(hosts: list[str], alive: list[str]) -> Ownership:
    """The ownership of a database of one range."""
    return Ownership.of(_map({WHOLE_SPACE: hosts}), WHOLE_SPACE, alive)


def _shard_map(view: View) -> ShardMap:
    assert view.shard_map is not None
    return view.shard_map


def _ownerships(shard_map: ShardMap, document: str, instances: tuple[str, ...]) -> list[Ownership]:
    """The ownership as the listener of each range that holds the document sees it."""
    holding = shard_map.ranges_holding(document_hash(document))
    return [Ownership.of(shard_map, each, instances) for each in holding]


def _live_hosts(shard_map: ShardMap, position: int, instances: tuple[str, ...]) -> set[str]:
    return set(shard_map.hosts_of(position)).intersection(instances)


@given(view=st.from_type(View))
def test_every_document_has_exactly_one_owner(view: View, documents: tuple[str, ...]) -> None:
    """Exactly one live instance owns a document, and every range that holds it says the same."""
    for document in documents:
        for ownership in _ownerships(_shard_map(view), document, view.instances):
            owner = ownership.owner(document)
            assert owner in view.instances
            assert [each for each in view.instances if ownership.belongs_to(each)(document)] == [owner]
            assert all(
                other.owner(document) == owner for other in _ownerships(_shard_map(view), document, view.instances)
            )


@given(view=st.from_type(View))
def test_shares_add_up_to_1_and_are_those_of_owners(view: View) -> None:
    """Only candidates have a share, and each range is divided completely."""
    for covered in _shard_map(view).hosts:
        ownership = Ownership.of(_shard_map(view), covered, view.instances)
        assert sum(ownership.shares.values()) == pytest.approx(1.0)
        assert set(ownership.shares) <= set(ownership.candidates)
        assert all(share > 0 for share in ownership.shares.values())


@pytest.mark.parametrize(
    ("alive", "shares"),
    [
        (HOSTS, {"n1": 1 / 3, "n2": 1 / 3, "n3": 1 / 3}),
        (("n1", "n3"), {"n1": 1 / 3, "n3": 2 / 3}),
        (("n4", "n5"), {"n4": 1 / 2, "n5": 1 / 2}),
        ((), {}),
    ],
    ids=["all", "one-lost", "adopted", "nobody"],
)
def test_the_shares_of_one_range(alive: tuple[str, ...], shares: dict[str, float]) -> None:
    """The next host takes over the part of a lost one; without any host all instances share."""
    assert _whole(list(HOSTS), list(alive)).shares == pytest.approx(shares)


def test_the_shares_of_a_range_that_is_being_split() -> None:
    """In the half that has other hosts as well, these have a part."""
    shard_map = _map({WHOLE_SPACE: ["n1"], LOWER: ["n1", "n2"]})
    assert Ownership.of(shard_map, WHOLE_SPACE, ["n1", "n2"]).shares == pytest.approx({"n1": 0.75, "n2": 0.25})


@given(view=st.from_type(View))
def test_a_host_of_the_document_owns_it_while_one_lives(view: View, documents: tuple[str, ...]) -> None:
    """An instance away from all copies of a document owns it only when no instance is beside one."""
    for document in documents:
        live_hosts = _live_hosts(_shard_map(view), document_hash(document), view.instances)
        for ownership in _ownerships(_shard_map(view), document, view.instances):
            assert ownership.owner(document) in (live_hosts or view.instances)


@given(shard_map=st.from_type(ShardMap))
def test_with_every_host_alive_owners_are_couch_perusers(shard_map: ShardMap, documents: tuple[str, ...]) -> None:
    """In a healthy cluster the owner is the one couch_peruser chooses: key modulo count in the sorted hosts."""
    everyone = tuple({node for nodes in shard_map.hosts.values() for node in nodes})
    for document in documents:
        hosts = sorted(shard_map.hosts_of(document_hash(document)))
        for ownership in _ownerships(shard_map, document, everyone):
            assert ownership.owner(document) == hosts[document_key("_users", document) % len(hosts)]


@given(view=st.from_type(View), data=st.data())
def test_when_an_instance_dies_only_its_own_documents_move(
    view: View, data: st.DataObject, documents: tuple[str, ...]
) -> None:
    """A document keeps its owner while that lives and hosts it, whoever else dies or comes back."""
    assume(len(view.instances) > 1)
    lost = data.draw(st.sampled_from(view.instances))
    left = tuple(each for each in view.instances if each != lost)
    shard_map = _shard_map(view)
    for document in documents:
        if not _live_hosts(shard_map, document_hash(document), view.instances):
            continue  # adopted: all instances share it, and share it anew
        before = _ownerships(shard_map, document, view.instances)[0].owner(document)
        after = _ownerships(shard_map, document, left)[0].owner(document)
        assert before in (after, lost)


@pytest.mark.parametrize(
    ("position", "alive", "expected"),
    [
        (1, ["n1", "n2", "n3"], "n2"),
        (1, ["n1", "n3"], "n3"),
        (1, ["n1"], "n1"),
        (2, ["n1", "n2"], "n1"),
        (2, ["n2"], "n2"),
    ],
)
def test_the_next_living_host_takes_over(
    position: int, alive: list[str], expected: str, documents: tuple[str, ...]
) -> None:
    """Owners go round the sorted hosts from the document's own position, over those that have no live instance."""
    document = next(each for each in documents if document_key("_users", each) % 3 == position)
    assert _whole(["n3", "n1", "n2"], alive).owner(document) == expected


@given(view=st.from_type(View), ends=st.lists(st.integers(0, HASH_SPACE - 1), min_size=2, max_size=2).map(sorted))
def test_owners_of_any_range_are_taken_from_all_that_overlap_it(view: View, ends: list[int]) -> None:
    """The ownership of any range, even one outside the map, has all overlapping ranges in order, and no other."""
    shard_map, covered = _shard_map(view), Range(ends[0], ends[1])
    ownership = Owners(shard_map, view.instances).of(covered)
    assert ownership.hosts == tuple((each, nodes) for each, nodes in shard_map.hosts.items() if each.overlaps(covered))
    assert ownership == Ownership.of(shard_map, covered, view.instances)


@given(view=st.from_type(View), data=st.data())
def test_what_happens_elsewhere_leaves_an_ownership_equal(view: View, data: st.DataObject) -> None:
    """Instances that host no part of a range, nor have to adopt any, come and go unnoticed by it."""
    shard_map = _shard_map(view)
    covered = data.draw(st.sampled_from(list(shard_map.hosts)))
    near = {node for each, nodes in shard_map.hosts.items() if each.overlaps(covered) for node in nodes}
    ends = {place for each in shard_map.hosts for place in (each.begin, each.end + 1)} | {covered.begin}
    assume(all(_live_hosts(shard_map, place, view.instances) for place in ends if place in covered))
    others = tuple(data.draw(st.permutations(sorted(near.intersection(view.instances)))))
    elsewhere = tuple(data.draw(st.sets(st.sampled_from(["m1", "n0", "n9"]))))
    assert Ownership.of(shard_map, covered, others + elsewhere) == Ownership.of(shard_map, covered, view.instances)


def test_a_dead_copy_whose_parts_are_served_is_not_adopted() -> None:
    """The last old copy of a range that others have split belongs to nobody alive, and needs no adopters."""
    shard_map = _map({WHOLE_SPACE: ["n1"], LOWER: ["n2"], UPPER: ["n3"]})
    assert Ownership.of(shard_map, WHOLE_SPACE, ["n2", "n3", "n4"]).candidates == ("n2", "n3")


def test_a_range_that_lies_elsewhere_does_not_matter() -> None:
    """Hosts of another part of the hash space, alive or not, change nothing for a range."""
    near = {LOWER: ["n1", "n2"]}
    one = Ownership.of(_map({**near, UPPER: ["n3"]}), LOWER, ["n1", "n2", "n3"])
    other = Ownership.of(_map({**near, UPPER: ["n1", "n4"]}), LOWER, ["n2", "n1"])
    assert one == other


@given(ownership=st.from_type(Ownership))
def test_only_candidates_own_documents(ownership: Ownership, documents: tuple[str, ...]) -> None:
    """Every owner of a document of the range is among the range's candidates, which are sorted and named once."""
    owners = {ownership.owner(document) for document in documents if document_hash(document) in ownership.range}
    assert owners <= set(ownership.candidates)
    assert list(ownership.candidates) == sorted(set(ownership.candidates))


def test_the_candidates_of_a_range_are_its_living_hosts(documents: tuple[str, ...]) -> None:
    """Dead hosts and live strangers are no candidates, and each candidate owns a share."""
    ownership = _whole(["n1", "n2", "n3"], ["n1", "n3", "n4"])
    assert ownership.candidates == ("n1", "n3")
    assert {ownership.owner(document) for document in documents} == {"n1", "n3"}


def test_an_adopted_range_is_shared_by_all_who_live(documents: tuple[str, ...]) -> None:
    """A range without a living host has all live instances as candidates; the key says which, in sorted order."""
    ownership = _whole(["n1", "n2"], ["n4", "n10", "n3"])
    assert ownership.candidates == ("n10", "n3", "n4")
    for document in documents:
        expected = ("n10", "n3", "n4")[document_key("_users", document) % 3]
        assert ownership.owner(document) == expected


def test_only_the_deserted_part_of_a_range_is_adopted(documents: tuple[str, ...]) -> None:
    """A dead node still has the old range. A half on a living node belongs to that node alone."""
    shard_map = _map({WHOLE_SPACE: ["n1"], LOWER: ["n2"], UPPER: ["n1"]})
    ownership = Ownership.of(shard_map, WHOLE_SPACE, ["n2", "n3"])
    lower = {ownership.owner(document) for document in documents if document_hash(document) in LOWER}
    upper = {ownership.owner(document) for document in documents if document_hash(document) in UPPER}
    assert (lower, upper) == ({"n2"}, {"n2", "n3"})


def test_nobody_owns_anything_while_nobody_lives(documents: tuple[str, ...]) -> None:
    """Without a live instance there is no owner and no candidate, and no instance is told that it is one."""
    split = Ownership.of(_map({WHOLE_SPACE: ["n1"], LOWER: ["n2"]}), WHOLE_SPACE, [])
    for ownership in (_whole(["n1", "n2"], []), split):
        assert ownership.candidates == ()
        for document in documents:
            assert ownership.owner(document) is None
            assert not ownership.belongs_to("n1")(document)


def test_the_name_of_the_database_is_part_of_the_key(documents: tuple[str, ...]) -> None:
    """Two authentication databases with the same documents share them out differently."""
    ring = ["n1", "n2", "n3"]
    owners = [
        [
            Ownership.of(ShardMap.build(database, ".1", {str(WHOLE_SPACE): ring}), WHOLE_SPACE, ring).owner(document)
            for document in documents
        ]
        for database in ("_users", "auth")
    ]
    assert owners[0] != owners[1]


@given(view=st.from_type(View), before=st.sets(st.sampled_from(["n1", "n10", "n2", "n3", "n4"])), data=st.data())
def test_a_gain_is_noticed(view: View, before: set[str], data: st.DataObject, documents: tuple[str, ...]) -> None:
    """If an instance owns a document that it did not own before, `gains` says so."""
    shard_map = _shard_map(view)
    covered = data.draw(st.sampled_from(list(shard_map.hosts)))
    old, new = Ownership.of(shard_map, covered, before), Ownership.of(shard_map, covered, view.instances)
    for instance in view.instances:
        was_mine, mine = old.belongs_to(instance), new.belongs_to(instance)
        gained = [each for each in documents if document_hash(each) in covered and mine(each) and not was_mine(each)]
        assert new.gains(instance, old) or not gained


@given(ownership=st.from_type(Ownership))
def test_an_ownership_gains_nothing_over_itself(ownership: Ownership) -> None:
    """The same ownership, as read back from disk, costs nobody a scan."""
    copied = msgspec.msgpack.decode(msgspec.msgpack.encode(ownership), type=Ownership)
    assert copied == ownership
    assert not any(copied.gains(instance, ownership) for instance in ownership.candidates)


def test_only_those_who_inherit_gain() -> None:
    """One of three hosts dies, and the next one gains its documents. When it returns, it alone gains."""
    all_three = _whole(["n1", "n2", "n3"], ["n1", "n2", "n3"])
    without_n2 = _whole(["n1", "n2", "n3"], ["n1", "n3"])
    assert [each for each in ("n1", "n2", "n3") if without_n2.gains(each, all_three)] == ["n3"]
    assert [each for each in ("n1", "n2", "n3") if all_three.gains(each, without_n2)] == ["n2"]


@given(before=st.from_type(View), after=st.from_type(View), data=st.data())
def test_a_gain_is_noticed_whatever_has_changed(
    before: View, after: View, data: st.DataObject, documents: tuple[str, ...]
) -> None:
    """Where hosts, their splits and live instances change all at once, what comes to an instance is still noticed."""
    covered = data.draw(st.sampled_from(list(_shard_map(after).hosts)))
    old, new = (Ownership.of(_shard_map(view), covered, view.instances) for view in (before, after))
    for instance in after.instances:
        was_mine, mine = old.belongs_to(instance), new.belongs_to(instance)
        gained = [each for each in documents if document_hash(each) in covered and mine(each) and not was_mine(each)]
        assert new.gains(instance, old) or not gained


def test_hosts_that_change_nothing_for_an_instance_are_no_gain() -> None:
    """A split that leaves every owner in place, and a host without an instance beside a lonely one, cost no scan."""
    split = Ownership.of(_map({WHOLE_SPACE: ["n1", "n3"], LOWER: ["n2"], UPPER: ["n2"]}), WHOLE_SPACE, HOSTS)
    whole = _whole(["n1", "n2", "n3"], ["n1", "n2", "n3"])
    assert split != whole
    assert not any(split.gains(each, whole) or whole.gains(each, split) for each in HOSTS)
    alone = _whole(["n1"], ["n1"])
    joined = Ownership.of(_map({WHOLE_SPACE: ["n1"], LOWER: ["n2"]}), WHOLE_SPACE, ["n1"])
    assert not joined.gains("n1", alone)
    assert not alone.gains("n1", joined)


def test_another_number_of_hosts_may_mean_a_gain() -> None:
    """Where others owned a part and the hosts are more or fewer, a gain cannot be ruled out for who owns anything."""
    before = _whole(["n1", "n2"], ["n1", "n2"])
    after = _whole(["n1", "n2", "n3"], ["n1", "n2"])
    assert [each for each in HOSTS if after.gains(each, before)] == ["n1", "n2"]


def test_a_host_put_in_anothers_place_gains_alone() -> None:
    """Where one host replaces another at the same position, nobody else's documents move."""
    before, after = _whole(["n1", "n2"], list(HOSTS)), _whole(["n1", "n3"], list(HOSTS))
    assert [each for each in HOSTS if after.gains(each, before)] == ["n3"]


def test_a_gain_in_one_part_of_the_range_is_a_gain() -> None:
    """Only the upper half gets another owner. The owner of the lower half gains nothing there, and the other does."""
    before = Ownership.of(_map({WHOLE_SPACE: ["n1"]}), WHOLE_SPACE, HOSTS)
    after = Ownership.of(_map({LOWER: ["n1"], UPPER: ["n2"]}), WHOLE_SPACE, HOSTS)
    assert [each for each in HOSTS if after.gains(each, before)] == ["n2"]
    assert [each for each in HOSTS if before.gains(each, after)] == ["n1"]


def test_to_own_anything_after_nobody_lived_is_a_gain() -> None:
    """A document that belonged to nobody is new to its first owner."""
    nobody = _whole(["n1", "n2"], [])
    assert _whole(["n1", "n2"], ["n1"]).gains("n1", nobody)
    assert not nobody.gains("n1", _whole(["n1", "n2"], ["n1"]))


def test_places_at_both_ends_of_the_hash_space_are_owned() -> None:
    """Ranges that touch 0 or 2**32 - 1 are cut like any other, and a cut falls on the first place of the next range."""
    shard_map = _map(
        {Range(0, 0): ["n1"], Range(1, HASH_SPACE - 2): ["n2"], Range(HASH_SPACE - 1, HASH_SPACE - 1): ["n3"]}
    )
    assert [Ownership.of(shard_map, each, ["n1", "n2", "n3"]).candidates for each in shard_map.hosts] == [
        ("n1",),
        ("n2",),
        ("n3",),
    ]
