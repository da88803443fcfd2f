"""The rules of peruserd against others who delete, make and open users' databases, and a copy that is behind for ever.

The acts are in `tests.model.others`, and the rules that mix them in `tests.model.others_machine`. At rest:

- Every live user has exactly one database, right in every copy, after any acts of others.
- The audit finds changed security objects, and users whom only other copies know.
- No database without a user was touched.
- With `when_deleted = "report"` no database was made again that somebody deleted while its user existed.

Each way to notice such an act is taken away once, and an invariant must fail then.
"""

from collections.abc import Callable, Iterator

import pytest

from peruserd.core.common.names import database_name, user_name
from peruserd.core.configuration.choices import WhenDeleted
from peruserd.core.configuration.config import DatabasesConfig
from peruserd.core.feed.lanes import Lane
from peruserd.listener import provisioner
from peruserd.listener.auditing import Auditor
from tests.model.directories import Following
from tests.model.foes import PREFIX
from tests.model.machine import patch, run_part
from tests.model.others import UNKNOWN
from tests.model.others_machine import OthersMachine, ReportedOthersMachine
from tests.model.world import NODES, USERS, World

ANN = USERS[0]
EARLY, LATER = USERS[:2], USERS[2:]
REMAKE = DatabasesConfig()
REPORT = DatabasesConfig(when_deleted=WhenDeleted.REPORT)

Story = Callable[[World], None]


@pytest.mark.parametrize("part", range(2))
def test_what_others_do_to_databases_is_put_right(part: int) -> None:
    """Three nodes, everything that a cluster goes through, and acts of others in between."""
    run_part(OthersMachine, part, examples=5)


def test_what_others_delete_is_reported_and_the_rest_is_put_right() -> None:
    """The same with `when_deleted = "report"`."""
    run_part(ReportedOthersMachine, 0, examples=5)


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
        world.crash()


# Acts of others


def is_deleted(world: World) -> None:
    """Somebody deletes Ann's database."""
    world.others.delete(world.model.node(2), ANN)


def is_deleted_and_made_public(world: World) -> None:
    """A restore deletes Ann's database and makes it again, open to everybody."""
    world.others.delete(world.model.node(2), ANN)
    world.others.make(world.model.node(3), ANN, 0)


def is_deleted_while_nobody_is_there(world: World) -> None:
    """All instances are stopped; afterwards the list of databases is read from the saved place."""
    for node in NODES:
        world.kill(node)
    world.others.delete(world.model.node(2), ANN)
    for node in NODES:
        world.start(node)


def is_opened(world: World) -> None:
    """Ann's own admin opens all copies to everybody."""
    world.others.open(world.model.node(1), ANN, 2)


def is_unknown_to_one_copy(world: World) -> None:
    """Users sign up, and the copy beside one node never gets them."""
    world.stay_behind(3)
    for document_id in LATER:
        world.write_user(document_id, 1, deleted=False)


# Ways to notice them, taken out


def nobody_reads_the_list_of_databases(patches: pytest.MonkeyPatch) -> None:
    """No instance reads on in its node's list of databases."""
    patches.setattr(Following, "read", lambda _self: False)


def the_audit_looks_at_no_user(patches: pytest.MonkeyPatch) -> None:
    """A round ends before it comes to users."""
    patches.setattr(Auditor, "_read_users", lambda _self, _rules: None)


def the_audit_reads_no_other_copy(patches: pytest.MonkeyPatch) -> None:
    """A round reads only the followed copy."""
    patches.setattr(Auditor, "_read_copy", lambda _self, _copy: True)


@pytest.mark.parametrize(
    ("act", "rule"),
    [
        (is_deleted, nobody_reads_the_list_of_databases),
        (is_deleted_and_made_public, nobody_reads_the_list_of_databases),
        (is_deleted_while_nobody_is_there, nobody_reads_the_list_of_databases),
        (is_opened, the_audit_looks_at_no_user),
        (is_unknown_to_one_copy, the_audit_reads_no_other_copy),
    ],
    ids=lambda value: value.__name__,
)
def test_an_act_of_others_is_noticed_in_one_way(act: Story, rule: Callable[[pytest.MonkeyPatch], None]) -> None:
    """The world comes to rest as it should, but not without that way of looking."""
    with pytest.MonkeyPatch.context() as patches:
        world = begun(patches)
        act(world)
        end(world)
    with pytest.MonkeyPatch.context() as patches:
        world = begun(patches)
        rule(patches)
        act(world)
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
    """The list of databases shows a deletion before the operator's look at that user begins."""
    world = World(databases=REPORT)
    patch(patches, world)
    world.write_user(ANN, 1, deleted=False)
    world.start(1)
    world.settle()
    (instance,) = world.instances.values()
    instance.following.look([ANN], Lane.OPERATOR)
    world.others.delete(world.model.node(1), ANN)
    end(world)
    assert databases_of(world, ANN) == len(NODES)


def test_a_database_that_is_missed_is_seen_to_be_made_again(patches: pytest.MonkeyPatch) -> None:
    """Without the check for a deletion by others, an invariant fails."""
    world = begun(patches, REPORT)
    patches.setattr(provisioner, "is_deleted_by_others", lambda *_: False)
    is_deleted(world)
    with pytest.raises(AssertionError, match="is made again"):
        end(world)


def test_a_user_who_signs_up_again_after_rest_is_served(patches: pytest.MonkeyPatch) -> None:
    """The end of the earlier life was noted, so it is no loss."""
    world = begun(patches, REPORT)
    world.write_user(ANN, 1, deleted=True)
    world.settle()
    is_deleted(world)
    world.settle()
    world.write_user(ANN, 2, deleted=False)
    end(world)
    assert databases_of(world, ANN) == len(NODES)


def test_a_database_of_nobody_is_left_alone(patches: pytest.MonkeyPatch) -> None:
    """The database has the name of a user who never signed up."""
    world = begun(patches)
    before = [copy.update_seq for node in world.model.nodes for copy in node.holdings[UNKNOWN]]
    end(world)
    assert [copy.update_seq for node in world.model.nodes for copy in node.holdings[UNKNOWN]] == before
