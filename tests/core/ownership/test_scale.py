"""Functions made fast for large clusters return the same as the plain definitions. Only `bench` measures time."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.cluster.views import View, make_plan
from peruserd.core.ownership.hashing import document_hash, document_key
from peruserd.core.ownership.ownership import Owners, Ownership
from peruserd.core.ownership.ranges import WHOLE_SPACE, Range, ShardMap, split_evenly


def _plainly(shard_map: ShardMap, covered: Range, instances: tuple[str, ...]) -> Ownership:
    """An ownership by its definition, from every range and every position at which the hosts can change."""
    hosts = tuple((each, nodes) for each, nodes in shard_map.hosts.items() if each.overlaps(covered))
    alive = {node for _, nodes in hosts for node in nodes} & set(instances)
    ends = {place for each, _ in hosts for place in (each.begin, each.end + 1)}
    places = {covered.begin, *(place for place in ends if place in covered)}
    deserted = any(alive.isdisjoint(shard_map.hosts_of(place)) for place in places)
    return Ownership(
        shard_map.database,
        covered,
        hosts,
        tuple(sorted(alive)),
        tuple(sorted(instances)) if deserted else (),
    )


def _owner_plainly(shard_map: ShardMap, document: str, instances: tuple[str, ...]) -> str | None:
    """The owner by the rule in words: of the hosts, from the key's place on and round, the first with an instance."""
    hosts = shard_map.hosts_of(document_hash(document))
    key = document_key(shard_map.database, document)
    start = key % len(hosts)
    adopters = sorted(instances)
    adopter = adopters[key % len(adopters)] if adopters else None
    return next((node for node in hosts[start:] + hosts[:start] if node in instances), adopter)


def _large_map(seed: int) -> tuple[ShardMap, tuple[str, ...]]:
    """A map of 100 nodes and a few hundred ranges, some split on some of their nodes, and 50 live instances."""
    chance = random.Random(seed)
    nodes = [f"node{number:03}" for number in range(100)]
    hosts: dict[str, set[str]] = {}
    for covered in split_evenly(256):
        middle = covered.begin + covered.width // 2
        for node in chance.sample(nodes, 3):
            halves = [Range(covered.begin, middle - 1), Range(middle, covered.end)]
            for each in halves if chance.random() < 0.3 else [covered]:
                hosts.setdefault(str(each), set()).add(node)
    # One node that has never split its copy of anything.
    hosts[str(WHOLE_SPACE)] = {"node100"}
    return ShardMap.build("_users", ".1", hosts), tuple(sorted(chance.sample(nodes, 50)))


@given(view=st.from_type(View), data=st.data())
def test_an_ownership_is_what_its_definition_says(view: View, data: st.DataObject) -> None:
    """The ownership of each range of any shard map, also during splits, is found without a look at all ranges."""
    shard_map = view.shard_map
    assert shard_map is not None
    owners = Owners(shard_map, view.instances)
    begin = data.draw(st.integers(WHOLE_SPACE.begin, WHOLE_SPACE.end))
    elsewhere = Range(begin, data.draw(st.integers(begin, WHOLE_SPACE.end)))
    for covered in (*shard_map.hosts, elsewhere):
        expected = _plainly(shard_map, covered, view.instances)
        assert owners.of(covered) == expected
        assert Ownership.of(shard_map, covered, view.instances) == expected


@given(view=st.from_type(View))
def test_a_range_that_is_gone_from_the_map_keeps_its_owners(view: View) -> None:
    """A plan asks a map for ranges it does not have, too: the owners of what lies there now are given."""
    shard_map = view.shard_map
    assert shard_map is not None
    thinned = ShardMap(shard_map.database, shard_map.suffix, dict(list(shard_map.hosts.items())[1:]))
    for covered in shard_map.hosts:
        assert Owners(thinned, view.instances).of(covered) == _plainly(thinned, covered, view.instances)


@given(view=st.from_type(View))
def test_an_owner_is_whom_the_rule_names(view: View, documents: tuple[str, ...]) -> None:
    """For each document, the prepared rings and the rule in words name the same owner."""
    shard_map = view.shard_map
    assert shard_map is not None
    owners = Owners(shard_map, view.instances)
    for document in documents:
        for covered in shard_map.ranges_holding(document_hash(document)):
            assert owners.of(covered).owner(document) == _owner_plainly(shard_map, document, view.instances)


@given(ownership=st.from_type(Ownership))
def test_candidates_are_all_who_stand_in_a_ring(ownership: Ownership) -> None:
    """Only an instance that is alive beside a copy, or that adopts, has a place in some ring."""
    assert set(ownership.candidates) == {owner for _, ring in ownership._segments for owner in ring}


@pytest.mark.parametrize("seed", range(3))
def test_a_large_cluster_is_planned_by_the_definition(seed: int, documents: tuple[str, ...]) -> None:
    """With 100 nodes and ranges that are being split, each assignment's ownership is the plain one."""
    shard_map, instances = _large_map(seed)
    assert len(shard_map.hosts) > 256
    view = View(tuple(f"node{number:03}" for number in range(101)), instances, shard_map)
    for me in instances[:2]:
        for each in make_plan(view, me).assignments:
            assert each.ownership == _plainly(shard_map, each.copy.range, instances)
            for document in documents:
                if document_hash(document) in each.copy.range:
                    assert each.ownership.owner(document) == _owner_plainly(shard_map, document, instances)
