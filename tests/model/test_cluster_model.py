"""The whole of peruserd's rules against everything a cluster goes through, in any order.

The pure core, the real tracker and the real provisioner run on the simulated cluster's state, without sockets,
processes and time. At any step:

- nodes and instances die and come back, an instance also between any two requests of an action
- nodes are cut off, and leases are read from copies that were away
- ranges are split, node by node, and copies are made again
- instances are told to give up their documents, and to take them back
- users sign up, return and leave through any node
- requests fail, or are done and their answers lost

Each run of the tests takes up to 5,500 steps (39 examples of 100 on three nodes, 16 of 100 on five). Foes are in
`test_hostile_model`, with twice as many steps. `python -m tests.model.long_run` runs as many as wanted.

At rest:

- Every live user has a database that is right in every copy, and no deleted user has access to any.
- Each document has exactly one owner, and each range has a listener.
- No checkpoint has passed unfinished work.
- Only users' databases were touched, and none was ever public.

The rules of each act are in `tests.model.witness`.
"""

import itertools
from collections.abc import Iterator

import pytest

from peruserd.core.ownership.hashing import document_hash
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.ownership.ranges import WHOLE_SPACE, ShardMap
from tests.model.acts import Fate
from tests.model.instances import QUIET_SECONDS
from tests.model.machine import ClusterMachine, FiveNodesMachine, patch, run_part
from tests.model.world import NODES, USERS, World


@pytest.mark.parametrize("part", range(3))
def test_a_cluster_comes_to_rest_as_it_should(part: int) -> None:
    """Three nodes, and everything that a cluster goes through, in any order."""
    run_part(ClusterMachine, part, examples=13)


@pytest.mark.parametrize("part", range(2))
def test_five_nodes_come_to_rest_as_they_should(part: int) -> None:
    """Five nodes: a write by a minority can look right to the next owner."""
    run_part(FiveNodesMachine, part, examples=8)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A fresh world; at the end it comes to rest, and its invariants are checked."""
    made = World()
    patch(monkeypatch, made)
    yield made
    made.settle()
    for instance in made.instances.values():
        instance.crash()


def test_a_quiet_cluster_serves_its_users(world: World) -> None:
    """Three instances, six users: the ordinary case comes to rest as it should."""
    for document_id in USERS:
        world.write_user(document_id, 1, deleted=False)
    for node in NODES:
        world.start(node)


# Each test shows the harm that one rule prevents, by the shortest way. The machine has found these ways without the
# rule, or they were worked out by hand.


def _owned_by(node: int, number: int = 0) -> str:
    """Return a user whose document the instance beside `node` owns while all three live."""
    owned = [each for each in USERS if _owner(each, NODES) == node]
    return owned[number]


def _owner(document_id: str, alive: tuple[int, ...]) -> int:
    names = [f"node{number}@127.0.0.1" for number in NODES]
    shard_map = ShardMap.build("_users", ".1", {str(WHOLE_SPACE): names})
    owner = Ownership.of(shard_map, WHOLE_SPACE, [f"node{number}@127.0.0.1" for number in alive]).owner(document_id)
    return NODES[names.index(str(owner))]


def _read(world: World, node: int) -> None:
    """Let the instance beside a node read what is new, without acting on it."""
    instance = world.instances[node, 0]
    for listener in instance.all_listeners():
        world.follow(instance, listener)


def _work(world: World, node: int) -> None:
    """Let the instance beside a node do all available work."""
    for listener in world.instances[node, 0].all_listeners():
        while listener.begin_work():
            listener.finish()


def _rounds(world: World, count: int) -> None:
    """Let all instances renew their leases and watch for some seconds."""
    for _ in range(count):
        world.pass_time(1.0)
        for instance in list(world.instances.values()):
            world.renew_lease(instance)
            world.watch(instance)


def _is_mine(world: World, node: int, document_id: str) -> bool:
    """Say whether the instance beside a node takes a document for its own."""
    return any(
        document_hash(document_id) in copy.range and listener.tracker._state.intake.is_mine(document_id)
        for copy, listener in world.instances[node, 0].listeners.items()
    )


def _take_over(world: World, document_id: str) -> None:
    """Serve a user of node 2, kill its instance, and let the one beside node 1 take its documents over.

    After a restart the lost instance continues from its checkpoint, so no scan of its own would find a fault.
    """
    world.write_user(document_id, 1, deleted=False)
    world.model.replicate()
    world.start(1)
    world.start(2)
    world.settle()
    world.kill(2)
    world.settle()


def test_nobody_takes_over_from_those_who_start_at_the_same_time(world: World) -> None:
    """All start at once on machines so busy that a look and a renewal take nearly as long as the quiet period."""
    for document_id in USERS:
        world.write_user(document_id, 1, deleted=False)
    for node in NODES:
        world.start(node)
    for _ in range(3):
        world.pass_time(QUIET_SECONDS - 0.1)
        for instance in world.instances.values():
            world.renew_lease(instance)
            world.watch(instance)
        world.pass_time(0.1)
        for instance in world.instances.values():
            instance.go_round(world.now)
        for node, other in itertools.permutations(NODES, 2):
            assert not _is_mine(world, node, _owned_by(other)), f"{node} took over what is {other}'s"
    assert all(instance.stable_view.certain for instance in world.instances.values())


def test_two_that_write_the_same_lease_in_turns_see_each_other(world: World) -> None:
    """The machine found this: each overwrote the other's lease and read its own, and both acted for the node."""
    world.start(1)
    world.start(1, seat=1)


def test_a_revocation_that_comes_late_is_put_right(world: World) -> None:
    """Two instances act for a moment, one of them on an outdated copy. That one reviews its work when it loses."""
    user = _owned_by(2)
    _take_over(world, user)
    world.write_user(user, 2, deleted=True)
    world.model.replicate()
    world.start(2)
    _read(world, 1)
    _read(world, 2)
    _work(world, 2)
    world.write_user(user, 2, deleted=False)
    _read(world, 2)
    _work(world, 2)
    _work(world, 1)
    # From here on node 1's copy never shows it a change of this user that is its own.
    _rounds(world, 6)


def test_a_revocation_under_way_when_its_user_is_lost_is_put_right(world: World) -> None:
    """The same where the action has not ended when the owner changes."""
    user = _owned_by(2)
    _take_over(world, user)
    world.write_user(user, 2, deleted=True)
    world.model.replicate()
    world.start(2)
    _read(world, 1)
    slow = next(each for each in world.instances[1, 0].all_listeners() if each.begin_work())
    slow.step(0, Fate.DONE)
    _rounds(world, 6)
    _read(world, 2)
    _work(world, 2)
    world.write_user(user, 2, deleted=False)
    _read(world, 2)
    _work(world, 2)
    while slow.acts:
        slow.step(0, Fate.DONE)


def test_a_review_that_acts_on_what_has_changed_since_acts_again(world: World) -> None:
    """A review reads the document again after its action, because the present owner may have acted on a newer one."""
    user = _owned_by(2)
    _take_over(world, user)
    world.start(2)
    world.write_user(user, 1, deleted=True)
    world.model.replicate()
    _read(world, 1)
    _work(world, 1)
    world.write_user(user, 2, deleted=False)
    _rounds(world, 6)
    reviewer = next(each for each in world.instances[1, 0].all_listeners() if each.begin_work())
    reviewer.step(0, Fate.DONE)
    world.write_user(user, 2, deleted=True)
    _read(world, 2)
    _work(world, 2)
    while reviewer.acts:
        reviewer.step(0, Fate.DONE)


def test_an_instance_that_yields_looks_at_what_it_did_last(world: World) -> None:
    """A hung instance has lost its place; it reviews its work before its listeners end."""
    user = _owned_by(1)
    for node in NODES:
        world.start(node)
    world.start(1, seat=1)
    world.write_user(user, 1, deleted=False)
    world.settle()
    hung, successor = world.instances[1, 0], world.instances[1, 1]
    assert (bool(hung.listeners), bool(successor.listeners)) == (True, False)
    for _ in range(8):
        world.pass_time(1.0)
        world.renew_lease(successor)
        world.watch(successor)
    assert successor.listeners
    world.write_user(user, 1, deleted=True)
    for listener in (*hung.all_listeners(), *successor.all_listeners()):
        while world.follow(hung, listener) or listener.scan(limit=10):
            continue
    late = next(each for each in hung.all_listeners() if each.begin_work())
    world.write_user(user, 1, deleted=False)
    for listener in successor.all_listeners():
        world.follow(successor, listener)
        while listener.begin_work():
            listener.finish()
    late.finish()
    world.renew_lease(hung)
    world.watch(hung)
    assert not hung.listeners


def test_what_a_minority_took_is_written_on_by_who_began_although_it_looks_right_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two of five copies have a write. The next owner reads one of these, and later the other three copies undo it."""
    world = World(nodes=5)
    patch(monkeypatch, world)
    world.start(1)
    world.start(2)
    world.settle()
    user = next(each for each in USERS if _is_mine(world, 2, each))
    world.lose_state(2)
    world.settle()
    world.partition(1, 2)
    world.write_user(user, 1, deleted=False)
    _read(world, 1)
    _work(world, 1)
    assert world.states[1, 0].doubts
    world.model.replicate()
    world.partition()
    world.start(2)
    _rounds(world, 8)
    _read(world, 2)
    for listener in world.instances[2, 0].all_listeners():
        while listener.scan(limit=10):
            _work(world, 2)
    _rounds(world, 6)
    world.settle()


def test_a_held_change_whose_owner_does_not_change_after_all_is_acted_on(world: World) -> None:
    """A node that flaps delays its users and loses none."""
    user = _owned_by(2)
    _take_over(world, user)
    world.start(2)
    _rounds(world, 2)
    world.write_user(user, 1, deleted=True)
    world.model.replicate()
    _read(world, 1)
    world.kill(2)
    _work(world, 1)


def test_users_of_a_lost_instance_are_served_by_the_next(world: World) -> None:
    """A user signs up between the death and its effect; the scan of the gaining instance finds the user."""
    for node in NODES:
        world.start(node)
    _rounds(world, 8)
    user = _owned_by(3)
    world.kill(3)
    world.write_user(user, 1, deleted=False)
    world.model.replicate()
    for node in (1, 2):
        _read(world, node)
        _work(world, node)


def test_a_user_whom_a_dead_instance_served_on_the_smaller_side_of_a_cut_keeps_access(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The successor finds the one copy right, and the other two copies undo it later. So it looks again afterwards."""
    world = World()
    patch(monkeypatch, world)
    user = _owned_by(1)
    world.write_user(user, 2, deleted=False)
    world.model.replicate()
    world.partition(1)
    world.start(1, seat=0)
    world.start(1, seat=1)
    _read(world, 1)
    while any(listener.scan(limit=10) for listener in world.instances[1, 0].all_listeners()):
        _work(world, 1)
    _work(world, 1)
    assert world.states[1, 0].doubts
    world.kill(1, 0)
    for _ in range(12):
        world.pass_time(1.0)
        world.renew_lease(world.instances[1, 1])
        world.watch(world.instances[1, 1])
    for listener in world.instances[1, 1].all_listeners():
        world.follow(world.instances[1, 1], listener)
        while listener.scan(limit=10):
            listener.work()
    world.settle()
