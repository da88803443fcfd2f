"""Short stories of harm: an act of somebody, and peruserd's reaction."""

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from peruserd.core.common.names import database_name, user_name
from peruserd.core.ownership.hashing import document_hash
from peruserd.core.users import security
from peruserd.simcluster.model import ids
from tests.model.acts import Fate
from tests.model.foes import PARTNERS, PREFIX, odd_ids
from tests.model.instances import Listener
from tests.model.world import NODES, USERS, World

Story = Callable[[World], None]

ANN, MAL = USERS[:2]
PARTNER = PARTNERS[0]


def another_document_is_deleted(world: World) -> None:
    """An attacker signs up and leaves under bytes that CouchDB shows as Ann's name."""
    _serve(world, ANN)
    odd = _odd_beside(ANN)
    world.write_user(odd, 1, deleted=False)
    world.write_user(odd, 1, deleted=True)
    world.settle()


def another_document_is_made(world: World) -> None:
    """Ann was deleted, and an accomplice signs up under bytes that CouchDB shows as her name."""
    _serve(world, ANN)
    world.write_user(ANN, 1, deleted=True)
    world.settle()
    world.write_user(_odd_beside(ANN), 1, deleted=False)
    world.settle()


def a_copy_is_blank(world: World) -> None:
    """The copy beside the owner loses its security object with a partner in it."""
    _look_at_a_blank_copy(world)
    _work(world)
    world.settle()


def only_a_blank_copy_answers(world: World) -> None:
    """The copy beside the owner is blank; the others do not answer reads, but take the write."""
    owner = _look_at_a_blank_copy(world)
    listener = _begun(world, ANN, replicate=False)
    while listener.acts:
        path = unquote(listener.acts[0].asks)
        is_far = path.endswith("_security") and "/_node/" in path and f"node{owner}@" not in path
        listener.step(0, Fate.REFUSED if is_far and path.startswith("GET") else Fate.DONE)
    world.settle()
    assert PARTNER in str(_objects(world, ANN))


def a_copy_does_not_hear_of_a_deletion(world: World) -> None:
    """A copy is behind while Ann is deleted, and its row is acted on."""
    _serve(world, ANN)
    behind = _owner(world, ANN) % 3 + 1
    world.model.pause_replication(world.model.node(behind), "_users")
    world.write_user(ANN, _owner(world, ANN), deleted=True)
    world.model.replicate()
    _work(world)
    world.settle()


def a_user_writes_a_huge_revision(world: World) -> None:
    """One copy has a deletion with a huge number, and the others a live revision with a small number."""
    _serve(world, MAL)
    owner = _owner(world, MAL)
    world.partition(owner)
    world.graft(document_id=MAL, node=owner, generation=999_999, tag="a", deleted=True, extends=True)
    world.graft(document_id=MAL, node=owner % 3 + 1, generation=1, tag="b", deleted=False, extends=True)
    world.model.replicate()
    world.partition()
    _work(world)
    world.settle()


def two_users_sign_up(world: World) -> None:
    """One after the other."""
    _serve(world, ANN)
    _serve(world, MAL)


def somebody_writes_before_the_act_has_ended(world: World) -> None:
    """Another writer names Ann again just after she was removed."""
    _serve(world, ANN)
    owner = _owner(world, ANN)
    world.write_user(ANN, owner, deleted=True)
    listener = _begun(world, ANN)
    user = user_name(ANN) or ""
    while user in str(_objects(world, ANN)):
        listener.step(0, Fate.DONE)
    world.writers.put(world.model.node(owner), _database(ANN), security.first(user))
    listener.finish()
    world.settle()


def a_minority_knows_a_deletion(world: World) -> None:
    """Ann is deleted on one side of a cut, and signs up again on the other side, where the document lives on."""
    _serve(world, ANN)
    owner = _owner(world, ANN)
    other = owner % 3 + 1
    world.partition(owner)
    world.write_user(ANN, owner, deleted=True)
    world.graft(document_id=ANN, node=other, generation=1, tag="a", deleted=False, extends=True)
    world.model.replicate()
    _work(world)
    world.settle()


def copies_are_blank_that_no_read_shows(world: World) -> None:
    """All copies but the owner's lose their security objects in different ways, and the instances lose their states."""
    _serve(world, ANN)
    owner = _owner(world, ANN)
    for kind, node in enumerate(each for each in NODES if each != owner):
        world.copy_damage.blank(world.model.node(node), _database(ANN), kind)
    world.look_again()


def all_copies_differ(world: World) -> None:
    """Three operators, each cut off from the others, have let three partners in; then Ann is deleted."""
    _serve(world, ANN)
    # A write without a majority still changes the copies that it reaches.
    world.model.partition([[each] for each in NODES])
    for node in NODES:
        _share(world, ANN, node=node, partner=f"partner{node}")
    world.write_user(ANN, 1, deleted=True)
    world.settle()
    world.look_again()


def somebody_undoes_each_write(world: World) -> None:
    """Another writer names Ann again after each write of one act."""
    _serve(world, ANN)
    owner = _owner(world, ANN)
    world.write_user(ANN, owner, deleted=True)
    listener = _begun(world, ANN)
    user = user_name(ANN) or ""
    named = security.first(user)
    while listener.acts:
        listener.step(0, Fate.DONE)
        if user not in str(_objects(world, ANN)):
            world.writers.put(world.model.node(owner), _database(ANN), named)
    world.settle()
    world.look_again()


def nothing_happens(world: World) -> None:
    """A served user is looked at again."""
    _serve(world, ANN)
    world.look_again()


# Inside


def _database(document_id: str) -> str:
    return database_name(PREFIX, user_name(document_id) or "")


def _objects(world: World, document_id: str) -> list[Any]:
    return world._objects(_database(document_id))


def _look_at_a_blank_copy(world: World) -> int:
    """Let Ann share her database, blank the copy beside the owner, and give a reason to look; return the owner."""
    _serve(world, ANN)
    _share(world, ANN)
    owner = _owner(world, ANN)
    world.copy_damage.blank(world.model.node(owner), _database(ANN), 1)
    world.write_user(ANN, owner, deleted=False)
    return owner


def _serve(world: World, document_id: str) -> None:
    world.write_user(document_id, 1, deleted=False)
    world.settle()


def _share(world: World, document_id: str, node: int = 1, partner: str = PARTNER) -> None:
    """Let an operator give a partner access."""
    world.writers.share(world.model.node(node), document_id, partner, 0)
    while world.writers.tasks:
        world.writers.step(0)


def _odd_beside(document_id: str) -> str:
    """Return an odd id in the same range as the document with its shown id."""
    half = 1 << 31
    return next(
        each for each in odd_ids(document_id) if (ids.place(each) < half) == (document_hash(document_id) < half)
    )


def _owner(world: World, document_id: str) -> int:
    """Return the node of the instance that owns a document."""
    return world.owner(document_id).number


def _begun(world: World, document_id: str, *, replicate: bool = True) -> Listener:
    """Let the owner read, and begin to act on a document; return its listener."""
    if replicate:
        world.model.replicate()
    instance = world.instances[_owner(world, document_id), 0]
    for listener in instance.all_listeners():
        world.follow(instance, listener)
    return next(each for each in instance.all_listeners() if each.begin_work())


def _work(world: World) -> None:
    """Let all instances read and do all available work, without replication."""
    for instance, listener in world.listeners():
        world.follow(instance, listener)
        while listener.begin_work():
            listener.finish()
