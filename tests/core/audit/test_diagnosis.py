"""The audit's judgement: every finding by itself, and its agreement with what a look does."""

import contextlib
from functools import cache
from itertools import product

import msgspec
import pytest

from peruserd.core.audit.diagnosis import (
    Diagnosis,
    Observation,
    Rules,
    Shape,
    diagnose,
    lacks,
    nodes_behind,
    seen_twice,
    unpadded_name,
)
from peruserd.core.audit.findings import UNSEEN, Finding, Remedy
from peruserd.core.common.names import UnservableNameError
from peruserd.core.configuration.choices import DeletionPolicy, Grant, OnReturn, WhenDeleted
from peruserd.core.configuration.config import DatabasesConfig, DeletionConfig
from peruserd.core.users import security
from peruserd.core.users.evidence import DocumentState, Evidence, Reading, Winner, judge
from peruserd.core.users.facts import CopyReading, Hint
from peruserd.core.users.security import Access, CopiesDisagreeError, Security, first
from tests.core.deciding import FRESH, GRANTED, NODES, PARTNERS, REVOKED, USER, World, known

OPENED: Security = {"admins": {"names": [USER]}, "members": {"names": [], "roles": []}}
EMPTY: Security = {}
STRANGE: Security = {"members": {"names": "alice"}}
STRANGERS: Security = {"admins": {"names": ["bob"]}, "members": {"names": ["bob"]}}
OLD: Security = {"admins": {"names": [USER]}, "readers": {"names": [], "roles": []}}

RULES = Rules(DatabasesConfig(), DeletionConfig())
KEEPING = Rules(DatabasesConfig(), DeletionConfig(policy=DeletionPolicy.KEEP))
HOLDING = Rules(DatabasesConfig(), DeletionConfig(on_return=OnReturn.HOLD))

READINGS = {
    DocumentState.LIVE: Winner("1-a"),
    DocumentState.DELETED: Winner("2-b", deleted=True),
    DocumentState.MISSING: None,
}


def _evidence(state: DocumentState) -> Evidence:
    readings = () if state is DocumentState.UNCLEAR else tuple(Reading(each, READINGS[state]) for each in NODES)
    return Evidence(frozenset(NODES), readings)


def _seen(state: DocumentState, *objects: Security | None, **more: object) -> Observation:
    copies = tuple(CopyReading(node, found) for node, found in zip(NODES, objects, strict=False)) if objects else None
    return msgspec.structs.replace(Observation(USER, _evidence(state), copies), **more)


def _found(seen: Observation, rules: Rules = RULES) -> set[Finding]:
    return set(diagnose(seen, rules).findings)


@pytest.mark.parametrize(
    ("objects", "findings"),
    [
        pytest.param([], {Finding.MISSING}, id="no-database"),
        pytest.param([GRANTED] * 3, set(), id="right"),
        pytest.param([first(USER, Access(Grant.MEMBER))] * 3, set(), id="a-member-by-the-configuration"),
        pytest.param([PARTNERS] * 3, set(), id="what-its-admin-added-is-never-wrong"),
        pytest.param([FRESH] * 3, {Finding.NOT_NAMED}, id="as-a-restore-leaves-it"),
        pytest.param([EMPTY] * 3, {Finding.NOT_NAMED, Finding.PUBLIC}, id="as-a-restore-leaves-it-on-an-open-server"),
        pytest.param([OPENED] * 3, {Finding.NOT_NAMED, Finding.PUBLIC}, id="opened-by-its-user"),
        pytest.param([OLD] * 3, {Finding.NOT_NAMED, Finding.PUBLIC}, id="open-by-readers"),
        pytest.param(
            [GRANTED, GRANTED, FRESH], {Finding.NOT_NAMED, Finding.COPIES_DIFFER}, id="one-copy-on-a-new-disk"
        ),
        pytest.param(
            [GRANTED, EMPTY, GRANTED], {Finding.NOT_NAMED, Finding.PUBLIC, Finding.COPIES_DIFFER}, id="one-public"
        ),
        pytest.param([GRANTED, PARTNERS, PARTNERS], {Finding.COPIES_DIFFER}, id="each-of-them-right"),
        pytest.param([GRANTED, None, GRANTED], {Finding.COPIES_SILENT}, id="one-silent"),
        pytest.param([None, None, None], {Finding.COPIES_SILENT}, id="all-silent"),
        pytest.param([STRANGE] * 3, {Finding.UNREADABLE}, id="malformed"),
    ],
)
def test_the_database_of_a_user_who_is_there(objects: list[Security | None], findings: set[Finding]) -> None:
    """Nothing is found if every copy names the user, none is public, and all are equal."""
    assert _found(_seen(DocumentState.LIVE, *objects)) == findings


@pytest.mark.parametrize(
    ("state", "found", "findings"),
    [
        (DocumentState.LIVE, PARTNERS, (Finding.NOT_NAMED, Finding.COPIES_DIFFER)),
        (DocumentState.DELETED, REVOKED, (Finding.COPIES_DIFFER,)),
    ],
    ids=["live", "deleted"],
)
def test_a_copy_without_a_file_is_a_difference_that_a_look_mends(
    state: DocumentState, found: Security, findings: tuple[Finding, ...]
) -> None:
    """The node says that there is no file, so the copy does not count as unreadable."""
    copies = (CopyReading("n1", found), CopyReading("n2", None, lost=True), CopyReading("n3", found))
    diagnosis = diagnose(Observation(USER, _evidence(state), copies), RULES)
    assert (diagnosis.findings, diagnosis.remedy) == (findings, Remedy.LOOK)
    assert diagnosis.wants_look
    assert diagnosis.words == "the security object is written to all copies; n2 has no file of its copy"
    # CouchDB makes copies by itself after somebody has written a document, and lets the new copies win.
    made = diagnose(_seen(state, *[FRESH] * 3), RULES)
    assert seen_twice(diagnosis, made).wants_look is (state is DocumentState.LIVE)


@pytest.mark.parametrize(
    ("objects", "findings"),
    [
        pytest.param([], set(), id="no-database"),
        pytest.param([REVOKED] * 3, set(), id="right"),
        pytest.param([GRANTED] * 3, {Finding.STILL_NAMED}, id="still-named"),
        pytest.param([REVOKED, REVOKED, GRANTED], {Finding.STILL_NAMED, Finding.COPIES_DIFFER}, id="in-one-copy"),
        pytest.param([EMPTY] * 3, {Finding.PUBLIC}, id="public"),
        pytest.param([REVOKED, None, REVOKED], {Finding.COPIES_SILENT}, id="one-silent"),
    ],
)
@pytest.mark.parametrize("policy", [DeletionPolicy.REVOKE, DeletionPolicy.DROP])
def test_the_database_of_a_deleted_user(
    objects: list[Security | None], findings: set[Finding], policy: DeletionPolicy
) -> None:
    """No copy names the user, and none is public; with `keep` everything stays as it is."""
    seen = _seen(DocumentState.DELETED, *objects)
    assert _found(seen, Rules(DatabasesConfig(), DeletionConfig(policy=policy))) == findings
    assert _found(seen, KEEPING) == set()


def test_a_database_of_nobody_is_reported_and_left_alone() -> None:
    """The user never had a document, so only a person can say who owns the database."""
    seen = _seen(DocumentState.MISSING, EMPTY, EMPTY, EMPTY)
    diagnosis = diagnose(seen, RULES)
    assert (diagnosis.findings, diagnosis.remedy) == ((Finding.NO_USER,), Remedy.OPERATOR)
    assert _found(_seen(DocumentState.MISSING)) == set()


def test_a_user_who_cannot_be_confirmed_is_no_finding_about_the_database() -> None:
    """While it is unknown whether the user exists, the audit says nothing of the database, and counts no difference."""
    diagnosis = diagnose(_seen(DocumentState.UNCLEAR, FRESH, FRESH, FRESH), RULES)
    assert (diagnosis.findings, diagnosis.remedy, diagnosis.differs) == ((Finding.UNCONFIRMED,), Remedy.LATER, False)


def test_a_difference_that_waits_for_a_node_is_looked_at_all_the_same() -> None:
    """The look puts the user into quarantine, and the node's return takes the user out. Silence alone is no reason."""
    apart = diagnose(_seen(DocumentState.LIVE, None, None, FRESH), RULES)
    assert (apart.remedy, apart.differs, apart.wants_look) == (Remedy.LATER, True, True)
    silent = diagnose(_seen(DocumentState.LIVE, None, GRANTED, GRANTED), RULES)
    assert (silent.remedy, silent.differs, silent.wants_look) == (Remedy.LATER, False, False)


def test_a_user_who_came_back_is_held_and_not_merely_unnamed() -> None:
    """With `on_return = "hold"` the operator decides, and a look notes that in the journal."""
    diagnosis = diagnose(_seen(DocumentState.LIVE, *[REVOKED] * 3), HOLDING)
    assert (diagnosis.findings, diagnosis.remedy) == ((Finding.HELD,), Remedy.OPERATOR)
    assert diagnosis.wants_look
    assert diagnosis.differs
    assert diagnose(_seen(DocumentState.LIVE, *[REVOKED] * 3), RULES).remedy is Remedy.LOOK


def test_a_database_that_somebody_deleted_can_be_the_operators_to_make_again() -> None:
    """With `when_deleted = "report"` a look finds out whether somebody deleted it, and the words say what follows."""
    rules = Rules(DatabasesConfig(when_deleted=WhenDeleted.REPORT), DeletionConfig())
    diagnosis = diagnose(_seen(DocumentState.LIVE), rules)
    assert (diagnosis.findings, diagnosis.remedy) == ((Finding.MISSING,), Remedy.LOOK)
    assert "operator's word" in diagnosis.words


def test_an_object_too_large_to_read_is_no_silence() -> None:
    """Its user made it, and waiting for a node would not help."""
    diagnosis = diagnose(_seen(DocumentState.LIVE, GRANTED, None, GRANTED, too_large=True), RULES)
    assert diagnosis.findings == (Finding.UNREADABLE,)
    assert diagnosis.differs
    assert "too large" in diagnosis.words


@pytest.mark.parametrize(
    ("configured", "nodes", "shape", "is_right"),
    [
        ({}, None, Shape(1, 3), True),
        ({}, None, Shape(2, 3), False),
        ({}, None, Shape(None, 3), True),
        ({"q": 2}, None, Shape(2, 1), True),
        ({"n": 3}, None, Shape(1, 3), True),
        ({"n": 3}, None, Shape(1, 2), True),
        ({"n": 3}, 3, Shape(1, 2), False),
        ({"n": 3}, 2, Shape(1, 2), True),
        ({"n": 2}, 3, Shape(1, 3), False),
        ({}, None, Shape(1, 3, partitioned=True), False),
        ({"partitioned": True}, None, Shape(1, 3, partitioned=True), True),
    ],
)
def test_options_other_than_configured_are_reported(
    configured: dict[str, object], nodes: int | None, shape: Shape, *, is_right: bool
) -> None:
    """They cannot be changed any more; a cluster never gives more copies than it has nodes."""
    rules = Rules(msgspec.structs.replace(DatabasesConfig(), **configured), DeletionConfig(), nodes)
    diagnosis = diagnose(_seen(DocumentState.LIVE, *[GRANTED] * 3, shape=shape), rules)
    assert (diagnosis.findings == ()) is is_right
    if not is_right:
        assert (diagnosis.findings, diagnosis.remedy) == ((Finding.OPTIONS,), Remedy.OPERATOR)


@pytest.mark.parametrize(
    ("user", "name"),
    [("alice", None), ("a\tb", "userdb-61962"), ("\x01\x02", "userdb-12"), ("josé", None)],
)
def test_the_name_that_couch_peruser_gives(user: str, name: str | None) -> None:
    """couch_peruser writes one digit for a byte below 0x10, so the name differs only for users with such a byte."""
    assert unpadded_name("userdb-", user) == name


def test_a_user_without_a_name_has_no_other_one() -> None:
    """The audit passes over users who can have no database."""
    with pytest.raises(UnservableNameError):
        unpadded_name("userdb-", "")


def test_an_unpadded_database_is_reported_with_its_name() -> None:
    """Data of the user can be in it, and two users can share it."""
    diagnosis = diagnose(_seen(DocumentState.LIVE, *[GRANTED] * 3, unpadded="userdb-12"), RULES)
    assert (diagnosis.findings, diagnosis.remedy) == ((Finding.UNPADDED,), Remedy.OPERATOR)
    assert "userdb-12" in diagnosis.words


def test_the_copy_that_is_behind_is_named() -> None:
    """A copy without the winning revision is behind. A copy with the winner in its history has moved on."""
    a, b, c = NODES
    behind = Evidence(frozenset(NODES), (Reading(a, Winner("1-a")), Reading(b, None), Reading(c, Winner("1-a"))))
    assert nodes_behind(behind, judge(behind)) == (b,)
    seen = msgspec.structs.replace(_seen(DocumentState.LIVE, *[GRANTED] * 3), evidence=behind)
    diagnosis = diagnose(seen, RULES)
    assert (diagnosis.findings, diagnosis.remedy) == ((Finding.COPY_BEHIND,), Remedy.OPERATOR)
    assert b in diagnosis.words
    two = Winner("2-b", deleted=True)
    moved = Evidence(
        frozenset(NODES),
        (Reading(a, two, frozenset({"1-a"})), Reading(b, Winner("1-a")), Reading(c, two, frozenset({"1-a"}))),
    )
    assert nodes_behind(moved, judge(moved)) == (b,)
    silent = Evidence(frozenset(NODES), (Reading(a, two), Reading(c, two)))
    assert nodes_behind(silent, judge(silent)) == ()


def test_a_copy_lacks_what_another_one_shows_by_the_same_id() -> None:
    """A row of a document with invalid bytes in its id says nothing of the copy: no copy shows it by that id."""
    a, b, c = NODES

    two = Winner("2-b")

    def read(mine: Winner | None, *knows: str, others: Winner | None = two) -> bool:
        readings = (Reading(a, mine, frozenset(knows)), Reading(b, others), Reading(c, others))
        return lacks(Evidence(frozenset(NODES), readings), a)

    assert read(None)
    assert read(Winner("1-a"))
    assert read(Winner("1-a"), others=Winner("2-b", deleted=True))
    assert not read(Winner("2-b"))
    assert not read(Winner("3-c"), "2-b")
    assert not read(None, others=None)
    assert not read(Winner("1-a"), others=None)
    silent = Evidence(frozenset(NODES), (Reading(b, Winner("2-b")), Reading(c, Winner("2-b"))))
    assert not lacks(silent, a)


def test_only_what_is_seen_twice_counts() -> None:
    """A user who signs up is without a database for a moment, and a replica lags for one."""
    first = Diagnosis("ann", (Finding.MISSING, Finding.COPY_BEHIND), Remedy.LOOK, "made")
    again = Diagnosis("ann", (Finding.NOT_NAMED, Finding.COPY_BEHIND), Remedy.LOOK, "written")
    assert seen_twice(first, again).findings == (Finding.COPY_BEHIND,)
    assert seen_twice(first, Diagnosis("ann")) == Diagnosis("ann")
    assert seen_twice(first, first) is first
    assert seen_twice(Diagnosis("ann", (Finding.HELD,)), first) == Diagnosis("ann")


# In agreement with what a look does

_CATALOGUE: tuple[Security | None, ...] = (None, GRANTED, REVOKED, FRESH, EMPTY, OPENED, PARTNERS, STRANGERS)
_STATES = (DocumentState.LIVE, DocumentState.DELETED, DocumentState.MISSING, DocumentState.UNCLEAR)
_ALL_RULES = [
    Rules(DatabasesConfig(), DeletionConfig(policy=policy, on_return=on_return))
    for policy, on_return in product(DeletionPolicy, OnReturn)
]


@cache
def _all_seen() -> list[Observation]:
    copies = [(), *product(_CATALOGUE, repeat=3)]
    return [_seen(state, *objects) for state in _STATES for objects in copies]


def test_a_difference_that_stays_is_seen_once() -> None:
    """The options of a database never change. All other findings that can pass are looked at again."""
    for lasting in (Finding.OPTIONS, Finding.UNPADDED):
        assert not Diagnosis("u", (lasting,)).may_pass
        assert not Diagnosis("u", (lasting, Finding.COPIES_SILENT)).may_pass
        assert Diagnosis("u", (lasting, Finding.MISSING)).may_pass
    assert not Diagnosis("u").may_pass
    assert Diagnosis("u", (Finding.PUBLIC,)).may_pass


def test_what_the_audit_finds_is_what_a_look_would_change() -> None:
    """For every state of three copies: no finding where a look has nothing to do, and a look where it says so."""
    for seen, rules in product(_all_seen(), _ALL_RULES):
        diagnosis = diagnose(seen, rules)
        if not diagnosis.findings:
            assert (diagnosis.remedy, diagnosis.words) == (Remedy.NOTHING, "")
        else:
            assert diagnosis.remedy is not Remedy.NOTHING
        if diagnosis.remedy is Remedy.LOOK:
            assert diagnosis.differs, (seen, rules)
        if diagnosis.remedy is Remedy.OPERATOR:
            assert diagnosis.words


def test_nothing_that_a_look_mends_is_left_after_it() -> None:
    """The look is carried out on every state of three copies. If all are readable, only a person's part is left."""
    for seen, rules in product(_all_seen(), _ALL_RULES):
        state = judge(seen.evidence).state
        if state is DocumentState.UNCLEAR or any(each.security is None for each in seen.copies or ()):
            continue
        objects = None if seen.copies is None else [each.security or {} for each in seen.copies]
        world = World(objects, state)
        policy, on_return = rules.deletion.policy, rules.deletion.on_return
        with contextlib.suppress(CopiesDisagreeError):
            world.act(known(Hint.CONTESTED, policy=policy, on_return=on_return))
        after = diagnose(_seen(state, *(world.copies or ())), rules)
        assert after.remedy is not Remedy.LOOK, (seen, rules, world.copies)
        assert not UNSEEN.intersection(after.findings)
        if after.findings and state is DocumentState.LIVE:
            # The copies disagree without a majority, or the name was freed.
            assert after.remedy is Remedy.OPERATOR, (seen, rules, world.copies)
        if state is DocumentState.LIVE and rules.deletion.on_return is OnReturn.REOPEN and not after.findings:
            assert all(not security.is_public(each) for each in world.copies or [])


def test_a_database_that_its_user_opened_is_closed_again() -> None:
    """The look puts the user among the members, so the members are not empty any more."""
    for opened in (OPENED, EMPTY, OLD, {"members": {"names": [USER], "roles": []}, "admins": {"names": []}}):
        world = World([opened] * 3, DocumentState.LIVE)
        world.act(known(Hint.CONTESTED))
        assert world.copies is not None
        assert not any(security.is_public(each) for each in world.copies)
        assert diagnose(_seen(DocumentState.LIVE, *world.copies), RULES).findings == ()
