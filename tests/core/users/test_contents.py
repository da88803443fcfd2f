"""The status of documents in a user's database compared with their templates, and which of them are written."""

from typing import Any

import pytest

from peruserd.core.users.contents import (
    Contents,
    JudgedDocument,
    StoredDocument,
    TemplateStatus,
    judged,
    of_new_database,
    to_write,
)
from peruserd.core.users.templates import Template, Templates

NOW = Template("a", {"of": "{user}", "version": 2})
BEFORE = Template("a", {"of": "{user}", "version": 1})
LONG_BEFORE = Template("a", {"version": 0})


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (StoredDocument(), TemplateStatus.MISSING),
        (StoredDocument("2-x"), TemplateStatus.DELETED),
        (StoredDocument("1-x", {"of": "al", "version": 2}), TemplateStatus.CURRENT),
        (StoredDocument("1-x", {"version": 2, "of": "al"}), TemplateStatus.CURRENT),
        (StoredDocument("1-x", {"of": "al", "version": 1}), TemplateStatus.OUTDATED),
        (StoredDocument("1-x", {"version": 0}), TemplateStatus.OUTDATED),
        (StoredDocument("1-x", {"of": "bob", "version": 1}), TemplateStatus.CHANGED),
        (StoredDocument("1-x", {"of": "{user}", "version": 1}), TemplateStatus.CHANGED),
        (StoredDocument("1-x", {"of": "al", "version": True}), TemplateStatus.CHANGED),
        (StoredDocument("1-x", {"of": "al", "version": 1, "digest": "of version 1"}), TemplateStatus.CHANGED),
        (StoredDocument("1-x", {"of": "al", "version": 2, "_attachments": {"f": {}}}), TemplateStatus.CHANGED),
        (StoredDocument("1-x", {}), TemplateStatus.CHANGED),
        (StoredDocument("1-x", beyond=True), TemplateStatus.CHANGED),
    ],
)
def test_a_document_is_judged_by_what_it_says(found: StoredDocument, status: TemplateStatus) -> None:
    """Only what a template made of this user's name is ours, in an earlier version or in this one."""
    looked = judged(NOW, found, [BEFORE, LONG_BEFORE, NOW], "al", "userdb-616c")
    assert looked == JudgedDocument("a", status, None if status is TemplateStatus.DELETED else found.rev)


@pytest.mark.parametrize("status", list(TemplateStatus))
def test_what_its_user_did_is_written_over_only_on_demand(status: TemplateStatus) -> None:
    """A document that is up to date is never written."""
    contents = Contents((JudgedDocument("a", status, "1-x"),))
    is_right = status is TemplateStatus.CURRENT
    by_user = status in (TemplateStatus.CHANGED, TemplateStatus.DELETED)
    assert contents.is_due(overwrite=False) is (not is_right and not by_user)
    assert contents.is_due(overwrite=True) is not is_right
    assert bool(contents.kept) is by_user


def test_options_are_due_by_themselves() -> None:
    """A database whose documents are right can have another option."""
    assert Contents(options=("_revs_limit",)).is_due(overwrite=False)


def test_a_new_database_has_nothing() -> None:
    """A new database is not read at all."""
    templates = Templates((NOW, Template("b", {})), options={"_revs_limit": 5})
    assert of_new_database(templates) == Contents(
        (JudgedDocument("a", TemplateStatus.MISSING), JudgedDocument("b", TemplateStatus.MISSING)), ("_revs_limit",)
    )


def test_documents_are_written_over_what_was_read() -> None:
    """Somebody else's write in between causes a conflict, and is not lost."""
    templates = Templates((NOW, Template("b", {"x": "{database}"}), Template("c", {})))
    due = [JudgedDocument("a", TemplateStatus.OUTDATED, "1-x"), JudgedDocument("b", TemplateStatus.MISSING)]
    made: list[dict[str, Any]] = to_write(templates, due, "al", "userdb-616c")
    assert made == [{"_id": "a", "_rev": "1-x", "of": "al", "version": 2}, {"_id": "b", "x": "userdb-616c"}]
