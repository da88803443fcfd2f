"""The state of a user, by the answers of copies."""

from typing import Any

import pytest

from peruserd.core.users.evidence import Evidence, Reading, Winner
from peruserd.core.users.facts import CopyReading
from peruserd.core.users.inquiries import KeptUser
from peruserd.core.users.readiness import (
    Readiness,
    UserState,
    is_whole_look,
    lets_in,
    pause_seconds,
    readiness,
    unservable,
    with_quarantine,
)
from peruserd.core.users.security import first

NODES = ("a", "b", "c")
LIVE, DEAD = Winner("1-a"), Winner("2-b", deleted=True)
OF_ALICE = first("alice")


def _evidence(*winners: Winner | None, knows: frozenset[str] = frozenset()) -> Evidence:
    """The answers of as many of three nodes as are given."""
    readings = tuple(Reading(node, each, knows) for node, each in zip(NODES, winners, strict=False))
    return Evidence(frozenset(NODES), readings)


def _copies(*securities: dict[str, Any] | None) -> tuple[CopyReading, ...]:
    return tuple(CopyReading(node, each) for node, each in zip(NODES, securities, strict=True))


ALL_LIVE = _evidence(LIVE, LIVE, LIVE)
RIGHT = _copies(OF_ALICE, OF_ALICE, OF_ALICE)


@pytest.mark.parametrize(
    ("evidence", "copies", "state"),
    [
        pytest.param(ALL_LIVE, RIGHT, UserState.SERVED, id="all-right"),
        pytest.param(ALL_LIVE, None, UserState.IN_PROGRESS, id="no-database"),
        pytest.param(ALL_LIVE, (), UserState.IN_PROGRESS, id="a-map-without-copies"),
        pytest.param(ALL_LIVE, _copies({}, {}, {}), UserState.IN_PROGRESS, id="not-secured"),
        pytest.param(ALL_LIVE, _copies(OF_ALICE, OF_ALICE, {}), UserState.IN_PROGRESS, id="one-copy-blank"),
        pytest.param(ALL_LIVE, _copies(first("bob"), first("bob"), first("bob")), UserState.IN_PROGRESS, id="others"),
        pytest.param(ALL_LIVE, _copies(OF_ALICE, OF_ALICE, None), UserState.SERVED, id="one-copy-away"),
        pytest.param(ALL_LIVE, _copies(OF_ALICE, None, None), UserState.IN_PROGRESS, id="two-copies-away"),
        pytest.param(ALL_LIVE, _copies(None, None, None), UserState.IN_PROGRESS, id="all-copies-away"),
        pytest.param(ALL_LIVE, _copies({"admins": 1}, OF_ALICE, OF_ALICE), UserState.IN_PROGRESS, id="malformed"),
        pytest.param(_evidence(LIVE, None, None), RIGHT, UserState.SERVED, id="signed-up-a-moment-ago"),
        pytest.param(_evidence(DEAD, DEAD, DEAD), RIGHT, UserState.UNKNOWN, id="deleted-and-still-named"),
        pytest.param(_evidence(None, None), None, UserState.UNKNOWN, id="never-was"),
        pytest.param(_evidence(LIVE, DEAD), RIGHT, UserState.IN_PROGRESS, id="copies-of-the-document-disagree"),
        pytest.param(_evidence(LIVE), RIGHT, UserState.UNCLEAR, id="one-node-of-three"),
        pytest.param(Evidence(frozenset(), ()), None, UserState.UNCLEAR, id="no-authentication-database"),
    ],
)
def test_the_state_follows_from_what_copies_say(
    evidence: Evidence, copies: tuple[CopyReading, ...] | None, state: UserState
) -> None:
    """Served is a live document, a majority of the database's copies, and access in each that answers."""
    assert readiness("alice", evidence, copies).state is state


def _kept(kind: str, *, passing: bool) -> KeptUser:
    return KeptUser("alice", False, kind, "…", "…", 1, 0.0, passing=passing)  # noqa: FBT003 - a record


def test_what_the_instance_keeps_in_quarantine_is_said_of_users_who_are_not_served() -> None:
    """The answer has the kind, and whether the instance tries again. A user who is served by now is no failure."""
    waits = Readiness("alice", UserState.IN_PROGRESS)
    held = with_quarantine(waits, _kept("held", passing=False))
    assert (held.state, held.kind, held.passing) == (UserState.QUARANTINED, "held", False)
    again = with_quarantine(waits, _kept("timeout", passing=True))
    assert (again.state, again.kind, again.passing) == (UserState.QUARANTINED, "timeout", True)
    assert with_quarantine(waits, None) is waits
    for state in (UserState.SERVED, UserState.UNKNOWN, UserState.UNCLEAR):
        other = Readiness("alice", state)
        assert with_quarantine(other, _kept("timeout", passing=True)) is other


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"members": {"names": ["alice"]}, "admins": {"roles": ["_admin"]}}, True),
        ({"members": {"names": ["alice", "friend"], "roles": ["support"]}}, True),
        ({"members": {"roles": ["_admin"]}, "admins": {"names": ["alice"]}}, True),
        ({"readers": {"names": ["alice"]}}, True),
        ({"readers": {"names": ["alice"]}, "members": {"roles": ["_admin"]}}, False),
        ({"admins": {"names": ["alice"]}}, False),
        ({"members": {"names": ["bob"]}}, False),
        ({}, False),
        ({"members": {"names": "alice"}}, False),
        ({"members": ["alice"]}, False),
    ],
)
def test_a_user_is_let_in_by_name_and_not_because_everybody_is(found: dict[str, Any], *, expected: bool) -> None:
    """Members and admins get in; a database that is open to all is not the user's alone."""
    assert lets_in(found, "alice") is expected


@pytest.mark.parametrize(
    ("found", "is_final"),
    [
        (Readiness("a", UserState.SERVED), True),
        (Readiness("a", UserState.UNKNOWN), True),
        (Readiness("a", UserState.UNSERVABLE), True),
        (Readiness("a", UserState.IN_PROGRESS), False),
        (Readiness("a", UserState.UNCLEAR, "timeout"), False),
        (Readiness("a", UserState.QUARANTINED, "held", passing=False), True),
        (Readiness("a", UserState.QUARANTINED, "timeout", passing=True), False),
    ],
)
def test_a_wait_ends_where_nothing_changes_by_itself(found: Readiness, *, is_final: bool) -> None:
    """A request waits while the instance tries again by itself, and while the server is away."""
    assert found.is_final is is_final


def test_names_that_no_database_can_have_are_said() -> None:
    """An empty name, one too long and a lone surrogate are answered without asking anybody."""
    assert unservable("userdb-", "alice/ü") is None
    assert unservable("userdb-", "a" * 115) is None
    assert "empty" in (unservable("userdb-", "") or "")
    assert "116 bytes" in (unservable("userdb-", "a" * 116) or "")
    assert "Unicode" in (unservable("userdb-", "\ud800") or "")


def test_looks_become_rarer_and_each_ninth_is_a_whole_one() -> None:
    """A minute of waiting is some forty looks, five of them whole; the pause is a quarter of the time that passed."""
    whole = [number for number in range(30) if is_whole_look(number)]
    assert whole == [0, 9, 18, 27]
    pauses = [pause_seconds(number) for number in range(1_000)]
    assert pauses[0] == 0.05
    assert max(pauses) == 2.0
    assert sorted(pauses) == pauses
    passed = 0.0
    for pause in pauses:
        assert pause <= 0.05 + passed / 4 + 1e-9
        passed += pause
    assert 35 < sum(sum(pauses[:number]) < 60 for number in range(100)) < 50


def test_without_an_authentication_database_no_majority_is_missed() -> None:
    """There is nobody to ask about, and no node that could come back."""
    assert readiness("alice", Evidence(frozenset(), ()), None) == Readiness("alice", UserState.UNCLEAR, "no_auth_db")
    assert readiness("alice", _evidence(None), None).kind == "no_majority"


def test_an_id_in_the_place_of_a_name_comes_with_a_hint() -> None:
    """Such a name is rare. A user with it gets the same answer as everybody."""
    name = "org.couchdb.user:alice"
    assert "without 'org.couchdb.user:'" in (readiness(name, _evidence(None, None), None).hint or "")
    assert readiness("alice", _evidence(None, None), None).hint is None
    assert readiness(name, ALL_LIVE, _copies(*[first(name)] * 3)) == Readiness(name, UserState.SERVED)
