"""The documents of templates in a user's database, and those to be written there. Pure.

Each document is judged by its own content. A digest kept in the user's database would say whatever the user wants.

- Content that equals the template, filled in for this user, is up to date.
- Content that equals an earlier version of the template, filled in for this user, is out of date.
- Any other content is the user's own, and is kept.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from peruserd.core.users.templates import Template, Templates, same


class TemplateStatus(StrEnum):
    """The state of a document in a user's database, compared with its template."""

    CURRENT = "up to date"
    OUTDATED = "out of date"
    MISSING = "missing"
    CHANGED = "changed by its user"
    DELETED = "deleted by its user"

    @property
    def is_due(self) -> bool:
        """Say whether the document is to be written. A change or deletion by the user is not undone."""
        return self in (TemplateStatus.OUTDATED, TemplateStatus.MISSING)

    @property
    def is_kept(self) -> bool:
        """Say whether the user changed or deleted the document."""
        return self in (TemplateStatus.CHANGED, TemplateStatus.DELETED)


class StoredDocument(msgspec.Struct, frozen=True):
    """A document as it was read from the database.

    - `rev` is None if the document never existed.
    - `body` is None if the document was deleted, or could not be read.
    - `beyond` says that the document exists but could not be read: too large, or nested too deeply.
    """

    rev: str | None = None
    body: dict[str, Any] | None = None
    beyond: bool = False


class JudgedDocument(msgspec.Struct, frozen=True):
    """The judgement on one document. `rev` is the revision that a write continues; None where there is no document."""

    id: str
    status: TemplateStatus
    rev: str | None = None


class Contents(msgspec.Struct, frozen=True):
    """The state of one database. `options` names the options with a wrong value."""

    documents: tuple[JudgedDocument, ...] = ()
    options: tuple[str, ...] = ()

    def due(self, *, overwrite: bool) -> tuple[JudgedDocument, ...]:
        """Return the documents to be written. With `overwrite` they include the user's changes and deletions."""
        return tuple(each for each in self.documents if each.status.is_due or (overwrite and each.status.is_kept))

    def is_due(self, *, overwrite: bool) -> bool:
        """Say whether there is anything to be written."""
        return bool(self.options or self.due(overwrite=overwrite))

    @property
    def kept(self) -> tuple[JudgedDocument, ...]:
        """Return the documents that the user changed or deleted."""
        return tuple(each for each in self.documents if each.status.is_kept)


def of_new_database(templates: Templates) -> Contents:
    """Return the state of a database that was just created: every document is missing."""
    return Contents(
        tuple(JudgedDocument(each.id, TemplateStatus.MISSING) for each in templates.documents),
        tuple(sorted(templates.options)),
    )


def judged(
    template: Template, found: StoredDocument, earlier: Iterable[Template], user: str, database: str
) -> JudgedDocument:
    """Return the judgement on a document. `earlier` are the recorded older versions of its template."""
    # A write over a deletion names no revision. CouchDB then continues from the deletion by itself; if the write named
    # the deletion's revision, CouchDB would answer with a conflict.
    rev = found.rev if found.beyond or found.body is not None else None
    return JudgedDocument(template.id, _status(template, found, earlier, user, database), rev)


def _status(
    template: Template, found: StoredDocument, earlier: Iterable[Template], user: str, database: str
) -> TemplateStatus:
    if found.rev is None:
        return TemplateStatus.MISSING
    if found.beyond:
        # No template produces a document like that.
        return TemplateStatus.CHANGED
    if found.body is None:
        return TemplateStatus.DELETED
    if same(template.filled(user, database), found.body):
        return TemplateStatus.CURRENT
    is_ours = any(same(each.filled(user, database), found.body) for each in earlier)
    return TemplateStatus.OUTDATED if is_ours else TemplateStatus.CHANGED


def to_write(templates: Templates, due: Iterable[JudgedDocument], user: str, database: str) -> list[dict[str, Any]]:
    """Return the documents to send. Each one replaces the revision that was read."""
    wanted: Mapping[str, JudgedDocument] = {each.id: each for each in due}
    return [
        {"_id": each.id, **({"_rev": rev} if (rev := wanted[each.id].rev) else {}), **each.filled(user, database)}
        for each in templates.documents
        if each.id in wanted
    ]
