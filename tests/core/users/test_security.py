import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from peruserd.core.configuration.choices import Grant
from peruserd.core.users.security import (
    SERVER_ADMIN_ROLE,
    Access,
    CopiesDisagreeError,
    MalformedSecurityError,
    Security,
    admit,
    admits,
    close,
    first,
    grant,
    grants,
    is_blank,
    is_private,
    is_public,
    reconcile,
    revoke,
)

FRESH = {"members": {"roles": ["_admin"]}, "admins": {"roles": ["_admin"]}}  # CouchDB 3.x for a new database
PUBLIC: Security = {}  # PouchDB Server for a new database

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
LISTS = st.lists(SCALARS, max_size=3)
JSON = SCALARS | LISTS | st.dictionaries(st.text(max_size=5), SCALARS | LISTS, max_size=3)
USERS = st.sampled_from(["alice", "bob", "_admin", "josé"]) | st.text(max_size=4)
STRINGS = st.lists(USERS, max_size=4)
SECTIONS = st.fixed_dictionaries({}, optional={"names": STRINGS, "roles": STRINGS, "kept": JSON})
# Where there are `members`, CouchDB does not look at `readers` and takes anything for them.
WITH_MEMBERS = st.fixed_dictionaries(
    {"members": SECTIONS}, optional={"admins": SECTIONS, "cloudant": JSON, "readers": JSON, "": JSON}
)
WITHOUT_MEMBERS = st.fixed_dictionaries({}, optional={"admins": SECTIONS, "readers": SECTIONS, "cloudant": JSON})
SECURITIES = WITH_MEMBERS | WITHOUT_MEMBERS


def _members(security: Security) -> str:
    """The section that CouchDB takes for the members."""
    return "readers" if "readers" in security and "members" not in security else "members"


def _names(security: Security, section: str) -> list[str]:
    if section == "members":
        section = _members(security)
    names: list[str] = security.get(section, {}).get("names", [])
    return names


def _beside_names(security: Security) -> Security:
    """All of a security object but the names, with absent sections as empty ones."""
    rest = copy.deepcopy(security)
    for section in ("admins", _members(security)):
        rest.setdefault(section, {}).pop("names", None)
    if isinstance(rest.get("readers"), dict):
        rest["readers"].pop("names", None)
    return rest


@given(security=SECURITIES, user=USERS)
def test_granting_adds_the_user_to_admins_and_members(security: Security, user: str) -> None:
    """Afterwards the user is named in both sections, once more at most, after all who were named before."""
    granted = grant(security, user)
    for section in ("admins", "members"):
        before = _names(security, section)
        assert _names(granted, section) == (before if user in before else [*before, user])


@given(security=SECURITIES, user=USERS)
def test_granting_keeps_everything_else(security: Security, user: str) -> None:
    """Roles, and keys that nobody here knows, at both levels, are as they were."""
    assert _beside_names(grant(security, user)) == _beside_names(security)


@given(security=SECURITIES, user=USERS)
def test_granting_again_changes_nothing(security: Security, user: str) -> None:
    """A user who has access is not written again: the very same object comes back, and `grants` says so."""
    granted = grant(security, user)
    assert grant(granted, user) is granted
    assert grants(granted, user)
    assert grants(security, user) == (granted is security)


@given(security=SECURITIES, user=USERS)
def test_a_database_of_a_user_is_not_public(security: Security, user: str) -> None:
    """Once a user is a member, not everybody is, whatever the database was before."""
    assert not is_public(grant(security, user))


@given(security=SECURITIES, user=USERS)
@example(security={"members": {"names": ["alice", "bob", "alice"]}}, user="alice")
def test_revoking_removes_the_user_and_nobody_else(security: Security, user: str) -> None:
    """The user is named nowhere afterwards. All others are named as before, in their order."""
    revoked = revoke(security, user)
    for section in ("admins", "members"):
        assert _names(revoked, section) == [name for name in _names(security, section) if name != user]


@given(security=SECURITIES, user=USERS)
@example(security={"members": {"names": ["alice"], "roles": []}}, user="alice")
@example(security=PUBLIC, user="alice")
def test_revoking_never_leaves_a_database_public(security: Security, user: str) -> None:
    """Where neither a name nor a role is left in members, the role `_admin` closes the database."""
    assert not is_public(revoke(security, user))


@given(security=SECURITIES)
@example(security=PUBLIC)
def test_closing_shuts_a_public_database_and_leaves_any_other_as_it_is(security: Security) -> None:
    """Afterwards no database is public; one that was not is the very same object, and names are never touched."""
    closed = close(security)
    assert not is_public(closed)
    if is_public(security):
        expected = copy.deepcopy(security)
        expected.setdefault(_members(security), {})["roles"] = [SERVER_ADMIN_ROLE]
        assert closed == expected
    else:
        assert closed is security
    assert close(closed) is closed


@given(security=SECURITIES, user=USERS)
def test_revoking_keeps_everything_else(security: Security, user: str) -> None:
    """Roles and unknown keys stay, but for the role `_admin` in members that had none and lost their last name."""
    revoked = revoke(security, user)
    expected = _beside_names(security)
    members = expected[_members(security)]
    if not _names(revoked, "members") and not members.get("roles"):
        members["roles"] = ["_admin"]
    assert _beside_names(revoked) == expected


@given(security=SECURITIES, user=USERS)
def test_revoking_again_changes_nothing(security: Security, user: str) -> None:
    """A user who has no access is not written again: the very same object comes back."""
    revoked = revoke(security, user)
    assert revoke(revoked, user) is revoked


@given(security=SECURITIES, user=USERS)
def test_revoking_what_was_granted_leaves_no_trace_of_the_user(security: Security, user: str) -> None:
    """A user who came and went is named nowhere, whoever else was there, and has nothing of what was granted."""
    revoked = revoke(grant(security, user), user)
    assert user not in _names(revoked, "admins") + _names(revoked, "members")
    assert not grants(revoked, user)


@given(security=SECURITIES, user=USERS)
def test_a_private_database_grants_its_user_access_and_is_closed_to_others(security: Security, user: str) -> None:
    """It is never public, and nobody who is granted access as well leaves it private."""
    if is_private(security, user):
        assert grants(security, user)
        assert not is_public(security)
        assert not is_private(grant(security, f"{user}, a stranger"), user)
    assert is_private(first(user), user)


ALICE = {"names": ["alice"], "roles": []}


@pytest.mark.parametrize(
    ("security", "private"),
    [
        ({"admins": ALICE, "members": ALICE}, True),
        ({"admins": ALICE, "readers": ALICE}, True),
        (first("alice") | {"note": {"names": ["bob"]}}, True),
        ({"admins": ALICE, "members": {"names": ["alice", "bob"]}}, False),
        ({"admins": {"names": ["bob", "alice"]}, "members": ALICE}, False),
        ({"admins": ALICE, "members": {"names": ["alice"], "roles": ["staff"]}}, False),
        ({"admins": {"names": ["alice"], "roles": ["_admin", "staff"]}, "members": ALICE}, False),
        ({"admins": ALICE, "readers": {"names": ["alice", "bob"]}}, False),
        ({"admins": ALICE, "members": ALICE, "readers": {"names": ["bob"]}}, False),
        ({"admins": ALICE}, False),
        ({"members": ALICE}, False),
        ({}, False),
        (first("bob"), False),
    ],
)
def test_a_stranger_who_is_let_in_makes_a_database_not_private(security: Security, private: bool) -> None:  # noqa: FBT001
    """Access by name, by role and by `readers` counts, of admins and of members. Other content does not count."""
    assert is_private(security, "alice") is private


@given(security=SECURITIES, one=USERS, other=USERS)
def test_users_of_one_database_do_not_disturb_each_other(security: Security, one: str, other: str) -> None:
    """Revoking one user's access leaves another's."""
    assume(one != other)
    assert grants(revoke(grant(grant(security, one), other), one), other)


@given(security=SECURITIES, user=USERS)
def test_the_argument_is_never_altered(security: Security, user: str) -> None:
    """An object that was read from the server stays as it was read, however deep."""
    before = copy.deepcopy(security)
    for change in (grant, revoke, lambda security, _user: close(security)):
        change(security, user)
        assert security == before


def test_a_new_database_is_secured_for_its_user() -> None:
    """On a fresh CouchDB database the result is what couch_peruser would have written."""
    assert grant(FRESH, "alice") == {
        "members": {"roles": ["_admin"], "names": ["alice"]},
        "admins": {"roles": ["_admin"], "names": ["alice"]},
    }


@pytest.mark.parametrize(
    ("security", "public"),
    [
        ({}, True),
        ({"members": {}}, True),
        ({"members": {"names": [], "roles": []}}, True),
        ({"admins": {"names": ["alice"], "roles": ["_admin"]}}, True),
        ({"members": {"names": ["alice"]}}, False),
        ({"members": {"roles": ["_admin"]}}, False),
        (FRESH, False),
        ({"readers": {"names": ["op"]}}, False),
        ({"readers": {"roles": ["staff"]}, "members": {}}, True),
        ({"readers": {}}, True),
    ],
)
def test_a_database_without_members_is_public(security: Security, *, public: bool) -> None:
    """Only names and roles of members close a database; admins do not."""
    assert is_public(security) == public


def test_a_new_database_gets_its_user_and_nobody_else() -> None:
    """The constant for a new database holds one name, and the role of server admins in both sections."""
    assert first("alice") == grant(FRESH, "alice")


# Rights by the configuration

ACCESSES = st.builds(Access, st.sampled_from(Grant), st.tuples(USERS), st.tuples(USERS, USERS))
MEMBER = Access(Grant.MEMBER)


@given(security=SECURITIES, user=USERS, access=ACCESSES)
def test_what_is_granted_is_what_is_configured(security: Security, user: str, access: Access) -> None:
    """The user is a member, and an admin only where that is configured; everybody else, and each role, stays."""
    granted = grant(security, user, access)
    assert user in _names(granted, "members")
    assert (user in _names(granted, "admins")) == (access.grant is Grant.ADMIN)
    for section, roles in (("admins", access.admin_roles), (_members(security), access.member_roles)):
        before = security.get(section, {}).get("roles", [])
        assert granted.get(section, {}).get("roles", [])[: len(before)] == before
        assert set(granted.get(section, {}).get("roles", [])) == set(before) | set(roles)
        assert [name for name in _names(granted, section) if name != user] == [
            name for name in _names(security, section) if name != user
        ]
    assert grant(granted, user, access) is granted
    assert grants(granted, user, access)


@given(security=SECURITIES, user=USERS, access=ACCESSES)
def test_a_user_who_is_let_in_keeps_the_rights_of_before(security: Security, user: str, access: Access) -> None:
    """A member stays a member, an admin an admin; one who was named nowhere gets what is configured, and no role.

    So does a member of a database whose admins somebody has emptied.
    """
    admitted = admit(security, user, access)
    was_member, was_admin = user in _names(security, "members"), user in _names(security, "admins")
    assert user in _names(admitted, "members")
    admins = security.get("admins", {})
    is_emptied = not admins.get("names") and not admins.get("roles")
    is_made_admin = access.grant is Grant.ADMIN and not was_admin and (not was_member or is_emptied)
    assert (user in _names(admitted, "admins")) == (was_admin or is_made_admin)
    assert _beside_names(admitted) == _beside_names(security)
    is_right = was_member and not is_made_admin
    assert admits(security, user, access) == is_right == (admitted is security)
    assert not is_public(admitted)


@pytest.mark.parametrize("admins", [None, {}, {"names": [], "roles": []}, {"roles": []}])
def test_a_user_gets_emptied_admins_back_where_that_is_configured(admins: object) -> None:
    """Nobody is an admin of such a database; one made with the grant `member` has the role `_admin` there."""
    emptied = {"members": {"names": ["ann"], "roles": ["_admin"]}} | ({} if admins is None else {"admins": admins})
    assert _names(admit(emptied, "ann"), "admins") == ["ann"]
    assert admit(emptied, "ann", MEMBER) is emptied
    made = first("ann", MEMBER)
    assert admit(made, "ann") is made
    others = {**emptied, "admins": {"names": ["bob"], "roles": []}}
    assert admit(others, "ann") is others


@given(security=SECURITIES, user=USERS)
def test_a_user_who_was_made_a_member_by_a_rollout_stays_one(security: Security, user: str) -> None:
    """An instance that grants `admin` by its configuration gives no rights back before the next rollout."""
    member = grant(security, user, MEMBER)
    assert grants(member, user, MEMBER)
    assert admit(member, user) is member
    assert user in _names(grant(member, user), "admins")


@given(user=USERS, access=ACCESSES)
def test_a_new_database_has_the_configured_rights(user: str, access: Access) -> None:
    """The constant for a new one is what a rollout would make of it, and private."""
    made = first(user, access)
    assert grants(made, user, access)
    assert is_private(made, user, access)
    assert not is_private(grant(made, f"{user}, a stranger"), user, access)
    assert first(user, MEMBER) == grant(first(user), user, MEMBER)
    assert revoke(first(user, MEMBER), user) == revoke(first(user), user)


@given(security=SECURITIES, user=USERS, access=ACCESSES)
def test_a_revocation_ends_every_kind_of_right(security: Security, user: str, access: Access) -> None:
    """A revocation does not depend on the rights that were configured earlier."""
    for let_in in (grant, admit):
        revoked = revoke(let_in(security, user, access), user)
        assert user not in _names(revoked, "admins") + _names(revoked, "members")


# Databases from before CouchDB 1.0


def test_readers_stay_members_when_a_user_is_let_in() -> None:
    """Granting adds the user to `readers`, so nobody with access before is locked out."""
    old = {"admins": {"names": ["op"]}, "readers": {"names": ["bob"], "roles": ["staff"]}}
    granted = grant(old, "alice")
    assert granted == {
        "admins": {"names": ["op", "alice"]},
        "readers": {"names": ["bob", "alice"], "roles": ["staff"]},
    }
    assert revoke(granted, "alice") == old


def test_readers_that_are_idle_lose_the_user_too() -> None:
    """A name in `readers` beside `members` would count again as soon as somebody removed `members`."""
    both = {"members": {"roles": ["x"]}, "readers": {"names": ["alice", "bob"]}}
    assert revoke(both, "alice") == {"members": {"roles": ["x"]}, "readers": {"names": ["bob"]}}


@pytest.mark.parametrize("idle", [None, [], "alice", {"names": "alice"}])
def test_idle_readers_of_any_shape_are_left_alone(idle: object) -> None:
    """CouchDB does not look at the shape of `readers` beside `members`, so they are no reason to stop."""
    found = {"members": {"names": ["alice"], "roles": ["x"]}, "readers": idle}
    assert revoke(found, "alice") == {"members": {"names": [], "roles": ["x"]}, "readers": idle}


# Several copies

ALICE = grant(FRESH, "alice")
PARTNERS = {"members": {"names": ["alice", "bob"], "roles": ["staff"]}, "admins": {"names": ["alice"]}, "proxy": [1]}
REVOKED = revoke(ALICE, "alice")


@pytest.mark.parametrize(
    ("copies", "total", "together"),
    [
        pytest.param([PARTNERS, PARTNERS, PARTNERS], 3, PARTNERS, id="alike"),
        pytest.param([FRESH, PARTNERS, PARTNERS], 3, PARTNERS, id="one-blank"),
        pytest.param([FRESH, FRESH, PARTNERS], 3, PARTNERS, id="two-blank"),
        pytest.param([PUBLIC, FRESH, PARTNERS], 3, PARTNERS, id="two-kinds-of-blank"),
        pytest.param([ALICE, PARTNERS, PARTNERS], 3, PARTNERS, id="majority"),
        pytest.param([REVOKED, ALICE, ALICE], 3, ALICE, id="an-empty-list-is-no-blank"),
        pytest.param([REVOKED, FRESH, FRESH], 3, REVOKED, id="revoked-beside-blank"),
        pytest.param([PARTNERS], 3, PARTNERS, id="one-of-three-readable"),
        pytest.param([FRESH, FRESH], 3, FRESH, id="all-blank"),
        pytest.param([PUBLIC, FRESH], 2, FRESH, id="the-closed-blank-is-safer"),
    ],
)
def test_what_copies_stand_for_together(copies: list[Security], total: int, together: Security) -> None:
    """A blank copy never wins; otherwise those that agree, or the majority of all copies."""
    assert reconcile(copies, total) == together


@pytest.mark.parametrize(
    ("copies", "total"),
    [
        pytest.param([ALICE, PARTNERS, REVOKED], 3, id="three-different"),
        pytest.param([ALICE, PARTNERS, FRESH], 3, id="two-and-a-blank"),
        pytest.param([ALICE, PARTNERS], 3, id="one-away"),
    ],
)
def test_copies_that_no_majority_holds_are_for_the_operator(copies: list[Security], total: int) -> None:
    """Where nothing decides between two objects, nothing is guessed."""
    with pytest.raises(CopiesDisagreeError):
        reconcile(copies, total)


@given(security=SECURITIES, user=USERS)
def test_no_object_that_names_somebody_is_blank(security: Security, user: str) -> None:
    """An object is blank only as the server makes it; a list of names, also an empty one, was written by somebody."""
    assert not is_blank(grant(security, user))
    assert not is_blank(revoke(grant(security, user), user))


NO_SECTIONS: dict[str, tuple[object, ...]] = {
    "readers": (None, [], {"names": "alice"}),
    "admins": (None, [], "alice", 1),
    "members": (None, [], "alice", False),
}
NO_NAMES: tuple[object, ...] = (None, "alice", {}, [1], ["alice", None], [["alice"]])
MALFORMED: list[Security] = [
    *({section: value} for section, values in NO_SECTIONS.items() for value in values),
    *({section: {key: value}} for section in ("admins", "members") for key in ("names", "roles") for value in NO_NAMES),
]


@pytest.mark.parametrize("security", MALFORMED, ids=str)
@pytest.mark.parametrize("change", [grant, revoke])
def test_a_malformed_object_is_left_to_the_operator(security: Security, change: Callable[[Security, str], Any]) -> None:
    """An object that CouchDB would refuse to store is neither mended nor written back; the error names the section."""
    (section,) = security
    with pytest.raises(MalformedSecurityError, match=f"`{section}[`.]"):
        change(security, "alice")
