"""Templates: the documents, roles and options that the configuration puts into each user's database. Pure.

An enemy may have chosen the user's name. So the name is only filled into string values of ordinary documents. It never
gets into ids, keys or roles, nor into design documents, because their strings are source code.
"""

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

import msgspec

from peruserd.core.configuration.choices import Grant
from peruserd.core.users.security import Access

DESIGN_PREFIX: Final = "_design/"

PLACEHOLDERS: Final = ("{user}", "{database}")
"""The placeholders. They are filled in where a string of an ordinary document has them in one pair of braces."""

# A placeholder in more than one pair of braces is plain text, and loses one pair.
_FILLED: Final = re.compile(r"\{(\{(?:user|database)\})\}|\{(user|database)\}")

_DIGITS: Final = 16


class Template(msgspec.Struct, frozen=True):
    """A document for each user's database. `body` is the content without the id."""

    id: str
    body: dict[str, Any]

    @property
    def is_design(self) -> bool:
        """Say whether it is a design document, which holds source code."""
        return self.id.startswith(DESIGN_PREFIX)

    @property
    def digest(self) -> str:
        """Return a digest of the body before it is filled in."""
        return _digest(self.body)

    def filled(self, user: str, database: str) -> dict[str, Any]:
        """Return the body for a user."""
        if self.is_design:
            return self.body
        values = {"user": user, "database": database}
        return {key: _filled(value, values) for key, value in self.body.items()}


class Templates(msgspec.Struct, frozen=True):
    """Everything for a user's database. `options` are numbers; each is set by a `PUT` to the path of its name."""

    documents: tuple[Template, ...] = ()
    admin_roles: tuple[str, ...] = ()
    member_roles: tuple[str, ...] = ()
    options: dict[str, int] = {}

    @property
    def fill_databases(self) -> bool:
        """Say whether databases get anything besides the security object."""
        return bool(self.documents or self.options)

    @property
    def designs(self) -> tuple[str, ...]:
        """Return the ids of the design documents."""
        return tuple(each.id for each in self.documents if each.is_design)

    @property
    def digest(self) -> str:
        """Return a digest of everything; the empty string if there is nothing."""
        return "" if self == NO_TEMPLATES else _digest(msgspec.to_builtins(self))[:_DIGITS]

    def access(self, grant: Grant) -> Access:
        """Return the rights in a user's database."""
        return Access(grant, self.admin_roles, self.member_roles)


NO_TEMPLATES: Final = Templates()


def has_placeholder(value: object) -> bool:
    """Say whether a value or one of its keys contains a placeholder, in any number of braces."""
    match value:
        case str():
            return any(each in value for each in PLACEHOLDERS)
        case Mapping():
            return any(has_placeholder(each) for pair in value.items() for each in pair)
        case list():
            return any(map(has_placeholder, value))
    return False


def same(one: object, other: object) -> bool:
    """Say whether two JSON values are equal. As for CouchDB's clients, true is not 1, but 1.0 is 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    match value:
        case str():
            return _FILLED.sub(lambda found: found[1] or values[found[2]], value)
        case dict():
            return {key: _filled(each, values) for key, each in value.items()}
        case list():
            return [_filled(each, values) for each in value]
    return value


def _digest(value: object) -> str:
    return sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()
