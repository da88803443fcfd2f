"""The rules of peruserd against a hostile user, second writers and damaged copies, in any order.

The events are in `tests.model.hostile`, the rules of each act in `tests.model.witness`, the invariants at rest in
`tests.model.world`. Each rule of peruserd is taken out once in `test_rules_taken_out`. Many more steps than here are
run by `python -m tests.model.long_run`.

The tests of this folder run some 15,000 steps, 10,000 of them with foes. Each machine is cut into tests that can run
side by side.
"""

import pytest

from tests.model.foes import odd_ids
from tests.model.hostile import MAL, VICTIMS, HostileFiveNodesMachine, HostileMachine
from tests.model.machine import patch, run_part
from tests.model.world import NODES, World


@pytest.mark.parametrize("part", range(3))
def test_nothing_goes_wrong_among_foes(part: int) -> None:
    """Three nodes, and everything that anybody can do, in any order."""
    run_part(HostileMachine, part, examples=25)


@pytest.mark.parametrize("part", range(2))
def test_nothing_goes_wrong_among_foes_on_five_nodes(part: int) -> None:
    """The same on five nodes, where two can be away and a majority answers."""
    run_part(HostileFiveNodesMachine, part, examples=13)


def test_a_user_who_comes_and_goes_in_a_loop_causes_no_more_writes_than_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any number of changes between two looks counts as one: a look makes at most three PUTs."""
    world = _quiet_world(monkeypatch)
    for _ in range(60):
        for _ in range(20):
            world.write_user(MAL, 1, deleted=False)
            world.write_user(MAL, 1, deleted=True)
        world.write_user(MAL, 1, deleted=False)
        world.pass_time(1.0)
        _look(world)
    assert world.witness.puts["bob"] <= 3 * 60
    _end(world)


def test_a_loop_under_anothers_name_writes_nothing_into_the_others_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Odd tombstones make peruserd look again and again, but never write, not even in a scan."""
    world = _quiet_world(monkeypatch)
    world.write_user(VICTIMS[0], 1, deleted=False)
    world.settle()
    before = world.witness.puts["ann"]
    for _ in range(30):
        for document_id in odd_ids(VICTIMS[0]):
            world.write_user(document_id, 1, deleted=False)
            world.write_user(document_id, 1, deleted=True)
        world.pass_time(1.0)
        _look(world)
    assert world.witness.security_puts["ann"] == 1
    assert world.witness.puts["ann"] == before
    _end(world)


def _quiet_world(patches: pytest.MonkeyPatch) -> World:
    world = World()
    patch(patches, world)
    for node in NODES:
        world.start(node)
    world.settle()
    return world


def _look(world: World) -> None:
    """Let copies catch up, and all instances read and do the available work once."""
    world.model.replicate()
    for instance, listener in world.listeners():
        world.follow(instance, listener)
    for _, listener in world.listeners():
        listener.work()


def _end(world: World) -> None:
    world.settle()
    world.look_again()
    world.crash()
