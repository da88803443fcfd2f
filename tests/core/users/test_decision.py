"""The decision, carried out on a small world in memory (`tests.core.deciding`)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.configuration.choices import DeletionPolicy, Grant, OnReturn
from peruserd.core.users import security
from peruserd.core.users.decision import decide
from peruserd.core.users.evidence import DocumentState
from peruserd.core.users.facts import Database, Hint
from peruserd.core.users.security import Access, CopiesDisagreeError, Security
from peruserd.core.users.steps import Ask, Create, Failed, NothingToDo, Removed, Served, Step, Write, WriteEach
from tests.core.deciding import FRESH, GRANTED, NODES, PARTNERS, REVOKED, USER, World, known

BOBS: Security = {**PARTNERS, "members": {"names": ["bob"]}}

# New users


def test_a_new_user_takes_two_requests() -> None:
    """A live row and a database that was not there: create, write the constant, and nothing is asked."""
    world = World(None, DocumentState.LIVE)
    assert world.act(known(Hint.LIVE)) == Served()
    assert world.steps == [Create(), Write(GRANTED), Served()]


def test_a_new_database_gets_the_constant_whatever_it_begins_with() -> None:
    """The second write is made without reading what somebody may have written in between."""
    assert decide(known(Hint.LIVE, database=Database.CREATED)) == Write(GRANTED)


def test_a_user_who_is_served_already_costs_a_glance() -> None:
    """A database that was there and names the user is right, and the document is not asked for."""
    world = World([PARTNERS] * 3, DocumentState.DELETED)
    assert world.act(known(Hint.LIVE)) == Served()
    assert world.steps == [Create(), Ask.GLANCE, Served()]


# Rows that are no truth


def test_a_live_row_of_a_deleted_user_gives_no_access_back() -> None:
    """A copy that was away shows a deleted user as live; the other copies are asked before anything is granted."""
    world = World([REVOKED] * 3, DocumentState.DELETED)
    assert world.act(known(Hint.LIVE)) == Removed()
    assert world.copies == [REVOKED] * 3


def test_a_tombstone_of_a_live_user_takes_nothing_away() -> None:
    """The row was another document's, or the user came back: who is live is served."""
    world = World([GRANTED] * 3, DocumentState.LIVE)
    assert world.act(known(Hint.DELETED)) == Served()
    assert world.copies == [GRANTED] * 3


def test_rows_that_contradict_each_other_serve_a_live_user() -> None:
    """Neither of two rows hides the other: the document decides, and its database is made."""
    world = World(None, DocumentState.LIVE)
    assert world.act(known(Hint.CONTESTED)) == Served()
    assert world.copies == [GRANTED] * 3


def test_rows_that_contradict_each_other_revoke_a_deleted_user() -> None:
    """A live row that came after the tombstone does not keep a deleted user's access."""
    world = World([GRANTED] * 3, DocumentState.DELETED)
    assert world.act(known(Hint.CONTESTED)) == Removed()
    assert world.copies == [REVOKED] * 3


@pytest.mark.parametrize("hint", [Hint.LIVE, Hint.DELETED, Hint.CONTESTED])
def test_a_user_who_never_was_changes_no_database(hint: Hint) -> None:
    """Access is neither given nor taken for a document that no copy has ever heard of."""
    world = World([BOBS] * 3, DocumentState.MISSING)
    before = list(world.copies or [])
    assert isinstance(world.act(known(hint)), NothingToDo)
    assert world.copies == before


@pytest.mark.parametrize("hint", [Hint.LIVE, Hint.DELETED, Hint.CONTESTED])
def test_what_is_unclear_is_tried_again(hint: Hint) -> None:
    """Without a majority of answers nothing is given, nothing is taken, and nothing is forgotten."""
    world = World([BOBS] * 3, DocumentState.UNCLEAR)
    before = list(world.copies or [])
    step = world.act(known(hint))
    assert isinstance(step, Failed)
    assert step.failure.kind == "unconfirmed"
    assert world.copies == before


# Copies


def test_a_blank_copy_does_not_wipe_the_others() -> None:
    """If one of three copies lost its object, partners, roles and other keys are restored there."""
    world = World([FRESH, PARTNERS, PARTNERS], DocumentState.LIVE)
    assert world.act(known(Hint.LIVE)) == Served()
    assert world.copies == [PARTNERS] * 3


def test_a_blank_copy_does_not_keep_a_deleted_users_access() -> None:
    """The first copy that is read names nobody. The user is removed from the other copies all the same."""
    world = World([FRESH, PARTNERS, PARTNERS], DocumentState.DELETED)
    assert world.act(known(Hint.DELETED)) == Removed()
    assert world.copies == [security.revoke(PARTNERS, USER)] * 3


def test_a_write_of_others_that_is_under_way_while_copies_are_read_is_left_alone() -> None:
    """Copies that differ may be in the middle of somebody's write: they are read again before anything is written."""
    shared = {**GRANTED, "members": {"names": [USER, "bob"], "roles": ["_admin"]}}
    world = World([shared, GRANTED, GRANTED], DocumentState.LIVE)

    def ends_its_write(there: World) -> None:
        there.copies = [shared] * 3

    world.after_confirmation = ends_its_write
    step = world.act(world.look(known(Hint.LIVE)))
    assert (step, world.copies) == (Served(), [shared] * 3)
    assert not any(isinstance(each, Write) for each in world.steps)


def test_a_revocation_keeps_what_others_write_before_the_document_is_confirmed() -> None:
    """A partner who is let in meanwhile stays in."""
    world = World([GRANTED] * 3, DocumentState.DELETED)

    def lets_bob_in(there: World) -> None:
        there.copies = [PARTNERS] * 3

    world.after_confirmation = lets_bob_in
    assert world.act(known(Hint.DELETED)) == Removed()
    assert world.copies == [security.revoke(PARTNERS, USER)] * 3


def test_copies_that_disagree_are_left_to_the_operator_by_a_grant() -> None:
    """No majority holds any of three objects: nothing is written over."""
    copies = [REVOKED, {**PARTNERS, "admins": {}}, {"members": {"names": ["eve"]}}]
    world = World(list(copies), DocumentState.LIVE)
    with pytest.raises(CopiesDisagreeError):
        world.act(known(Hint.LIVE))
    assert world.copies == copies


def test_a_revocation_is_carried_out_on_each_copy_that_disagrees() -> None:
    """A deleted user is in no copy afterwards; the copies stay apart in all else, for the operator."""
    world = World([GRANTED, PARTNERS, {"members": {"names": ["eve", USER]}}], DocumentState.DELETED)
    step = world.act(known(Hint.DELETED))
    assert isinstance(step, Failed)
    assert step.failure.kind == "copies_disagree"
    assert world.copies == [REVOKED, security.revoke(PARTNERS, USER), {"members": {"names": ["eve"]}}]


def test_a_revocation_waits_for_a_copy_that_is_away() -> None:
    """The copies that can be read are revoked at once, and the user is looked at until the last one is there."""
    world = World([GRANTED] * 3, DocumentState.DELETED, away=frozenset({2}))
    step = world.act(known(Hint.DELETED))
    assert isinstance(step, Failed)
    assert (step.failure.kind, step.failure.waits_for) == ("copies_away", ("node3",))
    assert world.copies == [REVOKED, REVOKED, GRANTED]


@pytest.mark.parametrize("hint", [Hint.CONTESTED, Hint.DELETED])
def test_who_looks_on_anothers_word_does_not_try_to_create_what_is_there(hint: Hint) -> None:
    """A tombstone of another document costs reads, however often it comes, and never a PUT."""
    world = World([GRANTED] * 3, DocumentState.LIVE)
    assert isinstance(world.act(known(hint)), Served | Removed)
    assert not [each for each in world.steps if isinstance(each, Create | Write | WriteEach)]


def test_nobody_is_let_in_on_the_word_of_a_minority_of_copies() -> None:
    """The only readable copy is blank. Nothing is written, because the other copies may be back by then."""
    world = World([FRESH, PARTNERS, PARTNERS], DocumentState.LIVE, away=frozenset({1, 2}))
    step = world.act(known(Hint.LIVE))
    assert isinstance(step, Failed)
    assert (step.failure.kind, step.failure.waits_for) == ("copies_away", ("node2", "node3"))
    assert not [each for each in world.steps if isinstance(each, Write | WriteEach)]


def test_a_minority_of_copies_is_revoked_one_by_one() -> None:
    """The unreadable copies may hold partners that the readable one has lost, so no write goes to all copies."""
    world = World([GRANTED, PARTNERS, PARTNERS], DocumentState.DELETED, away=frozenset({1, 2}))
    step = world.act(known(Hint.DELETED))
    assert isinstance(step, Failed)
    assert (step.failure.kind, step.failure.waits_for) == ("copies_away", ("node2", "node3"))
    assert world.copies == [REVOKED, PARTNERS, PARTNERS]
    assert not [each for each in world.steps if isinstance(each, Write)]


def test_a_revocation_in_doubt_is_looked_at_twice() -> None:
    """CouchDB's own repair can set a copy back, so copies that agree right after a write are looked at once more."""
    world = World([GRANTED, GRANTED, REVOKED], DocumentState.DELETED)
    first = world.act(known(Hint.DELETED, in_doubt=True))
    assert isinstance(first, Failed)
    assert first.failure.kind == "to_be_seen_again"
    world.copies = [REVOKED, GRANTED, GRANTED]
    assert isinstance(world.act(known(Hint.DELETED, in_doubt=True)), Failed)
    assert world.act(known(Hint.DELETED, in_doubt=True)) == Removed()
    assert world.copies == [REVOKED] * 3


def test_another_writer_is_heard_and_not_written_over() -> None:
    """The object that somebody else wrote between our write and our look is the base of the next write."""
    world = World([FRESH] * 3, DocumentState.LIVE)
    theirs = {"members": {"names": ["bob"]}, "admins": {"names": ["bob"]}}

    def interfere(world: World) -> None:
        world.copies = [theirs] * 3
        world.after_write = lambda _world: None

    world.after_write = interfere
    assert world.act(known(Hint.LIVE)) == Served()
    assert world.copies == [security.grant(theirs, USER)] * 3


def test_another_writer_is_not_fought_for_ever() -> None:
    """Somebody who undoes each write makes this a failure of the user, to be tried later."""
    world = World([FRESH] * 3, DocumentState.LIVE)

    def undo(world: World) -> None:
        world.copies = [FRESH] * 3

    world.after_write = undo
    step = world.act(known(Hint.LIVE))
    assert isinstance(step, Failed)
    assert step.failure.kind == "restless_security"


# Policies


@pytest.mark.parametrize("hint", [Hint.DELETED, Hint.CONTESTED])
def test_keep_takes_nothing_away(hint: Hint) -> None:
    """With the policy `keep`, a deleted user's database is as it was."""
    world = World([PARTNERS] * 3, DocumentState.DELETED)
    assert isinstance(world.act(known(hint, policy=DeletionPolicy.KEEP)), NothingToDo)
    assert world.copies == [PARTNERS] * 3


def test_keep_asks_nothing_about_a_deletion() -> None:
    """With the policy `keep`, a tombstone costs no request."""
    assert isinstance(decide(known(Hint.DELETED, policy=DeletionPolicy.KEEP)), NothingToDo)


def test_keep_ends_where_a_database_in_doubt_is_gone() -> None:
    """Somebody deleted the database after a write of its security object had failed: there is nothing to make whole."""
    world = World(None, DocumentState.DELETED)
    facts = known(Hint.CONTESTED, policy=DeletionPolicy.KEEP, in_doubt=True)
    assert world.act(facts) == Removed(absent=True)


def test_a_deleted_user_without_a_database_is_nothing_to_do() -> None:
    """No database is made for a tombstone, and the document is not asked for."""
    world = World(None, DocumentState.DELETED)
    assert world.act(known(Hint.DELETED)) == Removed(absent=True)
    assert world.steps == [Ask.COPIES, Removed(absent=True)]


def test_a_deleted_user_who_is_named_nowhere_costs_no_question_about_the_document() -> None:
    """Where there is nothing to take away, nothing has to be confirmed: a scan meets many of these."""
    world = World([REVOKED] * 3, DocumentState.DELETED)
    assert world.act(known(Hint.DELETED)) == Removed()
    assert world.steps == [Ask.COPIES, Removed()]


@pytest.mark.parametrize(
    ("document", "ends"),
    [
        (DocumentState.DELETED, Removed(absent=True)),
        (DocumentState.MISSING, NothingToDo("there is no such user document")),
    ],
)
def test_a_write_in_doubt_is_settled_by_a_database_that_is_gone(document: DocumentState, ends: Step) -> None:
    """Somebody deleted it since; there is nothing left that could be whole, and the act ends."""
    world = World(None, document)
    end = world.act(known(Hint.CONTESTED, policy=DeletionPolicy.KEEP, in_doubt=True))
    assert world.steps == [Ask.DOCUMENT, Ask.COPIES, ends]
    assert end == ends


# Copies that a write did not reach


@pytest.mark.parametrize("lost", [FRESH, REVOKED, {}])
def test_a_write_waits_for_the_copies_that_it_did_not_reach(lost: Security) -> None:
    """CouchDB repairs such copies only if all others are equal, and nobody else would look at them."""
    world = World([REVOKED, REVOKED, lost], DocumentState.LIVE, away=frozenset({2}))
    end = world.act(known(Hint.LIVE))
    assert isinstance(end, Failed)
    assert (end.failure.kind, end.failure.waits_for) == ("copies_away", (NODES[2],))
    assert world.readable() == [GRANTED] * 2
    again = world.act(known(Hint.LIVE, in_doubt=True))
    assert isinstance(again, Failed)
    assert again.failure.kind == "copies_away"
    world.away = frozenset()
    assert world.act(known(Hint.LIVE, in_doubt=True)) == Served()
    assert world.copies == [GRANTED] * 3


def test_a_user_who_is_right_waits_for_no_copy() -> None:
    """Where nothing was written, a node that is away is no reason to look at everybody again."""
    world = World([GRANTED] * 3, DocumentState.LIVE, away=frozenset({2}))
    assert world.act(known(Hint.CONTESTED)) == Served()


@pytest.mark.parametrize("hint", [Hint.CONTESTED, Hint.LIVE])
def test_a_copy_on_a_node_that_is_connected_is_waited_for(hint: Hint) -> None:
    """CouchDB makes the copy of a node that was away some seconds after its return, with an object of its own."""
    world = World([GRANTED, GRANTED, FRESH], DocumentState.LIVE, away=frozenset({2}))
    facts = known(hint, connected=frozenset(NODES))
    end = world.act(facts if hint is Hint.CONTESTED else world.look(facts))
    assert isinstance(end, Failed)
    assert (end.failure.kind, end.failure.waits_for) == ("copies_away", (NODES[2],))
    world.away = frozenset()
    assert world.act(known(Hint.CONTESTED)) == Served()
    assert world.copies == [GRANTED] * 3


# Rights by the configuration

MEMBER = Access(Grant.MEMBER)
AS_MEMBER = security.first(USER, MEMBER)
STAFF = Access(Grant.MEMBER, admin_roles=("support",), member_roles=("support", "audit"))


def test_a_new_database_gets_the_configured_rights() -> None:
    """With the grant `member` the name is among the members alone, and it takes no request more."""
    world = World(None, DocumentState.LIVE)
    assert world.act(known(Hint.LIVE, access=MEMBER)) == Served()
    assert world.steps == [Create(), Write(AS_MEMBER), Served()]


@pytest.mark.parametrize("hint", list(Hint))
@pytest.mark.parametrize(("found", "access"), [(GRANTED, MEMBER), (AS_MEMBER, Access()), (GRANTED, STAFF)])
def test_a_database_that_is_there_keeps_its_users_rights(found: Security, access: Access, hint: Hint) -> None:
    """A changed configuration reaches no database by a row, a scan or a review."""
    world = World([found] * 3, DocumentState.LIVE)
    assert isinstance(world.act(known(hint, access=access)), Served | Removed)
    assert world.copies == [found] * 3


@pytest.mark.parametrize(
    ("found", "access", "wanted"),
    [
        (GRANTED, MEMBER, AS_MEMBER),
        (AS_MEMBER, Access(), GRANTED),
        (REVOKED, MEMBER, AS_MEMBER),
        (GRANTED, STAFF, security.first(USER, STAFF)),
        (PARTNERS, MEMBER, {**PARTNERS, "admins": {"names": [], "roles": ["_admin"]}}),
    ],
)
def test_a_rollout_brings_a_database_to_the_configured_rights(
    found: Security, access: Access, wanted: Security
) -> None:
    """It reads the document and each copy before it writes, and other people keep what they have."""
    world = World([found] * 3, DocumentState.LIVE)
    assert world.act(known(Hint.CONTESTED, access=access, rollout=True)) == Served()
    assert world.copies == [wanted] * 3
    assert world.steps[:2] == [Ask.DOCUMENT, Ask.COPIES]


@pytest.mark.parametrize("access", [Access(), MEMBER])
def test_a_user_who_is_named_nowhere_gets_the_configured_rights(access: Access) -> None:
    """Somebody who signs up again gets what everybody new gets."""
    world = World([REVOKED] * 3, DocumentState.LIVE)
    assert world.act(known(Hint.LIVE, access=access)) == Served()
    assert world.copies == [security.first(USER, access)] * 3


def test_a_revocation_takes_the_name_out_of_both_sections_whatever_is_configured() -> None:
    """An old database has the user among its admins although new ones do not."""
    world = World([GRANTED] * 3, DocumentState.DELETED)
    assert world.act(known(Hint.DELETED, access=MEMBER)) == Removed()
    assert world.copies == [REVOKED] * 3


@pytest.mark.parametrize("document", [DocumentState.DELETED, DocumentState.MISSING, DocumentState.UNCLEAR])
@pytest.mark.parametrize("hint", list(Hint))
def test_a_rollout_changes_nothing_for_users_who_are_not_there(document: DocumentState, hint: Hint) -> None:
    """Deletions are for those who own the user: a rollout takes no part in them."""
    world = World([GRANTED] * 3, document)
    assert isinstance(world.act(known(hint, access=MEMBER, rollout=True)), NothingToDo | Failed)
    assert world.copies == [GRANTED] * 3


def test_a_rollout_makes_no_database() -> None:
    """A database that is missing is made by the owner of its user."""
    world = World(None, DocumentState.LIVE)
    assert isinstance(world.act(known(Hint.LIVE, rollout=True)), NothingToDo)
    assert world.copies is None


OBJECTS = st.sampled_from(
    [
        AS_MEMBER,
        FRESH,
        {},
        GRANTED,
        REVOKED,
        PARTNERS,
        {"members": {"names": ["bob"]}},
        {"readers": {"names": [USER, "bob"]}},
    ]
)


@given(
    copies=st.none() | st.lists(OBJECTS, min_size=3, max_size=3),
    document=st.sampled_from(DocumentState),
    hint=st.sampled_from(Hint),
    policy=st.sampled_from([DeletionPolicy.REVOKE, DeletionPolicy.KEEP]),
    in_doubt=st.booleans(),
    away=st.frozensets(st.integers(0, 2), max_size=2),
    on_return=st.sampled_from(OnReturn),
    given_by=st.tuples(st.sampled_from([Access(), MEMBER, STAFF]), st.booleans()),
)
def test_whatever_is_found_the_rules_hold(
    copies: list[Security] | None,
    document: DocumentState,
    hint: Hint,
    policy: DeletionPolicy,
    in_doubt: bool,  # noqa: FBT001 - a parameter of the test
    away: frozenset[int],
    on_return: OnReturn,
    given_by: tuple[Access, bool],
) -> None:
    """Five rules hold, whatever is found.

    - Every act ends.
    - A served user is named in each copy, and a removed user in none.
    - No other name is touched.
    - An existing security object is only written after the document was confirmed.
    - With `hold`, nobody gets a freed database.
    """
    world = World(copies and list(copies), document, away=away)
    is_freed = bool(copies) and security.is_freed(world.readable(), 3, USER)
    access, rollout = given_by
    facts = known(hint, policy=policy, in_doubt=in_doubt, on_return=on_return, access=access, rollout=rollout)
    try:
        end = world.act(facts)
    except CopiesDisagreeError:
        assert world.copies == copies
        return
    readable = world.readable()
    if end == Removed():
        assert not away or world.copies is None
        assert all(USER not in str(each) and not security.is_public(each) for each in readable)
    if isinstance(end, Served) and Ask.COPIES in world.steps:
        assert all(security.admits(each, USER, access) for each in readable)
    assert not (end == Served() and is_freed and on_return is OnReturn.HOLD)
    wrote = any(isinstance(step, Write | WriteEach) for step in world.steps)
    if wrote and copies is not None:
        assert Ask.DOCUMENT in world.steps
    if document is DocumentState.DELETED and policy is DeletionPolicy.KEEP and not in_doubt and copies is not None:
        assert world.copies == copies
    others = {name for each in copies or [] for name in _names(each)} - {USER}
    assert {name for each in world.copies or [] for name in _names(each)} - {USER} <= others


def _names(found: Security) -> set[str]:
    return {name for section in found.values() if isinstance(section, dict) for name in section.get("names", ())}
