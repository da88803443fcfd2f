"""The rules of peruserd against others who delete, make and open users' databases, and a copy that is behind for ever.

The deeds are in `tests.model.deeds`, the rules by which they come in any order in `tests.model.deeds_machine`. At rest:

- Every live user has a database that is right in every copy, whatever was done to it, and nobody has two.
- A changed security object, and a user whom only other copies know, is found by the audit.
- No database was touched that is nobody's.
- With `when_deleted = "report"` no database was made again that somebody deleted under a user who is there.

Each way to see a deed is taken away once, and an invariant must fail then.
"""

from collections.abc import Callable, Iterator

import pytest

from peruserd.core.common.names import database_name, user_name
from peruserd.core.configuration.config import DatabasesConfig, WhenDeleted
from peruserd.core.feed.lanes import Lane
from peruserd.listener import provisioner
from peruserd.listener.auditing import Auditor
from tests.model.deeds import UNKNOWN
from tests.model.deeds_machine import DeedsMachine, ReportedDeedsMachine
from tests.model.directories import Following
from tests.model.foes import PREFIX
from tests.model.machine import patch, run_part
from tests.model.world import NODES, USERS, World

ANN = USERS[0]
EARLY, LATER = USERS[:2], USERS[2:]
REMAKE = DatabasesConfig()
REPORT = DatabasesConfig(when_deleted=WhenDeleted.REPORT)

Story = Callable[[World], None]


@pytest.mark.parametrize("part", range(2))
def test_what_others_do_to_databases_is_put_right(part: int) -> None:
    """Three nodes, everything that a cluster goes through, and deeds of others in between."""
    run_part(DeedsMachine, part, examples=5)


def test_what_others_delete_is_reported_and_the_rest_is_put_right() -> None:
    """The same with `when_deleted = "report"`."""
    run_part(ReportedDeedsMachine, 0, examples=5)


@pytest.fixture
def patches() -> Iterator[pytest.MonkeyPatch]:
    """Patches that are undone before the fixtures that came first."""
    with pytest.MonkeyPatch.context() as made:
        yield made


def begun(patches: pytest.MonkeyPatch, databases: DatabasesConfig = REMAKE) -> World:
    """Return a world with an instance beside each node, in which the first users were served."""
    world = World(databases=databases)
    patch(patches, world)
    for document_id in EARLY:
        world.write_user(document_id, 1, deleted=False)
    for node in NODES:
        world.start(node)
    world.settle()
    return world


def end(world: World) -> None:
    """Let the world come to rest, with rounds of the audit, and end it."""
    try:
        world.settle()
        world.audit()
    finally:
        for instance in world.instances.values():
            instance.crash()


# Deeds


def is_deleted(world: World) -> None:
    """Somebody deletes Ann's database."""
    world.deeds.delete(world.model.node(2), ANN)


def is_deleted_and_made_public(world: World) -> None:
    """A restore deletes Ann's database and makes it again, open to everybody."""
    world.deeds.delete(world.model.node(2), ANN)
    world.deeds.make(world.model.node(3), ANN, 0)


def is_deleted_while_nobody_is_there(world: World) -> None:
    """All instances are stopped; the list of databases is read on from where it was."""
    for node in NODES:
        world.kill(node)
    world.deeds.delete(world.model.node(2), ANN)
    for node in NODES:
        world.start(node)


def is_opened(world: World) -> None:
    """Ann's own admin opens all copies to everybody."""
    world.deeds.open(world.model.node(1), ANN, 2)


def is_unknown_to_one_copy(world: World) -> None:
    """Users sign up of whom the copy beside one node never hears."""
    world.stay_behind(3)
    for document_id in LATER:
        world.write_user(document_id, 1, deleted=False)


# Ways to see them, taken out


def nobody_reads_the_list_of_databases(patches: pytest.MonkeyPatch) -> None:
    """No instance reads on in its node's list of databases."""
    patches.setattr(Following, "read", lambda _self: False)


def the_audit_looks_at_no_user(patches: pytest.MonkeyPatch) -> None:
    """A round ends before it comes to users."""
    patches.setattr(Auditor, "_read_users", lambda _self, _rules: None)


def the_audit_reads_no_other_copy(patches: pytest.MonkeyPatch) -> None:
    """A round reads the copy alone that is followed."""
    patches.setattr(Auditor, "_read_copy", lambda _self, _copy: True)


@pytest.mark.parametrize(
    ("deed", "rule"),
    [
        (is_deleted, nobody_reads_the_list_of_databases),
        (is_deleted_and_made_public, nobody_reads_the_list_of_databases),
        (is_deleted_while_nobody_is_there, nobody_reads_the_list_of_databases),
        (is_opened, the_audit_looks_at_no_user),
        (is_unknown_to_one_copy, the_audit_reads_no_other_copy),
    ],
    ids=lambda value: value.__name__,
)
def test_a_deed_is_seen_in_one_way_and_put_right(deed: Story, rule: Callable[[pytest.MonkeyPatch], None]) -> None:
    """The world comes to rest as it should; and it does not where nobody looks that way."""
    with pytest.MonkeyPatch.context() as patches:
        world = begun(patches)
        deed(world)
        end(world)
    with pytest.MonkeyPatch.context() as patches:
        world = begun(patches)
        rule(patches)
        deed(world)
        with pytest.raises(AssertionError, match="has no"):
            end(world)


# Reports


def databases_of(world: World, document_id: str) -> int:
    """Return how many copies there are of a user's database."""
    return len(world._objects(database_name(PREFIX, user_name(document_id) or "")))


def test_a_database_that_is_missed_stays_away_until_the_operator_says_so(patches: pytest.MonkeyPatch) -> None:
    """The rule holds also where the user document changes."""
    world = begun(patches, REPORT)
    is_deleted(world)
    world.settle()
    world.write_user(ANN, 2, deleted=False)
    world.settle()
    assert databases_of(world, ANN) == 0
    for instance in world.instances.values():
        instance.following.look([ANN], Lane.OPERATOR)
    world.settle()
    assert databases_of(world, ANN) == len(NODES)
    end(world)


def test_the_operators_word_counts_where_a_more_urgent_look_does_for_it(patches: pytest.MonkeyPatch) -> None:
    """The list of databases tells of a deletion before the operator's look at that user is begun."""
    world = World(databases=REPORT)
    patch(patches, world)
    world.write_user(ANN, 1, deleted=False)
    world.start(1)
    world.settle()
    (instance,) = world.instances.values()
    instance.following.look([ANN], Lane.OPERATOR)
    world.deeds.delete(world.model.node(1), ANN)
    end(world)
    assert databases_of(world, ANN) == len(NODES)


def test_a_database_that_is_missed_is_seen_to_be_made_again(patches: pytest.MonkeyPatch) -> None:
    """Without the question who deleted it, an invariant fails."""
    world = begun(patches, REPORT)
    patches.setattr(provisioner, "is_deleted_by_others", lambda *_: False)
    is_deleted(world)
    with pytest.raises(AssertionError, match="is made again"):
        end(world)


def test_a_user_who_signs_up_again_after_rest_is_served(patches: pytest.MonkeyPatch) -> None:
    """The end of the earlier life was seen, and is missed by nobody."""
    world = begun(patches, REPORT)
    world.write_user(ANN, 1, deleted=True)
    world.settle()
    is_deleted(world)
    world.settle()
    world.write_user(ANN, 2, deleted=False)
    end(world)
    assert databases_of(world, ANN) == len(NODES)


def test_a_database_of_nobody_is_left_alone(patches: pytest.MonkeyPatch) -> None:
    """It bears the name of a user who never signed up."""
    world = begun(patches)
    before = [copy.update_seq for node in world.model.nodes for copy in node.holdings[UNKNOWN]]
    end(world)
    assert [copy.update_seq for node in world.model.nodes for copy in node.holdings[UNKNOWN]] == before
