"""Documents and options of templates in the databases of a simulated cluster, by the one act."""

from typing import Any

import pytest

from peruserd.core.common.names import user_document_id
from peruserd.core.configuration.config import DatabasesConfig
from peruserd.core.users.quarantine import Advice
from peruserd.core.users.templates import Template, Templates
from peruserd.couch.client import Client
from peruserd.couch.journal import Journal
from peruserd.couch.session import quoted
from peruserd.couch.template_record import TemplateRecord
from peruserd.listener.outcome import Outcome
from peruserd.simcluster import SimClusterThread
from tests.couch.connecting import connect
from tests.listener.provisioner_harness import (
    DATABASE,
    DEFAULT,
    RECORD,
    SECURED,
    USER,
    ProvisionerHarness,
    made,
    objects,
)
from tests.waiting import eventually

DESIGN = Template("_design/main", {"views": {"all": {"map": "function (doc) { emit(doc._id); }"}}})
PROFILE = Template("profile", {"of": "{user}", "in": ["{database}"], "version": 2})
BEFORE = Template("profile", {"of": "{user}", "in": ["{database}"], "version": 1})
SETTINGS = Template("settings", {"theme": "dark"})
TEMPLATES = Templates((DESIGN, PROFILE, SETTINGS), options={"_revs_limit": 20})
REFUSES = "function (doc) { throw({forbidden: 'nothing here'}); }"


@pytest.fixture
def client(cluster: SimClusterThread) -> Client:
    """The first node, a user who has signed up, and the database of the record."""
    cluster.add_user(USER, "x")
    made = connect(cluster.urls[0])
    made.create_database(RECORD, DatabasesConfig())
    cluster.clear_requests()
    return made


def documents(client: Client, database: str = DATABASE) -> dict[str, dict[str, Any]]:
    """Return what is in a database, by id."""
    path = f"/{quoted(database)}/_all_docs"
    answer = client.session.request("GET", path, params={"include_docs": "true"}).expect(200)
    rows = answer.decode(dict[str, Any])["rows"]
    return {row["id"]: {key: value for key, value in row["doc"].items() if key not in ("_id", "_rev")} for row in rows}


def put(client: Client, document_id: str, body: dict[str, Any] | None) -> None:
    """Overwrite a document, or delete it."""
    path = f"/{DATABASE}/{quoted(document_id)}"
    answer = client.session.request("GET", path)
    rev = {"_rev": answer.decode(dict[str, Any])["_rev"]} if answer.status == 200 else {}
    content = {"_deleted": True} if body is None else body
    client.session.request("PUT", path, body={**content, **rev}).expect(200, 201)


def option(client: Client, name: str = "_revs_limit") -> int:
    """Return an option of the database."""
    return client.session.request("GET", f"/{DATABASE}/{name}").expect(200).decode(int)


FILLED = {
    "_design/main": DESIGN.body,
    "profile": {"of": USER, "in": [DATABASE], "version": 2},
    "settings": {"theme": "dark"},
}


def test_a_new_user_finds_the_documents(cluster: SimClusterThread, client: Client) -> None:
    """One request for all documents beside the two that a new user takes; an option takes one for each copy."""
    outcome = ProvisionerHarness(client, templates=TEMPLATES).ensure()
    assert outcome == Outcome(
        acted_on=False, provisioned=True, created=True, security_written=True, whole=True, templates_written=True
    )
    assert sum(cluster.requests().values()) == 3 + 1 + 3
    assert made(cluster, "POST", "bulk_docs") == 1
    assert documents(client) == FILLED
    assert option(client) == 20
    assert objects(cluster) == [SECURED] * 3


def test_without_templates_a_new_user_takes_two_requests(cluster: SimClusterThread, client: Client) -> None:
    """Nothing more is asked for than before there were templates."""
    assert ProvisionerHarness(client).ensure().provisioned
    assert sum(cluster.requests().values()) == 2


@pytest.mark.parametrize("reason", ["ensure", "look", "review"])
def test_a_process_that_died_on_the_way_is_made_up_for(cluster: SimClusterThread, client: Client, reason: str) -> None:
    """The next look completes a database that was made but not secured, and has only some of its documents."""
    client.create_database(DATABASE, DatabasesConfig())
    put(client, "profile", FILLED["profile"])
    harness = ProvisionerHarness(client, templates=TEMPLATES)
    outcome = {"ensure": harness.ensure, "look": harness.look, "review": lambda: harness.review(deleted=True)}[reason]()
    assert (outcome.failure, outcome.provisioned) == (None, True)
    assert documents(client) == FILLED
    assert option(client) == 20
    assert objects(cluster) == [SECURED] * 3


def test_templates_reach_a_database_that_is_there_by_a_rollout(cluster: SimClusterThread, client: Client) -> None:
    """A row, a scan and a review leave it as it is; the rollout puts in what is missing."""
    assert ProvisionerHarness(client).ensure().provisioned
    harness = ProvisionerHarness(client, templates=TEMPLATES)
    assert harness.ensure().provisioned
    assert harness.look(each_copy=True).provisioned
    assert harness.review(deleted=True).provisioned
    assert documents(client) == {}
    outcome = harness.roll_out()
    assert (outcome.provisioned, outcome.templates_written, outcome.security_written) == (True, True, False)
    assert documents(client) == FILLED
    assert option(client) == 20
    cluster.clear_requests()
    assert harness.roll_out() == Outcome(acted_on=False, provisioned=True)
    assert made(cluster, "POST", "bulk_docs") + made(cluster, "PUT", "revs_limit") == 0


def test_what_an_earlier_version_put_in_is_brought_up_to_date(client: Client) -> None:
    """The record shows that the document is ours. The user's own content is kept; a deleted document stays away."""
    TemplateRecord(Journal(client.session, RECORD)).keep(Templates((BEFORE,)))
    assert ProvisionerHarness(client, templates=Templates((BEFORE, SETTINGS))).ensure().provisioned
    put(client, "settings", {"theme": "light"})
    assert ProvisionerHarness(client, templates=TEMPLATES).roll_out().templates_written
    assert documents(client) == FILLED | {"settings": {"theme": "light"}}
    put(client, "settings", None)
    assert not ProvisionerHarness(client, templates=TEMPLATES).roll_out().templates_written
    assert "settings" not in documents(client)
    assert ProvisionerHarness(client, templates=TEMPLATES, overwrite=True).roll_out().templates_written
    assert documents(client) == FILLED


def test_a_version_that_never_was_on_record_is_kept(client: Client) -> None:
    """Nothing shows that the document is ours, and claims inside a user's database prove nothing."""
    assert ProvisionerHarness(client, templates=Templates((BEFORE,))).ensure().provisioned
    assert ProvisionerHarness(client, templates=TEMPLATES).roll_out().templates_written
    assert documents(client)["profile"]["version"] == 1
    assert ProvisionerHarness(client, templates=TEMPLATES, overwrite=True).roll_out().templates_written
    assert documents(client) == FILLED


def test_a_user_cannot_pass_a_document_off_as_ours(client: Client) -> None:
    """A forged record in the user's own database, or a digest in the document, proves nothing."""
    record = TemplateRecord(Journal(client.session, RECORD))
    record.keep(TEMPLATES)
    assert ProvisionerHarness(client, templates=TEMPLATES).ensure().provisioned
    TemplateRecord(Journal(client.session, DATABASE)).keep(Templates((Template("settings", {"theme": "mine"}),)))
    put(client, "settings", {"theme": "mine", "digest": SETTINGS.digest})
    ProvisionerHarness(client, templates=TEMPLATES).roll_out()
    assert documents(client)["settings"]["theme"] == "mine"


def test_a_node_that_is_away_keeps_nobody_waiting(cluster: SimClusterThread, client: Client) -> None:
    """Its copy gets the option by a rollout when it is back: each copy is read by itself."""
    cluster.stop_node(3)
    harness = ProvisionerHarness(client, templates=TEMPLATES)
    assert harness.ensure().provisioned
    assert documents(client) == FILLED
    cluster.start_node(3)
    eventually(lambda: objects(cluster) == [SECURED] * 3, "the third copy is there")
    assert harness.roll_out().templates_written
    assert not harness.roll_out().templates_written


def test_a_database_that_refuses_is_not_tried_again(cluster: SimClusterThread, client: Client) -> None:
    """Its user's validation function refuses the documents; the user keeps the access that is there."""
    assert ProvisionerHarness(client).ensure().provisioned
    put(client, "_design/own", {"validate_doc_update": REFUSES})
    outcome = ProvisionerHarness(client, templates=TEMPLATES).roll_out()
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.advice) == ("template_refused", Advice.GIVE_UP)
    assert "profile: forbidden: nothing here" in outcome.failure.message
    assert objects(cluster) == [SECURED] * 3


def test_nobody_is_let_into_a_database_that_refuses_its_templates(cluster: SimClusterThread, client: Client) -> None:
    """The first document refuses the later ones; the operator must repair that."""
    guard = Templates((Template("_design/guard", {"validate_doc_update": REFUSES}),))
    client.create_database(DATABASE, DatabasesConfig())
    put(client, "_design/guard", guard.documents[0].body)
    outcome = ProvisionerHarness(client, templates=TEMPLATES).ensure()
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.advice) == ("template_refused", Advice.ASK_OPERATOR)
    assert objects(cluster) == [DEFAULT] * 3


def test_a_deleted_users_database_is_not_rolled_out(cluster: SimClusterThread, client: Client) -> None:
    """The database stays as it is, and so does the access, which its owner takes away."""
    harness = ProvisionerHarness(client, templates=TEMPLATES)
    assert ProvisionerHarness(client).ensure().provisioned
    path = f"/_users/{user_document_id(USER)}"
    rev = client.session.request("GET", path).expect(200).decode(dict[str, Any])["_rev"]
    client.session.request("DELETE", path, params={"rev": rev}).expect(200)
    assert harness.roll_out() == Outcome()
    assert documents(client) == {}
    assert objects(cluster) == [SECURED] * 3


def test_documents_that_a_minority_took_are_read_again(cluster: SimClusterThread, client: Client) -> None:
    """A database is not given to its user on the word of one copy."""
    cluster.stop_node(2)
    cluster.stop_node(3)
    outcome = ProvisionerHarness(client, templates=Templates((SETTINGS,))).ensure()
    assert outcome.failure is not None
    cluster.start_node(2)
    cluster.start_node(3)
    again = ProvisionerHarness(client, templates=Templates((SETTINGS,))).ensure()
    assert (again.provisioned, again.failure) == (True, None)
    assert documents(client) == {"settings": {"theme": "dark"}}
