"""The audit's judgement on templates: documents and options that are missing or out of date in a user's database."""

import pytest

from peruserd.core.audit.diagnosis import Observation, Rules, diagnose
from peruserd.core.audit.findings import Finding, Remedy
from peruserd.core.configuration.choices import OnReturn
from peruserd.core.configuration.config import DatabasesConfig, DeletionConfig
from peruserd.core.users.contents import Contents, JudgedDocument, TemplateStatus
from peruserd.core.users.evidence import DocumentState, Evidence, Reading, Winner
from peruserd.core.users.facts import CopyReading
from peruserd.core.users.security import Security
from tests.core.deciding import GRANTED, NODES, REVOKED, USER

EMPTY: Security = {}
OPENED: Security = {"admins": {"names": [USER]}, "members": {"names": [], "roles": []}}
RULES = Rules(DatabasesConfig(), DeletionConfig())
HOLDING = Rules(DatabasesConfig(), DeletionConfig(on_return=OnReturn.HOLD))
READINGS = {
    DocumentState.LIVE: Winner("1-a"),
    DocumentState.DELETED: Winner("2-b", deleted=True),
    DocumentState.MISSING: None,
}
DUE = Contents(
    (JudgedDocument("profile", TemplateStatus.OUTDATED, "1-a"), JudgedDocument("logo", TemplateStatus.MISSING)),
    ("_revs_limit",),
)


def _seen(
    state: DocumentState, *objects: Security | None, contents: Contents | None = None, unread: str = ""
) -> Observation:
    readings = () if state is DocumentState.UNCLEAR else tuple(Reading(each, READINGS[state]) for each in NODES)
    copies = tuple(CopyReading(node, found) for node, found in zip(NODES, objects, strict=True))
    evidence = Evidence(frozenset(NODES), readings)
    return Observation(USER, evidence, copies, contents=contents, contents_unread=unread)


def _found(seen: Observation, rules: Rules = RULES) -> set[Finding]:
    return set(diagnose(seen, rules).findings)


def test_templates_that_are_out_of_date_are_reported_and_no_reason_to_look() -> None:
    """Only a rollout updates them. The words name the rollout and the due documents."""
    diagnosis = diagnose(_seen(DocumentState.LIVE, *[GRANTED] * 3, contents=DUE), RULES)
    assert (diagnosis.findings, diagnosis.remedy) == ((Finding.TEMPLATE,), Remedy.OPERATOR)
    assert diagnosis.differs
    assert not diagnosis.wants_look
    assert diagnosis.words == ("`peruserd templates rollout` brings profile (out of date), logo (missing), _revs_limit")


def test_words_name_some_of_many_documents() -> None:
    """A hundred documents can be templates."""
    many = Contents(tuple(JudgedDocument(f"d{each}", TemplateStatus.MISSING) for each in range(100)))
    words = diagnose(_seen(DocumentState.LIVE, *[GRANTED] * 3, contents=many), RULES).words
    assert words.endswith("d4 (missing) and 95 more")


@pytest.mark.parametrize("status", [TemplateStatus.CURRENT, TemplateStatus.CHANGED, TemplateStatus.DELETED])
def test_a_document_that_its_user_changed_or_deleted_is_no_finding(status: TemplateStatus) -> None:
    """The database is its user's, and a rollout keeps the document as well."""
    contents = Contents((JudgedDocument("profile", status, "1-a"),))
    assert _found(_seen(DocumentState.LIVE, *[GRANTED] * 3, contents=contents)) == set()


@pytest.mark.parametrize("state", [DocumentState.DELETED, DocumentState.MISSING, DocumentState.UNCLEAR])
def test_templates_concern_users_who_are_there(state: DocumentState) -> None:
    """A rollout leaves all others alone."""
    assert Finding.TEMPLATE not in _found(_seen(state, *[REVOKED] * 3, contents=DUE))


def test_the_database_of_a_user_who_is_held_is_not_filled() -> None:
    """It can be an earlier user's, and a rollout passes it over."""
    assert _found(_seen(DocumentState.LIVE, *[REVOKED] * 3, contents=DUE), HOLDING) == {Finding.HELD}


def test_a_node_that_is_away_makes_templates_no_reason_to_look() -> None:
    """With too few readable copies, a look is only made for what a look repairs. Templates are none of that."""
    alone = diagnose(_seen(DocumentState.LIVE, None, None, None, contents=DUE), RULES)
    assert (set(alone.findings), alone.remedy) == ({Finding.COPIES_SILENT, Finding.TEMPLATE}, Remedy.LATER)
    assert alone.differs
    assert not alone.wants_look
    more = diagnose(_seen(DocumentState.LIVE, EMPTY, None, None, contents=DUE), RULES)
    assert (more.remedy, more.wants_look) == (Remedy.LATER, True)


def test_a_look_for_another_reason_is_made_where_templates_are_out_of_date_too() -> None:
    """The rights are put right by the look, and the words say what is left to the rollout."""
    diagnosis = diagnose(_seen(DocumentState.LIVE, *[OPENED] * 3, contents=DUE), RULES)
    assert (diagnosis.remedy, diagnosis.wants_look) == (Remedy.LOOK, True)
    assert set(diagnosis.findings) == {Finding.NOT_NAMED, Finding.PUBLIC, Finding.TEMPLATE}
    assert "`peruserd templates rollout` brings profile" in diagnosis.words


def test_documents_that_could_not_be_read_are_no_difference() -> None:
    """Unread documents may be right or wrong, so they are no difference."""
    diagnosis = diagnose(_seen(DocumentState.LIVE, *[GRANTED] * 3, unread="POST …: 500"), RULES)
    assert (diagnosis.findings, diagnosis.remedy) == ((Finding.COPIES_SILENT,), Remedy.LATER)
    assert not diagnosis.differs
    assert not diagnosis.wants_look
    assert diagnosis.words == "its documents of templates could not be read: POST …: 500"
