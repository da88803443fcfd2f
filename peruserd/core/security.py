"""Security objects: granting a user access to a database and taking it away.

Objects are plain JSON, because whatever else an operator or a proxy put into them must survive. Functions return a new
object, or the very same one where nothing has to change, and never alter their argument.
"""

from typing import Any, Final

Security = dict[str, Any]

_SECTIONS: Final = ("admins", "members")
NOBODY: Final = "_admin"
"""The role that keeps a database from being public when no member is left: server admins have it, nobody else can."""


class MalformedSecurityError(ValueError):
    """A security object of a shape that CouchDB itself would refuse; it is left alone for the operator to mend."""


def grant(security: Security, user: str) -> Security:
    """Return `security` with `user` among the names of `admins` and of `members`; all else is kept."""
    changed = dict(security)
    for section in _SECTIONS:
        content = _section(security, section)
        names = _strings(content, section, "names")
        if user not in names:
            changed[section] = {**content, "names": [*names, user]}
    return changed if changed != security else security


def revoke(security: Security, user: str) -> Security:
    """Return `security` without `user`, and with the role `_admin` where `members` would otherwise be empty.

    A database whose `members` have neither names nor roles is open to everybody, so it is never left that way, whether
    or not the user was named in it.
    """
    changed = dict(security)
    for section in _SECTIONS:
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
    return {**security, "members": {**_section(security, "members"), "roles": [NOBODY]}}


def is_public(security: Security) -> bool:
    """Say whether everybody may read and write a database with this security object."""
    members = _section(security, "members")
    return not _strings(members, "members", "names") and not _strings(members, "members", "roles")


def grants(security: Security, user: str) -> bool:
    """Say whether `user` has all that `grant` gives."""
    return grant(security, user) is security


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
