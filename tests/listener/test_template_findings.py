"""The audit's findings about templates in the databases of a simulated cluster, and its requests for them."""

from collections.abc import Sequence

import pytest

from peruserd.core.audit.diagnosis import Diagnosis, Rules, diagnose
from peruserd.core.audit.findings import Finding, Remedy
from peruserd.core.cluster.views import Copy, Feed
from peruserd.core.common.names import database_name, user_document_id
from peruserd.core.configuration.config import DatabasesConfig, DeletionConfig
from peruserd.core.ownership.ranges import WHOLE_SPACE
from peruserd.core.users.contents import Contents
from peruserd.core.users.security import Security
from peruserd.core.users.templates import NO_TEMPLATES, Template, Templates
from peruserd.couch import errors
from peruserd.couch.client import Client
from peruserd.couch.copies import Place, ShardLayout
from peruserd.couch.journal import Journal
from peruserd.couch.observing import Observer, open_observer
from peruserd.couch.session import quoted
from peruserd.couch.template_record import TemplateRecord
from peruserd.listener.template_writer import open_template_writer
from peruserd.simcluster import SimClusterThread
from tests.couch.connecting import connect
from tests.listener.provisioner_harness import RECORD

PROFILE = Template("profile", {"of": "{user}", "version": 2})
BEFORE = Template("profile", {"of": "{user}", "version": 1})
LOGO = Template("logo", {"color": "blue"})
DOCUMENTS = Templates((PROFILE, LOGO))
ROLES = Templates(admin_roles=("support",))
OPTION = Templates(options={"_revs_limit": 20})
RULES = Rules(DatabasesConfig(), DeletionConfig())


@pytest.fixture
def client(cluster: SimClusterThread) -> Client:
    """A client of node 1; an earlier version of a template is on record."""
    made = connect(cluster.urls[0])
    made.create_database(RECORD, DatabasesConfig())
    TemplateRecord(Journal(made.session, RECORD)).keep(Templates((BEFORE,)))
    return made


def observer_by(client: Client, templates: Templates) -> Observer:
    """Return the observer of an audit where these templates are configured."""
    template_writer = open_template_writer(client, ShardLayout(client, "_local", "_users"), RECORD, templates)
    followed = Copy("_users", WHOLE_SPACE, "node1@127.0.0.1", feed=Feed.SHARD)
    return open_observer(client, followed, "userdb-", template_writer.reader())


def fill(client: Client, user: str, *templates: Template) -> None:
    """Put documents of templates into a user's database."""
    database = database_name("userdb-", user)
    for each in templates:
        put(client, user, each.id, each.filled(user, database))


def put(client: Client, user: str, document_id: str, body: dict[str, object]) -> None:
    """Write a new document into a user's database."""
    path = f"/{database_name('userdb-', user)}/{quoted(document_id)}"
    client.session.request("PUT", path, body=body).expect(201)


def delete(client: Client, user: str, document_id: str) -> None:
    """Delete a document in a user's database."""
    path = f"/{database_name('userdb-', user)}/{quoted(document_id)}"
    rev = client.session.request("GET", path).expect(200).decode(dict[str, object])["_rev"]
    client.session.request("DELETE", path, params={"rev": str(rev)}).expect(200)


def found(observer: Observer, users: Sequence[str]) -> dict[str, Diagnosis]:
    """Return the findings of the users who have any."""
    diagnoses = observer.observe_each([user_document_id(each) for each in users], lambda each: diagnose(each, RULES))
    return {each.user: each for each in diagnoses if each.findings}


def asked(cluster: SimClusterThread) -> int:
    """Return how many requests were made since they were last forgotten."""
    return sum(cluster.requests().values())


def test_documents_that_are_missing_or_out_of_date_are_found(cluster: SimClusterThread, client: Client) -> None:
    """The user's own changes are no finding. The words name the documents and the command; nothing is written."""
    users = cluster.seed_users(5, provisioned_prefix="userdb-")
    right, outdated, missing, changed, deleted = users
    fill(client, right, PROFILE, LOGO)
    fill(client, outdated, BEFORE, LOGO)
    fill(client, missing, PROFILE)
    fill(client, changed, LOGO)
    put(client, changed, "profile", {"of": "me"})
    fill(client, deleted, PROFILE, LOGO)
    delete(client, deleted, "logo")
    cluster.clear_requests()
    diagnoses = found(observer_by(client, DOCUMENTS), users)
    assert {user: each.words for user, each in diagnoses.items()} == {
        outdated: "`peruserd templates rollout` brings profile (out of date)",
        missing: "`peruserd templates rollout` brings logo (missing)",
    }
    assert {each.findings for each in diagnoses.values()} == {(Finding.TEMPLATE,)}
    assert {each.remedy for each in diagnoses.values()} == {Remedy.OPERATOR}
    assert not any(each.wants_look for each in diagnoses.values())
    assert cluster.writes() == []


def test_the_option_of_one_copy_is_enough(cluster: SimClusterThread, client: Client) -> None:
    """A copy whose node was away when the option was set has the default."""
    users = cluster.seed_users(2, provisioned_prefix="userdb-")
    for user in users:
        client.session.request("PUT", f"/{database_name('userdb-', user)}/_revs_limit", body=20).expect(200)
    observer = observer_by(client, OPTION)
    assert found(observer, users) == {}
    places = ShardLayout(client, "_local", "_users").of_database(database_name("userdb-", users[0]))
    assert places is not None
    client.session.request("PUT", f"{places[-1].path}/_revs_limit", body=1000).expect(200)
    assert found(observer, users)[users[0]].words == "`peruserd templates rollout` brings _revs_limit"


def test_a_database_takes_one_request_more_and_none_without_templates(
    cluster: SimClusterThread, client: Client
) -> None:
    """All documents of a database are read at once. Roles are seen in the security objects, which are read anyway."""
    users = cluster.seed_users(6, provisioned_prefix="userdb-")
    for user in users:
        fill(client, user, PROFILE, LOGO)

    def requests(templates: Templates) -> int:
        observer = observer_by(client, templates)
        cluster.clear_requests()
        assert found(observer, users) == {}
        return asked(cluster)

    none = requests(NO_TEMPLATES)
    assert requests(ROLES) == none
    assert requests(DOCUMENTS) == none + len(users)


def test_nothing_is_read_of_users_who_are_not_there(cluster: SimClusterThread, client: Client) -> None:
    """The database of a deleted user is not filled."""
    (user,) = cluster.seed_users(1, provisioned_prefix="userdb-")
    path = f"/_users/{user_document_id(user)}"
    rev = client.session.request("GET", path).expect(200).decode(dict[str, object])["_rev"]
    client.session.request("DELETE", path, params={"rev": str(rev)}).expect(200)
    assert found(observer_by(client, DOCUMENTS), [user])[user].findings == (Finding.STILL_NAMED,)


ERRORS = [
    errors.ServerError("500"),
    errors.TooLargeError("large"),
    errors.UnexpectedAnswerError("<html>"),
    errors.ForbiddenError("403"),
    errors.NotFoundError("404", "missing"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda each: each.kind)
def test_documents_that_cannot_be_read_hide_nothing_else(
    cluster: SimClusterThread, client: Client, error: errors.CouchError
) -> None:
    """The user's other findings stay, and so do those of other users."""
    bad, good = cluster.seed_users(2, provisioned_prefix="userdb-")
    client.put_security(database_name("userdb-", bad), {})
    observer = observer_by(client, DOCUMENTS)
    read = observer._contents
    assert read is not None

    def failing(user: str, database: str) -> Contents:
        if user == bad:
            raise error
        return read(user, database)

    observer._contents = failing
    diagnoses = found(observer, [bad, good])
    assert set(diagnoses[bad].findings) == {Finding.NOT_NAMED, Finding.PUBLIC, Finding.COPIES_SILENT}
    assert diagnoses[good].findings == (Finding.TEMPLATE,)
    assert str(error) in diagnoses[bad].words


def test_a_database_that_goes_before_its_documents_are_read_is_said_later(
    cluster: SimClusterThread, client: Client
) -> None:
    """It is missing at the second look."""
    (user,) = cluster.seed_users(1, provisioned_prefix="userdb-")
    observer = observer_by(client, DOCUMENTS)

    def gone(_user: str, _database: str) -> Contents:
        raise errors.NotFoundError("404", "Database does not exist.")

    observer._contents = gone
    assert found(observer, [user]) == {}


@pytest.mark.parametrize("error", [errors.UnreachableError("gone"), errors.InterruptedRequestError("stopping")])
def test_a_server_that_is_away_is_no_finding(
    cluster: SimClusterThread, client: Client, error: errors.CouchError
) -> None:
    """The audit waits for the node, as with every other question."""
    (user,) = cluster.seed_users(1, provisioned_prefix="userdb-")
    observer = observer_by(client, DOCUMENTS)

    def away(_user: str, _database: str) -> Contents:
        raise error

    observer._contents = away
    with pytest.raises(type(error)):
        found(observer, [user])


def test_a_node_that_is_away_hides_no_template_and_one_that_hangs_is_waited_for_once(
    cluster: SimClusterThread, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that is down fails at once. A node that does not answer would delay the read of each option's copy."""
    users = cluster.seed_users(3, provisioned_prefix="userdb-")
    observer = observer_by(client, DOCUMENTS)
    cluster.stop_node(3)
    both = {Finding.TEMPLATE, Finding.COPIES_SILENT}
    assert {user: set(each.findings) for user, each in found(observer, users).items()} == dict.fromkeys(users, both)
    security = observer._copies.security_of

    def hanging(place: Place) -> Security:
        if "node3" in place.node:
            raise errors.TimedOutError("no answer")
        return security(place)

    monkeypatch.setattr(observer._copies, "security_of", hanging)
    assert {each.findings for each in found(observer, users).values()} == {(Finding.COPIES_SILENT,)}
