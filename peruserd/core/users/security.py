"""Security objects: how access is granted and revoked, and how several copies are reconciled.

Objects are plain JSON, because any other content from an operator or a proxy must survive. Functions never alter their
argument. They return a new object, or the same object, by identity, if nothing has to change.

A database from before CouchDB 1.0 can have `readers` instead of `members`. CouchDB still treats them as the members
(`couch_db:get_members`), so this module does too.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final

import msgspec

from peruserd.core.common.majority import is_majority
from peruserd.core.configuration.choices import Grant

Security = dict[str, Any]

SERVER_ADMIN_ROLE: Final = "_admin"
"""The role that keeps a database without members from being public. Only server admins can have it."""

_ADMINS: Final = "admins"
_MEMBERS: Final = "members"
_READERS: Final = "readers"

CLOSED: Final[Security] = {"members": {"roles": [SERVER_ADMIN_ROLE]}, "admins": {"roles": [SERVER_ADMIN_ROLE]}}
"""The object of a new database that nobody has used, as most servers create it."""

# The two objects that a server gives a new database, by its `default_security`.
_BLANK: Final[tuple[Security, ...]] = ({}, CLOSED)


class MalformedSecurityError(ValueError):
    """A security object has a shape that CouchDB itself would refuse. It is left unchanged for the operator."""


class CopiesDisagreeError(ValueError):
    """The copies of a security object differ, and none has a majority. Only a person can choose the right one."""


class Access(msgspec.Struct, frozen=True):
    """The configured rights in a user's database.

    `grant` says whether the user becomes an admin or a member. The roles are added to the two sections, for the staff
    who look after users.
    """

    grant: Grant = Grant.ADMIN
    admin_roles: tuple[str, ...] = ()
    member_roles: tuple[str, ...] = ()


AS_COUCH_PERUSER: Final = Access()
"""The rights that CouchDB's own couch_peruser gives. They are the configuration's default."""


def first(user: str, access: Access = AS_COUCH_PERUSER) -> Security:
    """Return the object of a new database: the user, the role `_admin` in both sections, and the configured roles.

    It is a constant. It contains nothing from other databases or from the server, so no other name can get into it.
    """
    admins = [user] if access.grant is Grant.ADMIN else []
    return {
        _ADMINS: {"names": admins, "roles": _united([SERVER_ADMIN_ROLE], access.admin_roles)},
        _MEMBERS: {"names": [user], "roles": _united([SERVER_ADMIN_ROLE], access.member_roles)},
    }


def grant(security: Security, user: str, access: Access = AS_COUCH_PERUSER) -> Security:
    """Return `security` with exactly the configured rights for `user`. All other content is kept.

    With the grant `member` the name is removed from the admins. If no admin is left, the role `_admin` takes the place,
    as in a new database. An empty section would look as if somebody had emptied it. Then `admit` would give back the
    rights that a rollout has taken. Roles are only ever added. A role from an earlier configuration looks the same as a
    role from somebody else, so none is removed.
    """
    admins, members = _sections(security)
    changed = _with_name(security, members, user)
    changed = _with_name(changed, admins, user) if access.grant is Grant.ADMIN else _without_name(changed, admins, user)
    changed = _with_roles(changed, admins, access.admin_roles)
    changed = _with_roles(changed, members, access.member_roles)
    if _is_empty(changed, admins):
        changed = _with_roles(changed, admins, [SERVER_ADMIN_ROLE])
    return changed if changed != security else security


def admit(security: Security, user: str, access: Access = AS_COUCH_PERUSER) -> Security:
    """Return `security` with access for `user`. An existing database keeps its own rights where possible.

    - A user who is named nowhere gets the configured rights.
    - A user who is only an admin becomes a member as well, because a database without members is public.
    - A user who is only a member becomes an admin as well, if the configuration grants that and the admins are empty.
      Somebody has emptied them then, because a database made with the grant `member` has the role `_admin` there.
    """
    admins, members = _sections(security)
    changed = _with_name(security, members, user)
    if access.grant is Grant.ADMIN and (changed is not security or _is_empty(security, admins)):
        changed = _with_name(changed, admins, user)
    return changed


def revoke(security: Security, user: str) -> Security:
    """Return `security` without `user`, and with the role `_admin` if no member would be left.

    A database whose members have neither names nor roles is public. It is never left that way, even if the user was not
    named in it. An unused section `readers` loses the name too, because it would count again if somebody removed
    `members`.
    """
    changed = security
    for section in (*_sections(security), *_idle_section(security)):
        changed = _without_name(changed, section, user)
    return close(changed)


def close(security: Security) -> Security:
    """Return `security`, with the role `_admin` among the members if the database would be public otherwise."""
    if not is_public(security):
        return security
    section = _members_of(security)
    return {**security, section: {**_section(security, section), "roles": [SERVER_ADMIN_ROLE]}}


def is_public(security: Security) -> bool:
    """Say whether everybody may read and write a database with this security object."""
    return _is_empty(security, _members_of(security))


def grants(security: Security, user: str, access: Access = AS_COUCH_PERUSER) -> bool:
    """Say whether `user` has exactly the rights that `grant` gives."""
    return grant(security, user, access) is security


def admits(security: Security, user: str, access: Access = AS_COUCH_PERUSER) -> bool:
    """Say whether `user` has access, as `admit` gives it."""
    return admit(security, user, access) is security


def is_private(security: Security, user: str, access: Access = AS_COUCH_PERUSER) -> bool:
    """Say whether only `user` has access to a database, with the rights that `grant` gives.

    The role `_admin` does not count as access, because only server admins can have it. Names in an unused `readers`
    count.
    """
    sections = [_section(security, each) for each in (*_sections(security), *_idle_section(security))]
    names = {name for each in sections for name in each.get("names", [])}
    roles = {role for each in sections for role in each.get("roles", [])}
    given = {SERVER_ADMIN_ROLE, *access.admin_roles, *access.member_roles}
    return grants(security, user, access) and names == {user} and roles <= given


def is_blank(security: Security) -> bool:
    """Say whether an object is exactly the server's default, so nobody ever wrote it.

    An object with an empty list of names is not blank, because somebody was named there and was removed.
    """
    return security in _BLANK


def is_freed(copies: Sequence[Security], total: int, user: str) -> bool:
    """Say whether an existing database has no owner, so its content can be an earlier user's of the same name.

    `copies` are the readable copies, of `total` in all. Only this state decides, because names were also freed before
    peruserd was installed. The rule:

    - If every copy is blank, the database was just created and not secured yet. It is not freed.
    - Otherwise the object from `reconcile` decides.
    - If the copies cannot be reconciled, the database is freed in two cases: a majority of all copies does not name the
      user, or no readable copy does.
    """
    try:
        together = reconcile(copies, total)
    except CopiesDisagreeError:
        others = sum(not is_blank(each) and not names_user(each, user) for each in copies)
        return is_majority(others, total) or not any(names_user(each, user) for each in copies)
    return not is_blank(together) and not names_user(together, user)


def reconcile(copies: Sequence[Security], total: int) -> Security:
    """Return the one security object that the copies of a database represent together.

    `copies` are the readable copies, of `total` in all. The rule:

    - A blank copy never wins over another copy.
    - If all copies that are not blank are equal, they win.
    - If they differ, a majority of all copies wins.

    Raises CopiesDisagreeError if no rule decides, and ValueError if no copy is given.
    """
    if not copies:
        raise ValueError("no copy could be read")
    written = [each for each in copies if not is_blank(each)]
    if not written:
        # All are blank. The object that closes the database is the safer choice.
        return min(copies, key=is_public)
    if all(each == written[0] for each in written):
        return written[0]
    winner = max(written, key=written.count)
    if is_majority(written.count(winner), total):
        return winner
    raise CopiesDisagreeError(f"{len(copies)} copies of its security object differ, and no majority holds one of them")


def names_user(security: Security, user: str) -> bool:
    """Say whether a user is named in any section, including an unused one."""
    sections = (*_sections(security), *_idle_section(security))
    return any(user in _section(security, each).get("names", []) for each in sections)


def _united(*roles: Iterable[str]) -> list[str]:
    """Return all roles in their order, without repetition."""
    return list(dict.fromkeys(chain(*roles)))


def _with_name(security: Security, section: str, user: str) -> Security:
    content = _section(security, section)
    names = content.get("names", [])
    return security if user in names else {**security, section: {**content, "names": [*names, user]}}


def _without_name(security: Security, section: str, user: str) -> Security:
    content = _section(security, section)
    names = content.get("names", [])
    if user not in names:
        return security
    return {**security, section: {**content, "names": [name for name in names if name != user]}}


def _with_roles(security: Security, section: str, roles: Sequence[str]) -> Security:
    content = _section(security, section)
    present = content.get("roles", [])
    missing = [each for each in roles if each not in present]
    return {**security, section: {**content, "roles": [*present, *_united(missing)]}} if missing else security


def _is_empty(security: Security, section: str) -> bool:
    """Say whether a section has neither a name nor a role."""
    content = _section(security, section)
    return not content.get("names") and not content.get("roles")


def _members_of(security: Security) -> str:
    """Return the section that CouchDB uses as the members."""
    return _READERS if _MEMBERS not in security and _READERS in security else _MEMBERS


def _sections(security: Security) -> tuple[str, str]:
    return (_ADMINS, _members_of(security))


def _idle_section(security: Security) -> tuple[str, ...]:
    """Return `readers` if it is there and well-formed, but unused because `members` is there as well."""
    if _MEMBERS not in security or _READERS not in security:
        return ()
    try:
        _section(security, _READERS)
    except MalformedSecurityError:
        return ()
    return (_READERS,)


def _section(security: Security, section: str) -> dict[str, Any]:
    """Return a section. Its names and roles are lists of strings, if they are there."""
    content = security.get(section, {})
    if not isinstance(content, dict):
        raise MalformedSecurityError(f"`{section}` of the security object is not an object")
    for key in ("names", "roles"):
        values = content.get(key, [])
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise MalformedSecurityError(f"`{section}.{key}` of the security object is not a list of strings")
    return content
