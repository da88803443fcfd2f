"""Security objects: granting a user access to a database and taking it away, and what several copies say together.

Objects are plain JSON, because whatever else an operator or a proxy put into them must survive. Functions return a new
object, or the very same one where nothing has to change, and never alter their argument.

A database from before CouchDB 1.0 can have `readers` in the place of `members`. CouchDB takes them for the members to
this day (`couch_db:get_members`), so this module does too.
"""

from collections.abc import Sequence
from typing import Any, Final

Security = dict[str, Any]

NOBODY: Final = "_admin"
"""The role that keeps a database from being public when no member is left: server admins have it, nobody else can."""

_ADMINS: Final = "admins"
_MEMBERS: Final = "members"
_READERS: Final = "readers"

# The two objects that a server gives a new database, by its `default_security`.
_BLANK: Final[tuple[Security, ...]] = (
    {},
    {"members": {"roles": [NOBODY]}, "admins": {"roles": [NOBODY]}},
)


class MalformedSecurityError(ValueError):
    """A security object of a shape that CouchDB itself would refuse; it is left alone for the operator to mend."""


class CopiesDisagreeError(ValueError):
    """Copies of a security object of which none is held by a majority; only a person can say which is right."""


def first(user: str) -> Security:
    """Return what a new database gets: its user and the role `_admin` in both sections.

    It is a constant. Nothing is learnt from other databases or from the server, so no other name can get into it.
    """
    return {section: {"names": [user], "roles": [NOBODY]} for section in (_ADMINS, _MEMBERS)}


def grant(security: Security, user: str) -> Security:
    """Return `security` with `user` among the names of admins and of members; all else is kept."""
    changed = dict(security)
    for section in _sections(security):
        content = _section(security, section)
        names = _strings(content, section, "names")
        if user not in names:
            changed[section] = {**content, "names": [*names, user]}
    return changed if changed != security else security


def revoke(security: Security, user: str) -> Security:
    """Return `security` without `user`, and with the role `_admin` where no member would be left.

    A database whose members have neither names nor roles is open to everybody, so it is never left that way, whether
    or not the user was named in it. The name goes from `readers` too where `members` makes them idle: they would count
    again if somebody removed `members`.
    """
    changed = dict(security)
    for section in (*_sections(security), *_idle_section(security)):
        content = _section(security, section)
        names = _strings(content, section, "names")
        if user in names:
            changed[section] = {**content, "names": [name for name in names if name != user]}
    changed = close(changed)
    return changed if changed != security else security


def close(security: Security) -> Security:
    """Return `security`, with the role `_admin` among the members where everybody would have access otherwise."""
    if not is_public(security):
        return security
    section = _members_of(security)
    return {**security, section: {**_section(security, section), "roles": [NOBODY]}}


def is_public(security: Security) -> bool:
    """Say whether everybody may read and write a database with this security object."""
    section = _members_of(security)
    members = _section(security, section)
    return not _strings(members, section, "names") and not _strings(members, section, "roles")


def grants(security: Security, user: str) -> bool:
    """Say whether `user` has all that `grant` gives."""
    return grant(security, user) is security


def is_private(security: Security, user: str) -> bool:
    """Say whether a database is its user's alone: `user` has all that `grant` gives, and no one else is let in.

    Server admins are let in by the role `_admin`, which nobody else can have. Names in an idle `readers` count as well.
    """
    sections = [_section(security, each) for each in (*_sections(security), *_idle_section(security))]
    names = {name for each in sections for name in each.get("names", [])}
    roles = {role for each in sections for role in each.get("roles", [])}
    return grants(security, user) and names == {user} and roles <= {NOBODY}


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
