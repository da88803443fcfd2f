"""How documents in a user's database stand to their templates, and what is written."""

from typing import Any

import pytest

from peruserd.core.users.contents import Contents, Found, Looked, Standing, judged, of_new_database, to_write
from peruserd.core.users.templates import Template, Templates

NOW = Template("a", {"of": "{user}", "version": 2})
BEFORE = Template("a", {"of": "{user}", "version": 1})
LONG_BEFORE = Template("a", {"version": 0})


@pytest.mark.parametrize(
    ("found", "standing"),
    [
        (Found(), Standing.MISSING),
        (Found("2-x"), Standing.DELETED),
        (Found("1-x", {"of": "al", "version": 2}), Standing.CURRENT),
        (Found("1-x", {"version": 2, "of": "al"}), Standing.CURRENT),
        (Found("1-x", {"of": "al", "version": 1}), Standing.OUTDATED),
        (Found("1-x", {"version": 0}), Standing.OUTDATED),
        (Found("1-x", {"of": "bob", "version": 1}), Standing.CHANGED),
        (Found("1-x", {"of": "{user}", "version": 1}), Standing.CHANGED),
        (Found("1-x", {"of": "al", "version": True}), Standing.CHANGED),
        (Found("1-x", {"of": "al", "version": 1, "digest": "of version 1"}), Standing.CHANGED),
        (Found("1-x", {"of": "al", "version": 2, "_attachments": {"f": {}}}), Standing.CHANGED),
        (Found("1-x", {}), Standing.CHANGED),
        (Found("1-x", beyond=True), Standing.CHANGED),
    ],
)
def test_a_document_is_judged_by_what_it_says(found: Found, standing: Standing) -> None:
    """Only what a template made of this user's name is ours, in an earlier version or in this one."""
    looked = judged(NOW, found, [BEFORE, LONG_BEFORE, NOW], "al", "userdb-616c")
    assert looked == Looked("a", standing, None if standing is Standing.DELETED else found.rev)


@pytest.mark.parametrize("standing", list(Standing))
def test_what_its_user_did_is_written_over_only_on_demand(standing: Standing) -> None:
    """What is right is never written."""
    contents = Contents((Looked("a", standing, "1-x"),))
    is_right = standing is Standing.CURRENT
    by_user = standing in (Standing.CHANGED, Standing.DELETED)
    assert contents.is_due(overwrite=False) is (not is_right and not by_user)
    assert contents.is_due(overwrite=True) is not is_right
    assert bool(contents.kept) is by_user


def test_options_are_due_by_themselves() -> None:
    """A database whose documents are right can have another option."""
    assert Contents(options=("_revs_limit",)).is_due(overwrite=False)


def test_a_new_database_has_nothing() -> None:
    """So nothing is read of it."""
    templates = Templates((NOW, Template("b", {})), options={"_revs_limit": 5})
    assert of_new_database(templates) == Contents(
        (Looked("a", Standing.MISSING), Looked("b", Standing.MISSING)), ("_revs_limit",)
    )


def test_documents_are_written_over_what_was_read() -> None:
    """So what somebody writes in between is a conflict, and not lost."""
    templates = Templates((NOW, Template("b", {"x": "{database}"}), Template("c", {})))
    due = [Looked("a", Standing.OUTDATED, "1-x"), Looked("b", Standing.MISSING)]
    made: list[dict[str, Any]] = to_write(templates, due, "al", "userdb-616c")
    assert made == [{"_id": "a", "_rev": "1-x", "of": "al", "version": 2}, {"_id": "b", "x": "userdb-616c"}]
