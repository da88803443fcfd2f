"""Security objects: granting a user access to a database and taking it away, and what several copies say together.

Objects are plain JSON, because whatever else an operator or a proxy put into them must survive. Functions return a new
object, or the very same one where nothing has to change, and never alter their argument.

A database from before CouchDB 1.0 can have `readers` in the place of `members`. CouchDB takes them for the members to
this day (`couch_db:get_members`), so this module does too.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final

import msgspec

from peruserd.core.configuration.config import Grant

Security = dict[str, Any]

NOBODY: Final = "_admin"
"""The role that keeps a database from being public when no member is left: server admins have it, nobody else can."""

_ADMINS: Final = "admins"
_MEMBERS: Final = "members"
_READERS: Final = "readers"

SHUT: Final[Security] = {"members": {"roles": [NOBODY]}, "admins": {"roles": [NOBODY]}}
"""The object of a database that nobody has had: one that is new, as most servers make it."""

# The two objects that a server gives a new database, by its `default_security`.
_BLANK: Final[tuple[Security, ...]] = ({}, SHUT)


class MalformedSecurityError(ValueError):
    """A security object of a shape that CouchDB itself would refuse; it is left alone for the operator to mend."""


class CopiesDisagreeError(ValueError):
    """Copies of a security object of which none is held by a majority; only a person can say which is right."""


class Access(msgspec.Struct, frozen=True):
    """The rights that the configuration gives in a user's database.

    `grant` says which of them its user has. The roles are added to the two sections, for people who look after users.
    """

    grant: Grant = Grant.ADMIN
    admin_roles: tuple[str, ...] = ()
    member_roles: tuple[str, ...] = ()


AS_COUCH_PERUSER: Final = Access()
"""The rights that CouchDB's own couch_peruser gives, and the configuration's default."""


def first(user: str, access: Access = AS_COUCH_PERUSER) -> Security:
    """Return what a new database gets: its user, the role `_admin` in both sections, and the configured roles.

    It is a constant. Nothing is learnt from other databases or from the server, so no other name can get into it.
    """
    admins = [user] if access.grant is Grant.ADMIN else []
    return {
        _ADMINS: {"names": admins, "roles": _united([NOBODY], access.admin_roles)},
        _MEMBERS: {"names": [user], "roles": _united([NOBODY], access.member_roles)},
    }


def grant(security: Security, user: str, access: Access = AS_COUCH_PERUSER) -> Security:
    """Return `security` with exactly the rights for `user` that are configured; all else is kept.

    With the grant `member` the name leaves the admins. Roles are only ever added, because nobody can tell a role that
    an earlier configuration gave from one that somebody else did.
    """
    admins, members = _sections(security)
    changed = _with_name(security, members, user)
    changed = _with_name(changed, admins, user) if access.grant is Grant.ADMIN else _without_name(changed, admins, user)
    changed = _with_roles(changed, admins, access.admin_roles)
    changed = _with_roles(changed, members, access.member_roles)
    return changed if changed != security else security


def admit(security: Security, user: str, access: Access = AS_COUCH_PERUSER) -> Security:
    """Return `security` with `user` let in, in whichever way: a database that was there before keeps its own rights.

    A user who is named nowhere gets what is configured. One among the admins alone becomes a member as well, because
    a database without members is everybody's. One among the members alone becomes an admin as well, where that is
    configured and nobody else is: somebody has emptied the admins. A database made with the grant `member` has the role
    `_admin` there.
    """
    admins, members = _sections(security)
    changed = _with_name(security, members, user)
    if access.grant is Grant.ADMIN and (changed is not security or _is_empty(security, admins)):
        changed = _with_name(changed, admins, user)
    return changed


def revoke(security: Security, user: str) -> Security:
    """Return `security` without `user`, and with the role `_admin` where no member would be left.

    A database whose members have neither names nor roles is open to everybody, so it is never left that way, whether
    or not the user was named in it. The name goes from `readers` too where `members` makes them idle: they would count
    again if somebody removed `members`.
    """
    changed = security
    for section in (*_sections(security), *_idle_section(security)):
        changed = _without_name(changed, section, user)
    return close(changed)


def close(security: Security) -> Security:
    """Return `security`, with the role `_admin` among the members where everybody would have access otherwise."""
    if not is_public(security):
        return security
    section = _members_of(security)
    return {**security, section: {**_section(security, section), "roles": [NOBODY]}}


def is_public(security: Security) -> bool:
    """Say whether everybody may read and write a database with this security object."""
    return _is_empty(security, _members_of(security))


def grants(security: Security, user: str, access: Access = AS_COUCH_PERUSER) -> bool:
    """Say whether `user` has exactly what `grant` gives."""
    return grant(security, user, access) is security


def admits(security: Security, user: str, access: Access = AS_COUCH_PERUSER) -> bool:
    """Say whether `user` is let in, in whichever way."""
    return admit(security, user, access) is security


def is_private(security: Security, user: str, access: Access = AS_COUCH_PERUSER) -> bool:
    """Say whether a database is its user's alone: `user` has what `grant` gives, and no one else is let in.

    Server admins are let in by the role `_admin`, which nobody else can have. Names in an idle `readers` count as well.
    """
    sections = [_section(security, each) for each in (*_sections(security), *_idle_section(security))]
    names = {name for each in sections for name in each.get("names", [])}
    roles = {role for each in sections for role in each.get("roles", [])}
    given = {NOBODY, *access.admin_roles, *access.member_roles}
    return grants(security, user, access) and names == {user} and roles <= given


def is_blank(security: Security) -> bool:
    """Say whether an object is exactly what a server makes, so that nobody ever wrote it.

    An empty list of names is no blank: somebody was named there and was taken out.
    """
    return security in _BLANK


def is_freed(copies: Sequence[Security], total: int, user: str) -> bool:
    """Say whether a database that was there before is nobody's: what is in it can be of an earlier user of that name.

    `copies` are those that could be read, of `total` that there are. It is decided by this state alone, because names
    were freed before peruserd came, too. The rule:

    - A database that was made and not secured yet is blank in every copy, and is not freed.
    - The object that the copies stand for together decides.
    - If they stand for none, it is freed where a majority of all copies, or each that was read, does not name the user.
    """
    try:
        together = reconcile(copies, total)
    except CopiesDisagreeError:
        others = sum(not is_blank(each) and not names_user(each, user) for each in copies)
        return 2 * others > total or not any(names_user(each, user) for each in copies)
    return not is_blank(together) and not names_user(together, user)


def reconcile(copies: Sequence[Security], total: int) -> Security:
    """Return the security object that copies of one database stand for together.

    `copies` are those that could be read, of `total` that there are. The rule:

    - A blank copy never wins over another one.
    - If all others are equal, they win.
    - If they are not, a majority of all copies wins.

    Raises CopiesDisagreeError where no rule decides, and ValueError where there is nothing to decide on.
    """
    if not copies:
        raise ValueError("no copy could be read")
    written = [each for each in copies if not is_blank(each)]
    if not written:
        # All blank. An object that shuts the database is the safer of the two.
        return min(copies, key=is_public)
    if all(each == written[0] for each in written):
        return written[0]
    winner = max(written, key=written.count)
    if 2 * written.count(winner) > total:
        return winner
    raise CopiesDisagreeError(f"{len(copies)} copies of its security object differ, and no majority holds one of them")


def names_user(security: Security, user: str) -> bool:
    """Say whether a user is named in a section, idle ones included."""
    sections = (*_sections(security), *_idle_section(security))
    return any(user in _strings(_section(security, each), each, "names") for each in sections)


def _united(*roles: Iterable[str]) -> list[str]:
    """Return roles in their order, each once."""
    return list(dict.fromkeys(chain(*roles)))


def _with_name(security: Security, section: str, user: str) -> Security:
    content = _section(security, section)
    names = _strings(content, section, "names")
    return security if user in names else {**security, section: {**content, "names": [*names, user]}}


def _without_name(security: Security, section: str, user: str) -> Security:
    content = _section(security, section)
    names = _strings(content, section, "names")
    if user not in names:
        return security
    return {**security, section: {**content, "names": [name for name in names if name != user]}}


def _with_roles(security: Security, section: str, roles: Sequence[str]) -> Security:
    content = _section(security, section)
    present = _strings(content, section, "roles")
    missing = [each for each in roles if each not in present]
    return {**security, section: {**content, "roles": [*present, *_united(missing)]}} if missing else security


def _is_empty(security: Security, section: str) -> bool:
    """Say whether a section has neither a name nor a role."""
    content = _section(security, section)
    return not _strings(content, section, "names") and not _strings(content, section, "roles")


def _members_of(security: Security) -> str:
    """Return the section that CouchDB takes for the members."""
    return _READERS if _MEMBERS not in security and _READERS in security else _MEMBERS


def _sections(security: Security) -> tuple[str, str]:
    return (_ADMINS, _members_of(security))


def _idle_section(security: Security) -> tuple[str, ...]:
    """Return `readers` where `members` makes it idle and its shape is sound; CouchDB does not look at it then."""
    if _MEMBERS not in security or _READERS not in security:
        return ()
    try:
        _section(security, _READERS)
    except MalformedSecurityError:
        return ()
    return (_READERS,)


def _section(security: Security, section: str) -> dict[str, Any]:
    content = security.get(section, {})
    if not isinstance(content, dict):
        raise MalformedSecurityError(f"`{section}` of the security object is not an object")
    for key in ("names", "roles"):
        _strings(content, section, key)
    return content


def _strings(content: dict[str, Any], section: str, key: str) -> list[str]:
    values = content.get(key, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise MalformedSecurityError(f"`{section}.{key}` of the security object is not a list of strings")
    return values
