"""Revisions: edits continue leaves, and states join the same way whatever the order."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peruserd.simcluster.model.revisions import ConflictError, Leaves, edit, join, newest, same


@st.composite
def histories(draw: st.DrawFn) -> list[Leaves]:
    """Possible states of one document on copies. Each state edits an earlier one."""
    states = [edit(None, None, {"first": draw(st.integers(0, 2))}, deleted=False)]
    for step in range(draw(st.integers(0, 8))):
        before = draw(st.sampled_from(states))
        states.append(edit(before, before[0].rev, {"step": step}, deleted=draw(st.booleans())))
    return states


@settings(deadline=None)
@given(histories(), st.data())
def test_joining_is_commutative_associative_and_idempotent(states: list[Leaves], data: st.DataObject) -> None:
    """Copies converge in whatever order they meet."""
    one, two, three = (data.draw(st.sampled_from(states)) for _ in range(3))
    assert same(join(one, two), join(two, one))
    assert same(join(join(one, two), three), join(one, join(two, three)))
    assert join(one, one) is one


@settings(deadline=None)
@given(histories())
def test_a_later_edit_replaces_what_it_continues(states: list[Leaves]) -> None:
    """No leaf of a joined state is an ancestor of another."""
    known = states[0]
    for state in states[1:]:
        known = join(known, state)
    revs = {leaf.rev for leaf in known}
    assert not any(ancestor in revs for leaf in known for ancestor in leaf.ancestors)


def test_a_live_leaf_wins_over_a_deleted_one() -> None:
    """A deletion on one side of a partition does not hide an edit on the other."""
    first = edit(None, None, {}, deleted=False)
    deleted = edit(first, first[0].rev, {}, deleted=True)
    edited = edit(first, first[0].rev, {"x": 1}, deleted=False)
    assert join(deleted, edited)[0] is edited[0]
    assert newest(join(deleted, edited), deleted[0].rev) is deleted[0]


def test_an_edit_that_continues_nothing_is_a_conflict() -> None:
    """Without a revision only a document that is not there can be written; with one, it must be a leaf."""
    first = edit(None, None, {}, deleted=False)
    for leaves, rev in ((first, None), (first, "1-0"), (None, "1-0")):
        with pytest.raises(ConflictError):
            edit(leaves, rev, {"x": 1}, deleted=False)


def test_a_deleted_document_can_be_written_again_without_a_revision() -> None:
    """The new revision goes on from the deletion, so that it wins everywhere."""
    first = edit(None, None, {}, deleted=False)
    deleted = edit(first, first[0].rev, {}, deleted=True)
    again = edit(deleted, None, {"again": True}, deleted=False)
    assert again[0].generation == 3
    assert join(deleted, again) is again
