"""The steps for peruserd's own database, by the facts that are known. A small model of a server carries them out."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.cluster.cluster_database import (
    ADMINS_ONLY,
    MARKER,
    MAX_COPIES,
    CopyState,
    Create,
    Known,
    Ready,
    Refuse,
    Secure,
    Step,
    Wait,
    WriteMarker,
    copies_wanted,
    holds_marker,
    is_marker,
    next_step,
)

NODES = ("n1", "n2", "n3")
ALL = frozenset(NODES)
SOMEBODY: dict[str, Any] = {"admins": {"roles": ["_admin"]}, "members": {"names": ["eve"], "roles": []}}


def _known(**more: Any) -> Known:
    values: dict[str, Any] = {"connected": ALL, "members": ALL, "auth_db_exists": True, "setup": "cluster_finished"}
    return Known("peruserd", **values | more)


def _copies(nodes: tuple[str, ...] = NODES, **more: Any) -> tuple[CopyState, ...]:
    values: dict[str, Any] = {"security": ADMINS_ONLY, "marker": None, "untouched": True}
    return tuple(CopyState(node, **values | more) for node in nodes)


def _there(copies: tuple[CopyState, ...], **more: Any) -> Known:
    return _known(hosts=NODES, copies=copies, **more)


def test_a_missing_database_is_made_with_a_copy_on_each_node_up_to_five() -> None:
    """More copies would make each reading slower. With fewer copies, fewer lost hosts would stop the leases."""
    assert next_step(_known()) == Create(3)
    assert [copies_wanted(members) for members in (1, 2, 5, 6, 100)] == [1, 2, 5, 5, MAX_COPIES]


@pytest.mark.parametrize(
    ("known", "why"),
    [
        (_known(auth_db_exists=False), "authentication database"),
        (_known(connected=frozenset({"n1"})), "1 of 3 are"),
        (_known(known_by=("n2",)), "others do: n2"),
        (_known(connected=frozenset({"n1", "x", "y"})), "1 of 3 are"),
        (_known(connected=frozenset({"n1", "n2"}), members=frozenset({"n1", "n2", "n3", "n4"})), "2 of 4 are"),
        (_known(setup="cluster_enabled"), "cluster_enabled"),
        (_known(setup="cluster_disabled"), "_replicator"),
        (_known(setup=None), "nothing"),
    ],
    ids=["no-users", "alone", "known-elsewhere", "with-strangers", "half", "enabled", "no-replicator", "nothing-known"],
)
def test_it_is_not_made_before_the_cluster_is(known: Known, why: str) -> None:
    """A database from before the set-up would have its copies on the first node alone. The step says so."""
    step = next_step(known)
    assert isinstance(step, Wait)
    assert why in step.why


@pytest.mark.parametrize("setup", ["cluster_disabled", "cluster_enabled", "single_node_disabled", None])
def test_a_cluster_that_was_set_up_by_hand_is_known_by_its_databases(setup: str | None) -> None:
    """A server that listens on the loopback interface calls itself disabled for ever, whatever it is (measured)."""
    assert next_step(_known(setup=setup, has_replicator=True)) == Create(3)
    assert next_step(_known(setup="single_node_enabled")) == Create(3)


def test_a_database_just_made_is_secured_and_then_marked() -> None:
    """If the server's new databases are public, nobody can write before the marker is there."""
    assert next_step(_there(_copies(security={}))) == Secure(NODES)
    assert next_step(_there(_copies())) == WriteMarker()
    assert next_step(_there(_copies(marker=MARKER))) == Ready()


def test_a_making_that_was_cut_short_is_gone_on_with() -> None:
    """The instance that made it can die before it has written the marker; another one writes it."""
    one_closed = (*_copies(("n1",)), *_copies(("n2", "n3"), security={}))
    assert next_step(_there(one_closed)) == Secure(("n2", "n3"))


@pytest.mark.parametrize(
    ("copies", "why"),
    [
        (_copies(untouched=False), "has documents"),
        ((*_copies(("n1", "n2")), *_copies(("n3",), untouched=False)), "has documents"),
        (_copies(security=SOMEBODY), "gives access"),
        ((*_copies(("n1", "n2")), *_copies(("n3",), security=SOMEBODY)), "gives access"),
        (_copies(marker={"type": "recipe"}), "is not peruserd's"),
        (_copies(marker={**MARKER, "format": 2}), "is not peruserd's"),
        ((*_copies(("n1", "n2"), marker=MARKER), *_copies(("n3",), marker={})), "is not peruserd's"),
    ],
    ids=["documents", "documents-in-one-copy", "access", "access-in-one-copy", "other", "later", "other-in-one-copy"],
)
def test_somebody_elses_database_is_never_taken_over(copies: tuple[CopyState, ...], why: str) -> None:
    """Such a database has documents or members, and no marker. The sentence names the key to change."""
    step = next_step(_there(copies))
    assert isinstance(step, Refuse)
    assert why in step.why
    assert "cluster.database" in step.why


@pytest.mark.parametrize("copies", [_copies(("n3",)), _copies(("n3",), untouched=False)], ids=["empty", "documents"])
def test_a_minority_of_copies_proves_no_marker_missing(copies: tuple[CopyState, ...]) -> None:
    """A copy that was away when the marker was written does not have it, and may have what was written later."""
    step = next_step(_there(copies, connected=frozenset({"n3"})))
    assert isinstance(step, Wait)
    assert "1 of its 3 copies" in step.why


def test_one_copy_with_the_marker_is_enough_to_go_on() -> None:
    """The loss of all other hosts does not stop the leases."""
    assert next_step(_there(_copies(("n3",), marker=MARKER), connected=frozenset({"n3"}))) == Ready()
    assert next_step(_there((*_copies(("n1",), marker=MARKER), *_copies(("n2", "n3"))))) == Ready()


@pytest.mark.parametrize("security", [{}, SOMEBODY, {**ADMINS_ONLY, "more": 1}, {"admins": {"roles": ["_admin"]}}])
def test_our_database_is_closed_again_whoever_opened_it(security: dict[str, Any]) -> None:
    """Each copy that answers is looked at, because a request can be answered by any of them."""
    copies = (*_copies(("n1",), marker=MARKER), *_copies(("n2",), marker=MARKER, security=security))
    assert next_step(_there(copies)) == Secure(("n2",))


def test_a_database_none_of_whose_copies_answers_is_waited_for() -> None:
    """The database is neither created again nor refused, because nothing is known of it."""
    step = next_step(_there(()))
    assert isinstance(step, Wait)
    assert "no copy" in step.why


def test_copies_of_ranges_that_do_not_hold_the_marker_are_secured_as_well() -> None:
    """Somebody may have split its one range."""
    elsewhere = msgspec.structs.replace(_copies(("n2",))[0], holds_marker=False)
    assert next_step(_there((*_copies(("n1",), marker=MARKER), elsewhere))) == Ready()
    opened = msgspec.structs.replace(elsewhere, security={})
    assert next_step(_there((*_copies(("n1",), marker=MARKER), opened))) == Secure(("n2",))
    assert holds_marker(0, 0xFFFFFFFF)
    assert holds_marker(0, 0x7FFFFFFF) != holds_marker(0x80000000, 0xFFFFFFFF)


def test_a_marker_may_have_more_in_it() -> None:
    """The server adds its own fields, and a later version of the same format its."""
    assert is_marker({"_id": "peruserd", "_rev": "1-a", **MARKER, "note": "x"})
    assert not is_marker({"type": "peruserd.cluster"})


SECURITIES = st.sampled_from([{}, ADMINS_ONLY, SOMEBODY])
MARKERS = st.sampled_from([None, None, MARKER, {"type": "other"}])


@given(
    copies=st.lists(
        st.builds(CopyState, st.sampled_from(NODES), SECURITIES, st.just(value=True), MARKERS, st.booleans()),
        max_size=3,
        unique_by=lambda copy: copy.node,
    )
)
def test_what_is_begun_comes_to_an_end_and_touches_nothing_that_is_anothers(copies: list[CopyState]) -> None:
    """From any state, a few steps lead to a database that is ready, refused or waited for.

    Nothing is written to one that shows documents, members or another marker without having ours.
    """
    known = _there(tuple(copies))
    ours = any(each.marker == MARKER for each in copies)
    steps: list[Step] = []
    while not isinstance(step := next_step(known), Ready | Refuse | Wait):
        steps.append(step)
        assert len(steps) <= 3
        known = _carried_out(step, known)
    if steps and not ours:
        assert all(each.untouched and each.security in ({}, ADMINS_ONLY) for each in copies)
        assert len(copies) >= 2
    if isinstance(step, Ready):
        assert all(each.security == ADMINS_ONLY for each in known.copies)


def _carried_out(step: Step, known: Known) -> Known:
    match step:
        case Secure():
            copies = tuple(msgspec.structs.replace(each, security=ADMINS_ONLY) for each in known.copies)
        case _:
            copies = tuple(msgspec.structs.replace(each, marker=MARKER, untouched=False) for each in known.copies)
    return msgspec.structs.replace(known, copies=copies)
