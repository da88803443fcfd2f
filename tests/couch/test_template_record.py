"""The record of templates in peruserd's own database."""

import pytest

from peruserd.core.users.templates import NO_TEMPLATES, Template, Templates
from peruserd.couch import template_record
from peruserd.couch.client import Client
from peruserd.couch.errors import CouchError
from peruserd.couch.journal import Journal
from peruserd.couch.template_record import TemplateRecord
from peruserd.simcluster import SimClusterThread
from tests.couch.connecting import TalkingServer, answering, connect, session_to

DATABASE = "peruserd"
FIRST = Template("_design/a", {"views": {}, "n": 1, "f": 1.5, "s": "é{user}", "list": [None, True]})
SECOND = Template("_design/a", {"views": {}, "n": 2})
OTHER = Template("a", {"n": 1})


@pytest.fixture
def journal(client: Client) -> Journal:
    """Make the database."""
    client.session.request("PUT", f"/{DATABASE}", params={"q": "1"}).expect(201)
    return Journal(client.session, DATABASE)


def test_versions_stay_on_record(cluster: SimClusterThread, journal: Journal) -> None:
    """Each version is written once, by any instance, and is read unchanged."""
    assert TemplateRecord(journal).keep(Templates((FIRST, OTHER))) == 2
    elsewhere = Journal(session_to(cluster.urls[1]), DATABASE)
    assert TemplateRecord(elsewhere).keep(Templates((SECOND, OTHER))) == 1
    assert TemplateRecord(elsewhere).keep(Templates((SECOND, OTHER))) == 0
    assert TemplateRecord(elsewhere).keep(NO_TEMPLATES) == 0
    record = TemplateRecord(journal)
    assert set(map(repr, record.earlier(FIRST.id))) == {repr(FIRST), repr(SECOND)}
    assert record.earlier(OTHER.id) == (OTHER,)
    assert record.earlier("never") == ()


def test_more_versions_than_a_page_holds_are_all_read(journal: Journal) -> None:
    """Even the first version of a template that changed often is recognized."""
    versions = [Template("a", {"n": number}) for number in range(2 * template_record._PAGE_ROWS + 3)]
    for each in versions:
        TemplateRecord(journal).keep(Templates((each,)))
    found = TemplateRecord(journal).earlier("a")
    assert sorted(each.body["n"] for each in found) == list(range(len(versions)))


def test_a_version_that_does_not_prove_itself_is_none(client: Client, journal: Journal) -> None:
    """Its id has a digest of its body, so a changed version does not count as ours."""
    record = TemplateRecord(journal)
    record.keep(Templates((OTHER,)))
    (name,) = [each.id for each in journal.page("template:", "template:\ufff0").documents]
    document = journal.read(name)
    journal.write(name, {"type": "peruserd.template", "template": "a", "body": {"n": 2}}, document.leaves[0].rev)
    journal.write(name[:-1] + "x", {"type": "peruserd.template", "template": "a", "body": {"n": 1}}, None)
    journal.write(name[:-1] + "y", {"template": ["a"], "body": 7}, None)
    assert TemplateRecord(Journal(client.session, DATABASE)).earlier("a") == ()


def test_without_a_database_nothing_is_on_record(client: Client) -> None:
    """The first instance has not made the database yet."""
    assert TemplateRecord(Journal(client.session, DATABASE)).earlier("a") == ()


def test_a_proxy_that_finds_nothing_is_no_empty_record() -> None:
    """If a proxy's 404 counted as an empty record, each document would count as its user's own."""
    with TalkingServer(
        answering({("GET", f"/{DATABASE}/_all_docs"): (404, {"error": "not_found", "reason": "nothing here"})})
    ) as server:
        record = TemplateRecord(Journal(connect(server.url).session, DATABASE))
        with pytest.raises(CouchError):
            record.earlier("a")


def test_what_was_read_is_believed_for_a_while(journal: Journal) -> None:
    """A rollout to many users reads the record once a minute, and not for each user."""
    now = [0.0]
    record = TemplateRecord(journal, lambda: now[0])
    assert record.earlier("a") == ()
    TemplateRecord(journal).keep(Templates((OTHER,)))
    assert record.earlier("a") == ()
    now[0] = template_record._READ_SECONDS
    assert record.earlier("a") == (OTHER,)
