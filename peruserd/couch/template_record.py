"""The record of all versions of templates that were ever in force; it is in peruserd's own database.

If a document in a user's database equals one of them, it came from a template. Only server admins can write to the
record, and each version proves itself, because its id has a digest of its body.
"""

import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any, Final

from peruserd.core.users.templates import Template, Templates
from peruserd.couch.errors import ConflictError, NotFoundError
from peruserd.couch.journal import Journal

_PREFIX: Final = "template:"
_TYPE: Final = "peruserd.template"

# A template has 256 KiB at most, so a page stays far below the limit of an answer.
_PAGE_ROWS: Final = 32

# The limit for versions of one template. Usually no database still has the oldest of so many.
_MAX_VERSIONS: Final = 2_000

# Versions are cached this long. Until then a document of a newer version counts as its user's own, and is kept.
_READ_SECONDS: Final = 60.0


class TemplateRecord:
    """Reads and writes the record; for any number of threads. Every method raises CouchError."""

    def __init__(self, journal: Journal, clock: Callable[[], float] = time.monotonic) -> None:
        self._journal = journal
        self._clock = clock
        self._lock = threading.Lock()
        self._read: dict[str, tuple[float, tuple[Template, ...]]] = {}

    def keep(self, templates: Templates) -> int:
        """Add the versions that are not on record yet; return how many these were.

        A version never changes, so two instances that write it at the same time write the same.
        """
        written = 0
        for each in templates.documents:
            name = _id(each)
            if any(self._journal.read(name).bodies):
                continue
            try:
                self._journal.write(name, {"type": _TYPE, "template": each.id, "body": each.body}, None)
            except ConflictError:
                continue
            written += 1
        return written

    def earlier(self, document_id: str) -> tuple[Template, ...]:
        """Return all versions of one template, including the one in force."""
        now = self._clock()
        with self._lock:
            read_at, found = self._read.get(document_id, (float("-inf"), ()))
        if now - read_at < _READ_SECONDS:
            return found
        found = tuple(self._versions(document_id))
        with self._lock:
            self._read[document_id] = now, found
        return found

    def _versions(self, document_id: str) -> Iterator[Template]:
        first = _prefix(document_id)
        after: str | None = None
        try:
            for _ in range(_MAX_VERSIONS // _PAGE_ROWS):
                page = self._journal.page(first, first + "\ufff0", after=after, limit=_PAGE_ROWS)
                for each in page.documents:
                    for body in each.bodies:
                        if (found := _version(body, each.id)) is not None:
                            yield found
                if not page.more:
                    return
                after = page.documents[-1].id
        except NotFoundError as error:
            # The database does not exist before the first instance has made it.
            if not error.is_of_database:
                raise


def _version(body: dict[str, Any] | None, document_id: str) -> Template | None:
    if body is None or not isinstance(body.get("template"), str) or not isinstance(body.get("body"), dict):
        return None
    found = Template(body["template"], body["body"])
    return found if _id(found) == document_id else None


def _prefix(document_id: str) -> str:
    return f"{_PREFIX}{sha256(document_id.encode()).hexdigest()}:"


def _id(template: Template) -> str:
    return _prefix(template.id) + template.digest
