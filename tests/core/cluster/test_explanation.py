import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.cluster.explanation import explain_owner, whole_plan
from peruserd.core.cluster.views import View, make_plan
from peruserd.core.common.names import user_document_id
from peruserd.core.ownership.hashing import document_hash, document_key
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.ownership.ranges import HASH_SPACE, WHOLE_SPACE, Range, ShardMap

LOWER, UPPER = Range(0, 0x7FFFFFFF), Range(0x80000000, 0xFFFFFFFF)
USERS = st.sampled_from(["alice", "José", "a/b", "片"]) | st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


def _view(hosts: dict[Range, list[str]], instances: str, nodes: str = "n1 n2 n3") -> View:
    shard_map = ShardMap.build("_users", ".1", {str(each): named for each, named in hosts.items()})
    return View(tuple(nodes.split()), tuple(instances.split()), shard_map)


def _shard_map(view: View) -> ShardMap:
    assert view.shard_map is not None
    return view.shard_map


@given(view=st.from_type(View), user=USERS)
def test_the_explanation_agrees_with_what_the_instances_do(view: View, user: str) -> None:
    """The owner named is the one that acts, and everything given for a reason leads to it."""
    explained = explain_owner(user, view, "userdb-", {})
    document = user_document_id(user)
    place = document_hash(document)
    shard_map = _shard_map(view)
    assert explained.owner == Ownership.of(shard_map, shard_map.ranges_holding(place)[0], view.instances).owner(
        document
    )
    assert explained.hash == f"{place:08x}"
    assert explained.key == document_key("_users", document)
    assert explained.ranges == tuple(map(str, shard_map.ranges_holding(place)))
    names = [each.node for each in explained.hosts]
    assert sorted(names) == list(shard_map.hosts_of(place))
    assert names[0] == shard_map.hosts_of(place)[explained.key % len(names)]
    assert [each.alive for each in explained.hosts] == [name in view.instances for name in names]
    if explained.adopters:
        assert not any(each.alive for each in explained.hosts)
        assert explained.owner == explained.adopters[explained.key % len(explained.adopters)]
    else:
        assert explained.owner == next(each.node for each in explained.hosts if each.alive)


def test_each_host_is_told_why_it_does_or_does_not_own_the_document() -> None:
    """The reasons name the first live host, the later ones, and why the others have no live instance."""
    hosts = {WHOLE_SPACE: ["n1", "n2", "n3", "n4"]}
    user = next(user for user in map(str, range(100)) if document_key("_users", user_document_id(user)) % 4 == 0)
    explained = explain_owner(user, _view(hosts, "n3 n4"), "userdb-", {"n2": "its instance: stopped in order"})
    assert [(each.node, each.why) for each in explained.hosts] == [
        ("n1", "no lease"),
        ("n2", "its instance: stopped in order"),
        ("n3", "the first with a live instance"),
        ("n4", "alive; later in the order"),
    ]
    assert (explained.owner, explained.adopters) == ("n3", ())
    assert "first of its hosts" in explained.why


def test_an_adopted_documents_owner_is_explained_by_the_adopters() -> None:
    """If no host has a live instance, all live instances share the range, and they are named."""
    explained = explain_owner("alice", _view({WHOLE_SPACE: ["n1"]}, "n2 n3"), "userdb-", {})
    assert explained.adopters == ("n2", "n3")
    assert explained.owner in ("n2", "n3")
    assert "share" in explained.why
    assert [each.why for each in explained.hosts] == ["no lease"]


def test_without_a_live_instance_nobody_owns_anything() -> None:
    """The result has no owner, and says why. It names the hosts all the same."""
    explained = explain_owner("alice", _view({WHOLE_SPACE: ["n1", "n2"]}, ""), "userdb-", {})
    assert (explained.owner, explained.adopters) == (None, ())
    assert explained.why == "no instance is alive"
    assert {each.node for each in explained.hosts} == {"n1", "n2"}


def test_without_the_authentication_database_nobody_owns_anything() -> None:
    """There is nothing to own."""
    explained = explain_owner("alice", View(("n1",), ("n1",), None), "userdb-", {})
    assert (explained.owner, explained.hosts) == (None, ())
    assert "does not exist" in explained.why
    assert explained.database == "userdb-616c696365"


def test_a_document_in_a_hole_of_the_shard_map_has_no_owner() -> None:
    """An incomplete shard map is shown as it is, with the position that no range holds."""
    place = document_hash(user_document_id("alice"))
    around = {Range(begin, end): ["n1"] for begin, end in ((0, place - 1), (place + 1, HASH_SPACE - 1))}
    explained = explain_owner("alice", _view(around, "n1"), "userdb-", {})
    assert (explained.owner, explained.ranges) == (None, ())
    assert f"{place:08x}" in explained.why


@pytest.mark.parametrize("user", ["", "x" * 200], ids=["empty", "too-long"])
def test_a_user_without_a_possible_database_has_an_owner_all_the_same(user: str) -> None:
    """The owner is who keeps it in quarantine."""
    explained = explain_owner(user, _view({WHOLE_SPACE: ["n1"]}, "n1"), "userdb-", {})
    assert (explained.owner, explained.database) == ("n1", None)


@given(view=st.from_type(View))
def test_the_whole_plan_is_that_of_every_instance(view: View) -> None:
    """Each range shows its hosts, its candidates and its listeners, exactly as the instances plan them."""
    plan = whole_plan(view)
    assert (plan.database, plan.nodes, plan.instances) == ("_users", view.nodes, view.instances)
    assert [each.range for each in plan.ranges] == [str(covered) for covered in _shard_map(view).hosts]
    told = {(each.range, instance, node) for each in plan.ranges for instance, node in each.listeners.items()}
    done = {
        (str(each.copy.range), instance, each.copy.node)
        for instance in view.instances
        for each in make_plan(view, instance).assignments
    }
    assert told == done
    for each in plan.ranges:
        covered = Range.parse(each.range)
        assert each.hosts == _shard_map(view).hosts[covered]
        assert each.candidates == Ownership.of(_shard_map(view), covered, view.instances).candidates
        assert (each.range in plan.unreadable) == (not each.listeners)


def test_what_nobody_can_read_is_named() -> None:
    """A range whose hosts are all away is in the plan, without a listener."""
    plan = whole_plan(_view({LOWER: ["n1"], UPPER: ["n2"]}, "n1", nodes="n1"))
    assert plan.unreadable == (str(UPPER),)
    assert [each.listeners for each in plan.ranges] == [{"n1": "n1"}, {}]


def test_without_the_authentication_database_there_is_no_plan() -> None:
    """A missing authentication database is an error, with words for people."""
    with pytest.raises(LookupError, match="does not exist"):
        whole_plan(View(("n1",), ("n1",), None))


def test_explanations_can_be_written_as_json() -> None:
    """Both are given to programs as they are."""
    view = _view({WHOLE_SPACE: ["n1"]}, "n1")
    assert msgspec.json.decode(msgspec.json.encode(whole_plan(view)))["ranges"][0]["listeners"] == {"n1": "n1"}
    explained = msgspec.json.decode(msgspec.json.encode(explain_owner("alice", view, "userdb-", {})))
    assert (explained["owner"], explained["hosts"][0]["alive"]) == ("n1", True)
