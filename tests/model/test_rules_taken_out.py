"""Each rule is needed: the shortest way to the harm that it prevents, with the rule and without it.

A story runs on the real code and comes to rest as it should. Then it runs again with one rule taken out of the code,
and an invariant of the model must fail.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from peruserd.core.users import decision, evidence, security
from peruserd.core.users.evidence import DocumentState, Evidence, Verdict
from peruserd.core.users.facts import Database, Facts
from peruserd.core.users.steps import Create, Served, Step, Write
from peruserd.listener import provisioner
from tests.model import stories
from tests.model.machine import patch
from tests.model.stories import Story
from tests.model.world import NODES, World

# Rules taken out


def a_tombstone_is_believed(patches: pytest.MonkeyPatch) -> None:
    """A tombstone in the feed is believed."""
    patches.setattr(decision, "_claimed_deleted", decision._deleted)


def a_live_row_is_believed(patches: pytest.MonkeyPatch) -> None:
    """A live row is believed, also for a database that was there before."""
    patches.setattr(decision, "_claimed_live", decision._live)


def a_blank_copy_wins(patches: pytest.MonkeyPatch) -> None:
    """The first copy that is asked counts as right."""
    patches.setattr(security, "reconcile", lambda copies, _total: min(copies, key=lambda each: len(str(each))))


def a_minority_of_copies_is_enough(patches: pytest.MonkeyPatch) -> None:
    """A security object is overwritten even if few of its copies could be read."""
    patches.setattr(Facts, "has_majority", property(lambda _self: True))


def a_live_copy_wins(patches: pytest.MonkeyPatch) -> None:
    """A document is live if one copy shows it as live, as in CouchDB's own clustered reads."""
    judge = evidence.judge

    def mistaken(found: Evidence) -> Verdict:
        is_live = any(each.winner is not None and not each.winner.deleted for each in found.readings)
        return Verdict(DocumentState.LIVE) if is_live else judge(found)

    patches.setattr(provisioner, "judge", mistaken)


def the_greater_number_wins(patches: pytest.MonkeyPatch) -> None:
    """Of the copies' revisions the one with the greatest number is the newest."""

    def mistaken(found: Evidence) -> Verdict:
        winners = [each.winner for each in found.readings if each.winner is not None]
        newest = max(winners, key=lambda each: int(each.rev.partition("-")[0]))
        return Verdict(DocumentState.DELETED if newest.deleted else DocumentState.LIVE, newest.rev)

    patches.setattr(provisioner, "judge", mistaken)


def names_are_learnt(patches: pytest.MonkeyPatch) -> None:
    """A new database begins with the names of another one."""
    first = security.first
    learnt: list[str] = []

    def mistaken(user: str, access: security.Access) -> security.Security:
        learnt.append(user)
        return security.grant(first(learnt[0], access), user)

    patches.setattr(security, "first", mistaken)


def nothing_is_read_after_a_write(patches: pytest.MonkeyPatch) -> None:
    """A written security object is not read again."""
    write = provisioner.Provisioner._write
    compare = provisioner.Provisioner._compare
    written: dict[str, security.Security] = {}

    def mistaken_write(self: Any, act: Any, facts: Facts, step: Any) -> Facts:
        written[act.database] = step.security
        return write(self, act, facts, step)

    def mistaken_compare(self: Any, act: Any, facts: Facts) -> Facts:
        if not (act.wrote and facts.copies):
            return compare(self, act, facts)
        copies = [msgspec.structs.replace(each, security=written[act.database]) for each in facts.copies]
        return msgspec.structs.replace(facts, copies=tuple(copies))

    patches.setattr(provisioner.Provisioner, "_write", mistaken_write)
    patches.setattr(provisioner.Provisioner, "_compare", mistaken_compare)


def any_number_of_copies_is_a_majority(patches: pytest.MonkeyPatch) -> None:
    """The reachable copies are believed, even if they are few."""
    patches.setattr(Evidence, "has_majority", property(lambda _self: True))


def differing_copies_are_left_alone(patches: pytest.MonkeyPatch) -> None:
    """Nothing is taken away where copies disagree."""

    def mistaken(_facts: Facts, end: Step) -> Step:
        return end

    patches.setattr(decision, "_revoked_each", mistaken)


def writes_have_no_end(patches: pytest.MonkeyPatch) -> None:
    """An act fights another writer without an end."""
    patches.setattr(decision, "_MAX_WRITES", 10**6)
    patches.setattr(provisioner, "_MAX_STEPS", 10**6)


def what_is_right_is_written(patches: pytest.MonkeyPatch) -> None:
    """A live user's security object is written, whether or not it is right."""

    def mistaken(facts: Facts) -> Step:
        if facts.database is Database.UNKNOWN:
            return Create()
        return Served() if facts.written else Write(security.first(facts.user))

    patches.setattr(decision, "_claimed_live", mistaken)


def one_copy_is_enough_for_a_scan(patches: pytest.MonkeyPatch) -> None:
    """A scan believes the one copy of a security object that a clustered read shows."""
    look = provisioner.Provisioner._look

    def mistaken(self: Any, act: Any) -> None:
        act.change = msgspec.structs.replace(act.change, in_place=False)
        look(self, act)

    patches.setattr(provisioner.Provisioner, "_look", mistaken)


CASES = [
    (stories.another_document_is_deleted, a_tombstone_is_believed, "loses access"),
    (stories.another_document_is_made, a_live_row_is_believed, "gets access"),
    (stories.a_copy_is_blank, a_blank_copy_wins, "loses {"),
    (stories.only_a_blank_copy_answers, a_minority_of_copies_is_enough, "loses {"),
    (stories.a_copy_does_not_hear_of_a_deletion, a_live_copy_wins, "still has access"),
    (stories.a_user_writes_a_huge_revision, the_greater_number_wins, "loses access"),
    (stories.two_users_sign_up, names_are_learnt, "names strangers"),
    (stories.somebody_writes_before_the_act_has_ended, nothing_is_read_after_a_write, "not read again"),
    (stories.a_minority_knows_a_deletion, any_number_of_copies_is_a_majority, "loses access"),
    (stories.copies_are_blank_that_no_read_shows, one_copy_is_enough_for_a_scan, "has no access"),
    (stories.all_copies_differ, differing_copies_are_left_alone, "still has access"),
    (stories.somebody_undoes_each_write, writes_have_no_end, "PUTs"),
    (stories.nothing_happens, what_is_right_is_written, "idle cluster writes"),
]


def _name(value: object) -> str | None:
    return getattr(value, "__name__", None)


@contextlib.contextmanager
def _a_world(patches: pytest.MonkeyPatch) -> Iterator[World]:
    world = World()
    patch(patches, world)
    for node in NODES:
        world.start(node)
    try:
        yield world
    finally:
        world.crash()


@pytest.mark.parametrize(("story", "rule", "harm"), CASES, ids=_name)
def test_a_rule_is_needed(story: Story, rule: Callable[[pytest.MonkeyPatch], None], harm: str) -> None:
    """The story ends well with the rule, and causes the harm without it."""
    with pytest.MonkeyPatch.context() as patches, _a_world(patches) as world:
        story(world)
    with pytest.MonkeyPatch.context() as patches, _a_world(patches) as world:
        rule(patches)
        with pytest.raises(AssertionError, match=harm):
            story(world)
