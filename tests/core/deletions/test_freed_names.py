"""The decision, with `hold`, about a user whose database was there before and does not name the user."""

import pytest

from peruserd.core.configuration.choices import OnReturn
from peruserd.core.users import security
from peruserd.core.users.evidence import DocumentState
from peruserd.core.users.facts import Hint
from peruserd.core.users.security import Security
from peruserd.core.users.steps import Ask, Failed, Served, Write
from tests.core.deciding import FRESH, GRANTED, NODES, PARTNERS, REVOKED, USER, World, known


@pytest.mark.parametrize("away", [frozenset(), frozenset({2})], ids=["all there", "the stale copy away"])
@pytest.mark.parametrize("hint", [Hint.LIVE, Hint.CONTESTED])
@pytest.mark.parametrize("in_doubt", [False, True])
def test_a_copy_that_was_away_lets_nobody_in(
    hint: Hint,
    in_doubt: bool,  # noqa: FBT001 - a parameter of the test
    away: frozenset[int],
) -> None:
    """The copy that was away names the earlier user. The others decide, and the next user is taken out of that copy."""
    world = World([REVOKED, REVOKED, GRANTED], DocumentState.LIVE, away=away, admits=False)
    end = world.act(known(hint, in_doubt=in_doubt, on_return=OnReturn.HOLD))
    assert isinstance(end, Failed)
    assert end.failure.kind == ("copies_away" if away and in_doubt else "held")
    assert world.readable() == [REVOKED] * (3 - len(away))


def test_the_operators_word_lets_in_on_every_copy() -> None:
    """One copy that still names the user changes nothing."""
    world = World([REVOKED, REVOKED, GRANTED], DocumentState.LIVE, admits=True)
    assert world.act(known(Hint.LIVE, on_return=OnReturn.HOLD)) == Served()
    assert world.copies == [GRANTED] * 3


def test_nobody_is_let_in_on_the_word_of_one_copy() -> None:
    """The one readable copy can be the one that was away, so the others are waited for."""
    world = World([REVOKED, REVOKED, GRANTED], DocumentState.LIVE, away=frozenset({0, 1}))
    end = world.act(known(Hint.LIVE, on_return=OnReturn.HOLD))
    assert isinstance(end, Failed)
    assert end.failure.kind == "copies_away"


def test_a_blank_copy_does_not_make_a_stale_one_the_majority() -> None:
    """One copy was revoked and is away, one was rebuilt, and one still names the user of before."""
    world = World([REVOKED, FRESH, GRANTED], DocumentState.LIVE, away=frozenset({0}))
    end = world.act(known(Hint.LIVE, on_return=OnReturn.HOLD))
    assert isinstance(end, Failed)
    assert end.failure.kind == "copies_away"
    assert world.copies == [REVOKED, FRESH, GRANTED]


def test_what_the_next_user_wrote_to_a_stale_copy_goes() -> None:
    """The user of that name was its admin, and let somebody in."""
    open_to_mallory = {**GRANTED, "members": {"names": [USER, "mallory"]}}
    world = World([REVOKED, REVOKED, open_to_mallory], DocumentState.LIVE, admits=False)
    end = world.act(known(Hint.LIVE, on_return=OnReturn.HOLD))
    assert isinstance(end, Failed)
    assert end.failure.kind == "held"
    assert world.copies == [REVOKED] * 3


def test_copies_that_differ_let_nobody_in_whom_most_do_not_name() -> None:
    """There is no common object for all copies, so the user is taken out of the stale copy alone."""
    with_bob = {**REVOKED, "members": {"names": ["bob"]}}
    with_carol = {**REVOKED, "members": {"names": ["carol"]}}
    world = World([with_bob, with_carol, GRANTED], DocumentState.LIVE, admits=False)
    end = world.act(known(Hint.LIVE, on_return=OnReturn.HOLD))
    assert isinstance(end, Failed)
    assert end.failure.kind == "held"
    assert world.copies == [with_bob, with_carol, REVOKED]


@pytest.mark.parametrize("on_return", OnReturn)
def test_copies_that_differ_wait_for_those_that_are_away(on_return: OnReturn) -> None:
    """With the copies that are away, one object may have a majority. So no person has to decide yet."""
    world = World([GRANTED, REVOKED, GRANTED], DocumentState.LIVE, away=frozenset({2}))
    end = world.act(known(Hint.CONTESTED, on_return=on_return))
    assert isinstance(end, Failed)
    assert (end.failure.kind, end.failure.waits_for) == ("copies_away", (NODES[2],))


def test_a_stale_copy_is_revoked_before_the_operator_is_asked() -> None:
    """To ask can fail, for as long as the journal cannot be read."""
    world = World([REVOKED, REVOKED, GRANTED], DocumentState.LIVE, admits=False)
    world.act(known(Hint.LIVE, on_return=OnReturn.HOLD))
    kinds = [type(step) for step in world.steps]
    assert kinds.index(Write) < world.steps.index(Ask.ADMISSION)


@pytest.mark.parametrize(
    "copies",
    [[GRANTED] * 3, [GRANTED, GRANTED, REVOKED], [GRANTED, FRESH, FRESH], [PARTNERS] * 3, [FRESH] * 3, None],
    ids=["served", "a copy without the user", "a first write cut off", "shared", "just made", "no database"],
)
def test_a_database_that_is_the_users_is_not_asked_about(copies: list[Security] | None) -> None:
    """The object that its copies stand for names the user, or nobody ever wrote one."""
    world = World(copies, DocumentState.LIVE)
    assert world.act(known(Hint.LIVE, on_return=OnReturn.HOLD)) == Served()
    assert Ask.ADMISSION not in world.steps
    assert all(security.grants(each, USER) for each in world.readable())
