"""The documents of templates in a user's database, and those to be written there. Pure.

A document is judged by itself, as it was read. A digest kept in the user's database would say whatever its user wants.
A document that equals an earlier version of its template, filled in for this user, is ours and out of date. Any other
content is its user's, and is kept.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from peruserd.core.users.templates import Template, Templates, same


class Standing(StrEnum):
    """How a document in a user's database stands to its template."""

    CURRENT = "up to date"
    OUTDATED = "out of date"
    MISSING = "missing"
    CHANGED = "changed by its user"
    DELETED = "deleted by its user"

    @property
    def is_due(self) -> bool:
        """Say whether the document is to be written; what its user did is not undone."""
        return self in (Standing.OUTDATED, Standing.MISSING)

    @property
    def is_kept(self) -> bool:
        """Say whether the user changed or deleted the document."""
        return self in (Standing.CHANGED, Standing.DELETED)


class Found(msgspec.Struct, frozen=True):
    """A document as it was read: without a revision there never was one, without a body it was deleted.

    `beyond` says that it is there, and too large or nested too deeply to be read.
    """

    rev: str | None = None
    body: dict[str, Any] | None = None
    beyond: bool = False


class Looked(msgspec.Struct, frozen=True):
    """One document, and the revision that a write of it continues; none where the document is not there."""

    id: str
    standing: Standing
    rev: str | None = None


class Contents(msgspec.Struct, frozen=True):
    """The state of one database; `options` are those that are not as they should be."""

    documents: tuple[Looked, ...] = ()
    options: tuple[str, ...] = ()

    def due(self, *, overwrite: bool) -> tuple[Looked, ...]:
        """Return the documents to be written; with `overwrite` also those that the user changed or deleted."""
        return tuple(each for each in self.documents if each.standing.is_due or (overwrite and each.standing.is_kept))

    def is_due(self, *, overwrite: bool) -> bool:
        """Say whether there is anything to be written."""
        return bool(self.options or self.due(overwrite=overwrite))

    @property
    def kept(self) -> tuple[Looked, ...]:
        """Return the documents that their user changed or deleted."""
        return tuple(each for each in self.documents if each.standing.is_kept)


def of_new_database(templates: Templates) -> Contents:
    """Return what is in a database that was made a moment ago: nothing."""
    return Contents(
        tuple(Looked(each.id, Standing.MISSING) for each in templates.documents), tuple(sorted(templates.options))
    )


def judged(template: Template, found: Found, earlier: Iterable[Template], user: str, database: str) -> Looked:
    """Return how a document stands; `earlier` are the versions of its template that are on record."""
    # CouchDB answers with a conflict where the revision of a deletion is named, and goes on from it where none is.
    rev = found.rev if found.beyond or found.body is not None else None
    return Looked(template.id, _standing(template, found, earlier, user, database), rev)


def _standing(template: Template, found: Found, earlier: Iterable[Template], user: str, database: str) -> Standing:
    if found.rev is None:
        return Standing.MISSING
    if found.beyond:
        # No template makes such a document.
        return Standing.CHANGED
    if found.body is None:
        return Standing.DELETED
    if same(template.filled(user, database), found.body):
        return Standing.CURRENT
    is_ours = any(same(each.filled(user, database), found.body) for each in earlier)
    return Standing.OUTDATED if is_ours else Standing.CHANGED


def to_write(templates: Templates, due: Iterable[Looked], user: str, database: str) -> list[dict[str, Any]]:
    """Return the documents to send, each over the revision that was read."""
    wanted: Mapping[str, Looked] = {each.id: each for each in due}
    return [
        {"_id": each.id, **({"_rev": rev} if (rev := wanted[each.id].rev) else {}), **each.filled(user, database)}
        for each in templates.documents
        if each.id in wanted
    ]
