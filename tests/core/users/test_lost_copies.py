"""Lost copies: their nodes answer that they have no file. Such a copy is empty, and a write to the database makes it.

CouchDB makes such a copy when a clustered request needs it, and never by itself (measured on 3.5.2).
"""

import itertools

import pytest

from peruserd.core.configuration.choices import OnReturn
from peruserd.core.users.evidence import DocumentState
from peruserd.core.users.facts import Hint
from peruserd.core.users.steps import Ask, Failed, Removed, Served, Write
from tests.core.deciding import FRESH, GRANTED, PARTNERS, REVOKED, World, known

TWO_LOST = [frozenset(each) for each in itertools.combinations(range(3), 2)]
SOME_LOST = [*TWO_LOST, frozenset({0}), frozenset({2})]


@pytest.mark.parametrize("lost", SOME_LOST)
def test_copies_without_a_file_come_again_by_a_write(lost: frozenset[int]) -> None:
    """Lost copies get the object of the others, even if these are fewer. No partner loses access."""
    world = World([PARTNERS] * 3, DocumentState.LIVE, lost=lost)
    assert world.act(known(Hint.CONTESTED)) == Served()
    assert [each for each in world.steps if isinstance(each, Write)] == [Write(PARTNERS)]
    assert world.copies == [PARTNERS] * 3
    assert not world.lost


def test_where_all_copies_are_lost_the_database_is_as_a_new_one() -> None:
    """All content is gone, and the user gets the database as a new one."""
    world = World([FRESH] * 3, DocumentState.LIVE, lost=frozenset({0, 1, 2}))
    assert world.act(known(Hint.CONTESTED)) == Served()
    assert len(set(map(str, world.copies or ()))) == 1
    assert (world.copies or [FRESH])[0]["members"]["names"] == ["alice"]


@pytest.mark.parametrize("lost", SOME_LOST)
def test_a_deleted_user_is_taken_out_of_what_is_left(lost: frozenset[int]) -> None:
    """No copy that is made again names the user."""
    world = World([GRANTED] * 3, DocumentState.DELETED, lost=lost)
    assert world.act(known(Hint.DELETED)) == Removed()
    assert world.copies == [REVOKED] * 3


@pytest.mark.parametrize("state", [DocumentState.LIVE, DocumentState.DELETED])
def test_nothing_is_written_while_another_copy_cannot_be_read(state: DocumentState) -> None:
    """The unreadable copy can hold the names of the lost one, and the readable copy can be an old one."""
    world = World([PARTNERS, FRESH, REVOKED], state, lost=frozenset({1}), away=frozenset({2}))
    step = world.act(known(Hint.CONTESTED))
    assert isinstance(step, Failed)
    assert (step.failure.kind, step.failure.waits_for) == ("copies_away", ("node2", "node3"))
    assert not any(isinstance(each, Write) for each in world.steps)


def test_a_copy_that_no_write_makes_is_waited_for() -> None:
    """A server may refuse to make the copy. To write without end would not help."""
    world = World([GRANTED] * 3, DocumentState.LIVE, lost=frozenset({1}))

    def lose_again(world: World) -> None:
        world.lost = frozenset({1})

    world.after_write = lose_again
    step = world.act(known(Hint.CONTESTED))
    assert isinstance(step, Failed)
    assert (step.failure.kind, step.failure.waits_for) == ("copies_away", ("node2",))
    assert sum(isinstance(each, Write) for each in world.steps) == 1


def test_a_lost_copy_frees_no_name() -> None:
    """A database that names its user is the user's, however many copies are lost."""
    world = World([GRANTED] * 3, DocumentState.LIVE, lost=frozenset({1, 2}))
    assert world.act(known(Hint.CONTESTED, on_return=OnReturn.HOLD)) == Served()
    assert Ask.ADMISSION not in world.steps
    freed = World([REVOKED] * 3, DocumentState.LIVE, lost=frozenset({1, 2}))
    step = freed.act(known(Hint.CONTESTED, on_return=OnReturn.HOLD))
    assert isinstance(step, Failed)
    assert step.failure.kind == "held"
