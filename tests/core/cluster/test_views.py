from itertools import chain

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.cluster.views import (
    Assignment,
    Copy,
    Difference,
    Feed,
    Plan,
    View,
    difference,
    make_database_plan,
    make_plan,
)
from peruserd.core.ownership.hashing import document_hash
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.ownership.ranges import WHOLE_SPACE, Range, ShardMap

LOWER, UPPER = Range(0, 0x7FFFFFFF), Range(0x80000000, 0xFFFFFFFF)
Running = dict[Copy, Assignment]


def _map(hosts: dict[Range, list[str]], suffix: str = ".1") -> ShardMap:
    return ShardMap.build("_users", suffix, {str(each): nodes for each, nodes in hosts.items()})


def _view(nodes: str, hosts: dict[Range, list[str]], instances: str | None = None) -> View:
    """A view from names separated by spaces; an instance on every connected node, unless given."""
    alive = nodes if instances is None else instances
    return View(tuple(nodes.split()), tuple(alive.split()), _map(hosts))


def _shard_map(view: View) -> ShardMap:
    assert view.shard_map is not None
    return view.shard_map


def _copies(plan: Plan) -> list[str]:
    return [str(each.copy) for each in plan.assignments]


def _running(plan: Plan) -> Running:
    return {each.copy: each for each in plan.assignments}


def _carry_out(todo: Difference, running: Running, *, steps: int | None = None) -> Running:
    """Carry out a difference as the supervisor does, or only its first steps; refuse what cannot be done."""
    now = dict(running)
    actions = [
        *(("stop", copy, None) for copy in todo.stop),
        *(("inform", each.copy, each) for each in todo.inform),
        *(("start", each.copy, each) for each in todo.start),
    ]
    for action, copy, assignment in actions[:steps]:
        assert (copy in now) == (action != "start")
        if assignment is None:
            del now[copy]
        else:
            now[copy] = assignment
    return now


def _acting(view: View, document: str, seen: View | None = None) -> set[str]:
    """The instances that act on a document, each doing what its own plan says and leaving alone what is to move."""
    return {
        instance
        for instance in view.instances
        for each in make_plan(view, instance, seen).assignments
        if document_hash(document) in each.copy.range
        and all(
            ownership.belongs_to(instance)(document) for ownership in (each.ownership, each.upcoming or each.ownership)
        )
    }


def _owner(view: View, document: str) -> str | None:
    shard_map = _shard_map(view)
    return Ownership.of(shard_map, shard_map.ranges_holding(document_hash(document))[0], view.instances).owner(document)


def _in_one_life(settled: View, seen: View) -> View:
    """The view seen, of the same life of the database: another one takes effect at once."""
    shard_map = msgspec.structs.replace(_shard_map(seen), suffix=_shard_map(settled).suffix)
    return msgspec.structs.replace(seen, shard_map=shard_map)


@given(view=st.from_type(View))
def test_each_document_is_acted_on_by_exactly_one_instance(view: View, documents: tuple[str, ...]) -> None:
    """If every instance follows its plan, one acts on each document that can be read, and no two ever do."""
    shard_map = _shard_map(view)
    for document in documents:
        hosts = shard_map.hosts_of(document_hash(document))
        readable = not set(hosts).isdisjoint(view.nodes + view.instances)
        assert len(_acting(view, document)) == (1 if readable else 0)


@given(settled=st.from_type(View), seen=st.from_type(View))
def test_during_the_quiet_period_a_document_has_its_owner_or_is_left_alone(
    settled: View, seen: View, documents: tuple[str, ...]
) -> None:
    """A document that keeps its owner is served by it without interruption, where it can be read at all.

    A document whose owner is about to change is left alone by everybody. No two instances ever act on one document.
    """
    seen = _in_one_life(settled, seen)
    for document in documents:
        owner = _owner(settled, document)
        acting = _acting(settled, document, seen)
        hosts = _shard_map(seen).hosts_of(document_hash(document))
        if owner != _owner(seen, document):
            assert acting == set()
        elif owner in hosts or set(hosts).intersection(settled.nodes):
            assert acting == {owner}
        else:
            assert acting == set()


@given(view=st.from_type(View))
def test_an_owner_listens_to_a_copy_of_what_it_owns(view: View, documents: tuple[str, ...]) -> None:
    """The owner's plan has a readable copy of the document's range, or says that no copy is readable."""
    shard_map = _shard_map(view)
    for document in documents:
        holding = shard_map.ranges_holding(document_hash(document))
        owner = Ownership.of(shard_map, holding[0], view.instances).owner(document)
        assert owner is not None
        plan = make_plan(view, owner)
        listened = {each.copy.range for each in plan.assignments}
        assert listened.intersection(holding) or set(holding) <= set(plan.unreadable)


@given(view=st.from_type(View))
def test_an_instance_follows_its_own_copies_and_those_nobody_is_beside(view: View) -> None:
    """An instance follows its node's copy of each range, and a connected host's of each range without an instance."""
    for me in view.instances:
        plan = make_plan(view, me)
        followed = {each.copy.range: each.copy.node for each in plan.assignments}
        assert len(followed) == len(plan.assignments)
        for covered, hosts in _shard_map(view).hosts.items():
            deserted = not set(hosts).intersection(view.instances)
            connected = set(hosts).intersection(view.nodes)
            if me in hosts:
                assert followed[covered] == me
            elif deserted and connected:
                assert followed[covered] in connected
            else:
                assert covered not in followed
            assert (covered in plan.unreadable) == (deserted and not connected)


@given(view=st.from_type(View))
def test_every_listener_knows_the_owners_of_its_range(view: View) -> None:
    """An assignment's copy and ownership speak of the same range of the same database, and the suffix is the map's."""
    shard_map = _shard_map(view)
    for each in make_plan(view, view.instances[0]).assignments:
        assert each.ownership == Ownership.of(shard_map, each.copy.range, view.instances)
        assert (each.copy.database, each.copy.suffix, each.copy.feed) == ("_users", shard_map.suffix, Feed.SHARD)


@given(view=st.from_type(View))
def test_adopters_of_a_range_read_the_same_copy(view: View) -> None:
    """Instances that believe the same adopt a range from the same node, so its backlog is read from one place."""
    for covered, hosts in _shard_map(view).hosts.items():
        if set(hosts).isdisjoint(view.instances):
            plans = [make_plan(view, me) for me in view.instances]
            nodes = {each.copy.node for plan in plans for each in plan.assignments if each.copy.range == covered}
            assert len(nodes) <= 1


def test_an_instance_that_is_not_alive_in_the_view_follows_nothing() -> None:
    """An instance that the others believe dead must not act, although it is alive."""
    view = _view("n1 n2", {WHOLE_SPACE: ["n1", "n2"]}, instances="n2")
    assert make_plan(view, "n1") == Plan()


def test_without_the_authentication_database_nothing_is_followed() -> None:
    """Until the authentication database exists there is nothing to listen to."""
    assert make_plan(View(("n1",), ("n1",), None), "n1") == Plan()


def test_a_node_without_a_copy_has_nothing_to_follow() -> None:
    """In a cluster with more nodes than copies, an instance beside no copy waits."""
    view = _view("n1 n2 n3", {WHOLE_SPACE: ["n1", "n2"]})
    assert make_plan(view, "n3") == Plan()


def test_a_range_that_the_map_leaves_out_is_unreadable() -> None:
    """Somebody has edited the map. Its users are served by nobody, so an instance must not be ready."""
    plan = make_plan(_view("n1", {LOWER: ["n1"]}), "n1")
    assert (_copies(plan), plan.unreadable) == ([f"{LOWER}@n1"], (UPPER,))
    assert make_plan(_view("n1", {}), "n1").unreadable == (WHOLE_SPACE,)


def test_a_range_that_no_connected_node_has_is_unreadable_until_one_returns() -> None:
    """A range whose hosts are all away is named, not forgotten, and adopted as soon as one of them is connected."""
    hosts = {LOWER: ["n1"], UPPER: ["n2", "n3"]}
    assert make_plan(_view("n1", hosts), "n1").unreadable == (UPPER,)
    returned = make_plan(_view("n1 n3", hosts, instances="n1"), "n1")
    assert _copies(returned) == ["00000000-7fffffff@n1", "80000000-ffffffff@n3"]
    assert returned.unreadable == ()


SPLIT_STEPS = [
    {WHOLE_SPACE: ["n1", "n2", "n3"]},
    {WHOLE_SPACE: ["n1", "n3"], LOWER: ["n2"], UPPER: ["n2"]},
    {WHOLE_SPACE: ["n3"], LOWER: ["n1", "n2"], UPPER: ["n1", "n2"]},
    {LOWER: ["n1", "n2", "n3"], UPPER: ["n1", "n2", "n3"]},
]


@pytest.mark.parametrize("hosts", SPLIT_STEPS, ids=["before", "one-has-split", "two-have-split", "all-have-split"])
@pytest.mark.parametrize("alive", ["n1 n2 n3", "n1 n3", "n2 n3", "n1 n2", "n3", "n1"])
def test_a_split_can_be_interrupted_at_any_step(
    hosts: dict[Range, list[str]], alive: str, documents: tuple[str, ...]
) -> None:
    """One instance acts on each document, whichever is lost while the nodes split their copies one after the other."""
    view = _view(alive, hosts)
    assert all(len(_acting(view, document)) == 1 for document in documents)


def test_splitting_all_copies_moves_no_document(documents: tuple[str, ...]) -> None:
    """With every host alive the owners are the same at each step of a split, since the hosts of a document are."""
    owners = [[_acting(_view("n1 n2 n3", hosts), document) for document in documents] for hosts in SPLIT_STEPS]
    assert all(each == owners[0] for each in owners)


@given(settled=st.from_type(View), seen=st.from_type(View))
def test_what_is_only_seen_changes_which_copies_are_read_and_not_who_owns(settled: View, seen: View) -> None:
    """Copies are those of the shard map seen last, where a copy that is gone is not; owners are those in force."""
    seen = _in_one_life(settled, seen)
    shard_map = _shard_map(seen)
    for me in settled.instances:
        plan = make_plan(settled, me, seen)
        for each in plan.assignments:
            assert each.copy.node in shard_map.hosts[each.copy.range]
            assert each.ownership == Ownership.of(_shard_map(settled), each.copy.range, settled.instances)
        mine = {covered for covered, hosts in shard_map.hosts.items() if me in hosts}
        assert mine <= {each.copy.range for each in plan.assignments if each.copy.node == me}


@given(settled=st.from_type(View), seen=st.from_type(View))
def test_what_is_coming_is_told_only_to_those_who_lose_by_it(
    settled: View, seen: View, documents: tuple[str, ...]
) -> None:
    """An instance that is about to lose a document gets the upcoming ownership. Others get no message."""
    seen = _in_one_life(settled, seen)
    for me in settled.instances:
        for each in make_plan(settled, me, seen).assignments:
            upcoming = Ownership.of(_shard_map(seen), each.copy.range, seen.instances)
            assert each.upcoming in (None, upcoming)
            assert (each.upcoming is not None) == each.ownership.gains(me, before=upcoming)
            lost = [
                document
                for document in documents
                if document_hash(document) in each.copy.range
                and each.ownership.belongs_to(me)(document)
                and not upcoming.belongs_to(me)(document)
            ]
            assert each.upcoming is not None or not lost


@given(view=st.from_type(View))
def test_a_view_that_has_settled_has_nothing_to_come(view: View) -> None:
    """Where the view seen last is the one in force, the plan is the same as by that one alone."""
    for me in view.instances:
        plan = make_plan(view, me, view)
        assert plan == make_plan(view, me)
        assert all(each.upcoming is None for each in plan.assignments)


def test_a_new_instance_is_left_its_documents_before_it_may_act() -> None:
    """While an instance has come and the quiet period runs, its documents are left alone, and it does nothing yet."""
    hosts = {WHOLE_SPACE: ["n1", "n2"]}
    settled, seen = _view("n1 n2", hosts, instances="n1"), _view("n1 n2", hosts)
    (assignment,) = make_plan(settled, "n1", seen).assignments
    assert assignment.ownership == Ownership.of(_map(hosts), WHOLE_SPACE, ["n1"])
    assert assignment.upcoming == Ownership.of(_map(hosts), WHOLE_SPACE, ["n1", "n2"])
    assert make_plan(settled, "n2", seen) == Plan()


def test_when_an_instance_dies_nobody_else_is_told_before_the_quiet_period_is_over() -> None:
    """The others only gain by it, so nothing of theirs is held back and no listener is bothered."""
    hosts = {WHOLE_SPACE: ["n1", "n2"]}
    settled, seen = _view("n1 n2", hosts), _view("n1 n2", hosts, instances="n1")
    assert make_plan(settled, "n1", seen) == make_plan(settled, "n1")


def test_while_a_node_has_split_its_copy_the_halves_are_read_by_the_owners_in_force() -> None:
    """The old copy is gone, so its halves are followed at once; all their documents keep their owners."""
    settled, seen = (_view("n1 n2 n3", hosts) for hosts in SPLIT_STEPS[:2])
    plan = make_plan(settled, "n2", seen)
    assert _copies(plan) == ["00000000-7fffffff@n2", "80000000-ffffffff@n2"]
    assert [each.upcoming for each in plan.assignments] == [None, None]
    assert [each.ownership for each in plan.assignments] == [
        Ownership.of(_shard_map(settled), covered, settled.instances) for covered in (LOWER, UPPER)
    ]


def test_a_database_that_is_gone_is_followed_until_the_quiet_period_is_over() -> None:
    """While the shard map is missing only in the view seen last, the copies are those of the map in force."""
    settled = _view("n1 n2", {WHOLE_SPACE: ["n1", "n2"]})
    seen = msgspec.structs.replace(settled, shard_map=None)
    assert make_plan(settled, "n1", seen) == make_plan(settled, "n1")


def test_an_instance_that_stands_by_follows_nothing() -> None:
    """While another one acts beside its node its plan is empty, whatever else is so."""
    view = msgspec.structs.replace(_view("n1", {LOWER: ["n1"], UPPER: ["n2"]}), standby=True)
    assert make_plan(view, "n1") == Plan()
    assert make_plan(view, "n1", msgspec.structs.replace(view, standby=False)) == Plan()


@pytest.mark.parametrize(
    ("settled", "seen", "through"),
    [("n1 n2 n3", "n1 n2 n3", "n2"), ("n1 n2 n3", "n1 n3", "n3"), ("n1 n3", "n1 n2 n3", "n3"), ("n1 n2", "n1", "n2")],
    ids=["both-stay", "one-is-going", "one-has-just-come", "the-only-one-is-going"],
)
def test_an_adopted_range_is_read_through_a_node_that_stays(settled: str, seen: str, through: str) -> None:
    """A host that is connected in both views is preferred to a host that is about to be lost."""
    hosts = {WHOLE_SPACE: ["n2", "n3"]}
    plan = make_plan(_view(settled, hosts, instances="n1"), "n1", _view(seen, hosts, instances="n1"))
    assert [each.copy.node for each in plan.assignments] == [through]


def test_a_range_moved_to_a_node_whose_instance_has_died_stays_with_its_owner() -> None:
    """The owner was a host and is an adopter now. It owns the range in both views, and reads the new host's copy."""
    settled = _view("n1 n2", {WHOLE_SPACE: ["n1"]})
    seen = _view("n1 n2", {WHOLE_SPACE: ["n2"]}, instances="n1")
    assert _copies(make_plan(settled, "n1", seen)) == ["00000000-ffffffff@n2"]
    assert make_plan(settled, "n1", _view("n1 n2", {WHOLE_SPACE: ["n2"]})) == Plan()


def test_what_is_only_coming_is_no_other_plan() -> None:
    """Two plans that differ only in upcoming ownerships have the same part in force."""
    hosts = {WHOLE_SPACE: ["n1", "n2"]}
    settled, seen = _view("n1 n2", hosts, instances="n1"), _view("n1 n2", hosts)
    one, other = make_plan(settled, "n1"), make_plan(settled, "n1", seen)
    assert one != other
    assert one.without_upcoming == other.without_upcoming == ((one.assignments[0].copy, one.assignments[0].ownership),)
    assert make_plan(seen, "n1").without_upcoming != one.without_upcoming


def test_what_is_coming_is_told_and_taken_back_without_a_stop() -> None:
    """An instance that comes and goes within the quiet period costs its neighbour two messages and no process."""
    hosts = {WHOLE_SPACE: ["n1", "n2"]}
    settled, seen = _view("n1 n2", hosts, instances="n1"), _view("n1 n2", hosts)
    calm, warned = make_plan(settled, "n1"), make_plan(settled, "n1", seen)
    assert difference(warned, _running(calm)) == Difference(inform=warned.assignments)
    assert difference(calm, _running(warned)) == Difference(inform=calm.assignments)


WHOLE = Copy("_users", WHOLE_SPACE, "n1", ".1")


@pytest.mark.parametrize(
    ("other", "can"),
    [
        (Copy("_users", LOWER, "n1", ".1"), True),
        (Copy("_users", UPPER, "n1", ".1"), True),
        (Copy("_users", Range(5, 5), "n1", ".1"), True),
        (WHOLE, False),
        (Copy("_users", LOWER, "n2", ".1"), False),
        (Copy("_users", LOWER, "n1", ".2"), False),
        (Copy("others", LOWER, "n1", ".1"), False),
        (Copy("_users", LOWER, "n1", ".1", Feed.DATABASE), False),
    ],
    ids=str,
)
def test_a_copy_can_only_have_split_into_parts_on_its_own_node(other: Copy, *, can: bool) -> None:
    """A part has a narrower range on the same node, in the same life of the same database."""
    assert WHOLE.can_have_split_into(other) == can
    assert not other.can_have_split_into(WHOLE)


def test_a_copy_cannot_have_split_into_one_that_reaches_beyond_it() -> None:
    """Ranges that only overlap are no part of each other."""
    assert not Copy("_users", LOWER, "n1", ".1").can_have_split_into(Copy("_users", Range(5, 0x80000000), "n1", ".1"))


def test_a_database_without_shards_has_one_listener_that_owns_everything(documents: tuple[str, ...]) -> None:
    """A server without shards is followed by the database's own feed, with one range that covers everything."""
    plan = make_database_plan("_users", "_local")
    (assignment,) = plan.assignments
    assert assignment.copy == Copy("_users", WHOLE_SPACE, "_local", feed=Feed.DATABASE)
    assert all(assignment.ownership.belongs_to("_local")(document) for document in documents)


def test_copies_are_named_as_people_and_nodes_name_them() -> None:
    """In a log a copy is its range and node, or its database; to CouchDB it is the shard's file."""
    copy = Copy("_users", LOWER, "n1@host", ".1795410409")
    assert str(copy) == "00000000-7fffffff@n1@host"
    assert copy.shard_name == "shards/00000000-7fffffff/_users.1795410409"
    assert str(Copy("_users", WHOLE_SPACE, "_local", feed=Feed.DATABASE)) == "_users"


@given(before=st.from_type(View), after=st.from_type(View), data=st.data())
def test_carrying_out_a_difference_leads_to_the_plan(before: View, after: View, data: st.DataObject) -> None:
    """From any running listeners to any plan: afterwards they are the plan's, and there is nothing left to do."""
    me = data.draw(st.sampled_from(after.instances))
    plan = make_plan(after, me)
    reached = _carry_out(difference(plan, _running(make_plan(before, me))), _running(make_plan(before, me)))
    assert reached == _running(plan)
    assert difference(plan, reached) == Difference()


@given(view=st.from_type(View), changed=st.from_type(View), data=st.data())
def test_an_interrupted_difference_is_taken_up_again(view: View, changed: View, data: st.DataObject) -> None:
    """Stopped after any of its steps, the way to the plan is found again from there."""
    me = data.draw(st.sampled_from(changed.instances))
    plan, running = make_plan(changed, me), _running(make_plan(view, me))
    todo = difference(plan, running)
    half_way = _carry_out(todo, running, steps=data.draw(st.integers(0, 6)))
    assert _carry_out(difference(plan, half_way), half_way) == _running(plan)


@given(before=st.from_type(View), after=st.from_type(View), data=st.data())
def test_a_difference_touches_only_what_differs(before: View, after: View, data: st.DataObject) -> None:
    """A listener that needs no change is left alone. None is informed, stopped or started twice."""
    me = data.draw(st.sampled_from(after.instances))
    plan, running = make_plan(after, me), _running(make_plan(before, me))
    todo = difference(plan, running)
    touched = list(chain(todo.stop, (each.copy for each in (*todo.inform, *todo.start))))
    right = [each.copy for each in plan.assignments if running.get(each.copy) == each]
    assert len(touched) == len(set(touched))
    assert not set(touched).intersection(right)
    assert bool(todo) == bool(touched)


def test_nothing_is_done_when_the_plan_is_running() -> None:
    """The same plan again costs nothing, and says so by being false."""
    plan = make_plan(_view("n1 n2", {LOWER: ["n1"], UPPER: ["n1", "n2"]}), "n1")
    todo = difference(plan, _running(plan))
    assert todo == Difference()
    assert not todo


def test_a_database_made_again_is_followed_anew() -> None:
    """Another suffix is another database of that name: its copies replace the old ones, none is carried over."""
    view = _view("n1", {LOWER: ["n1"], UPPER: ["n1"]})
    again = msgspec.structs.replace(view, shard_map=_map({LOWER: ["n1"], UPPER: ["n1"]}, suffix=".2"))
    old, new = make_plan(view, "n1"), make_plan(again, "n1")
    assert difference(new, _running(old)) == Difference(
        stop=tuple(each.copy for each in old.assignments), start=new.assignments
    )


def test_listeners_are_informed_when_an_instance_dies() -> None:
    """Losing an instance stops no listener of the others; each is told who owns what from now on."""
    hosts = {LOWER: ["n1", "n2"], UPPER: ["n1", "n3"]}
    before, after = make_plan(_view("n1 n2 n3", hosts), "n1"), make_plan(_view("n1 n3", hosts), "n1")
    (lower, _upper) = after.assignments
    assert difference(after, _running(before)) == Difference(inform=(lower,))


def test_a_copy_is_stopped_before_another_of_its_range_is_started() -> None:
    """When a node splits its copy, the old copy is stopped and the halves are started."""
    before, after = (make_plan(_view("n1 n2 n3", hosts), "n2") for hosts in SPLIT_STEPS[:2])
    todo = difference(after, _running(before))
    assert [str(copy) for copy in todo.stop] == ["00000000-ffffffff@n2"]
    assert [str(each.copy) for each in todo.start] == ["00000000-7fffffff@n2", "80000000-ffffffff@n2"]
    assert todo.inform == ()


def test_stopping_what_the_plan_no_longer_has_needs_no_plan() -> None:
    """An empty plan stops every listener, in an order that is the same each time."""
    ownership = Ownership("_users", WHOLE_SPACE, hosts=(), alive=())
    copies = [Copy("_users", each, node, ".1") for node in ("n2", "n1") for each in (UPPER, LOWER)]
    todo = difference(Plan(), {copy: Assignment(copy, ownership) for copy in copies})
    assert todo == Difference(stop=tuple(sorted(copies)))


def test_a_plan_made_by_hand_is_started_in_its_own_order() -> None:
    """Listeners start in the order of the plan."""
    ownership = Ownership("_users", WHOLE_SPACE, hosts=(), alive=())
    assignments = tuple(Assignment(Copy("_users", each, "n1", ".1"), ownership) for each in (UPPER, LOWER))
    assert difference(Plan(assignments), {}).start == assignments


def test_a_plan_has_the_nodes_that_were_seen_last() -> None:
    """Users who wait for a node are tried at once after its return. Only the owners wait for the quiet period."""
    hosts = {WHOLE_SPACE: ["n1", "n2"]}
    assert make_plan(_view("n1", hosts), "n1", _view("n1 n2", hosts)).nodes == ("n1", "n2")
    assert make_plan(_view("n1 n2", hosts), "n1", _view("n1", hosts)).nodes == ("n1",)


def test_an_instance_knows_by_its_view_that_it_gives_up_its_documents() -> None:
    """A standby gives up nothing, and a view of nobody's says nothing."""
    both = View(("n1", "n2"), ("n2",), None, me="n1")
    assert both.gives_up
    assert not msgspec.structs.replace(both, me="n2").gives_up
    assert not msgspec.structs.replace(both, standby=True).gives_up
    assert not msgspec.structs.replace(both, me="").gives_up
