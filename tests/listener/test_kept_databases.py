"""Databases that somebody else deleted, made or changed: a look brings them to what they should be."""

from typing import Any

import pytest

from peruserd.core.common.names import user_document_id
from peruserd.core.configuration.config import DatabasesConfig, DeletionPolicy, WhenDeleted
from peruserd.core.feed.changes import make_look, make_review
from peruserd.core.feed.lanes import Lane
from peruserd.core.users.quarantine import Advice
from peruserd.couch.client import Creation
from peruserd.couch.lives import ended_life
from peruserd.listener.outcome import Outcome
from peruserd.simcluster import SimClusterThread
from tests.couch.connecting import connect
from tests.listener.office import DATABASE, SECURED, USER, Office, delete_user, objects, secure, set_copy

REPORT = DatabasesConfig(when_deleted=WhenDeleted.REPORT)


@pytest.fixture
def office(cluster: SimClusterThread) -> Office:
    """A provisioner at node 1, and a user who has signed up and was served."""
    return served(cluster, DatabasesConfig())


def served(
    cluster: SimClusterThread, databases: DatabasesConfig, policy: DeletionPolicy = DeletionPolicy.REVOKE
) -> Office:
    """Return a provisioner that has served the user."""
    cluster.add_user(USER, "x")
    office = Office(connect(cluster.urls[0]), databases=databases, policy=policy)
    assert office.ensure().provisioned
    return office


def look(office: Office, lane: Lane = Lane.OTHERS) -> Outcome:
    """Look at the user for a reason behind which there is no row."""
    return office.act(make_look(user_document_id(USER), lane, 0.0))


def is_reported(outcome: Outcome) -> bool:
    """Say whether the user waits for the operator, because somebody deleted the database."""
    return outcome.failure is not None and outcome.failure.kind == "database_deleted"


def test_a_database_that_was_deleted_is_made_again(cluster: SimClusterThread, office: Office) -> None:
    """The user document is live, so the database is wanted."""
    office.client.delete_database(DATABASE)
    outcome = look(office)
    assert (outcome.created, outcome.provisioned, outcome.failure) == (True, True, None)
    assert objects(cluster) == [SECURED] * 3


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"admins": {"roles": ["_admin"]}, "members": {"roles": ["_admin"]}},
        {"admins": {"names": [USER]}, "members": {"names": [], "roles": []}},
        {"admins": {"names": ["bob"]}, "members": {"names": ["bob"]}},
    ],
    ids=["public", "blank", "public to all but its admin", "somebody else's"],
)
def test_a_database_that_was_made_again_lets_its_user_in_and_nobody_without_a_name(
    cluster: SimClusterThread, office: Office, found: dict[str, Any]
) -> None:
    """Names that an admin gave stay; the user is added, and no database is open to everybody."""
    office.client.delete_database(DATABASE)
    secure(office.client, found)
    assert look(office).provisioned
    for each in objects(cluster):
        assert USER in each["members"]["names"]
        assert USER in each["admins"]["names"]
        assert set(found.get("members", {}).get("names", [])) <= set(each["members"]["names"])


def test_a_copy_that_differs_is_brought_to_the_others(cluster: SimClusterThread, office: Office) -> None:
    """A node that got a new disk has a blank copy, and a clustered read may not show it."""
    set_copy(office.client, 2, {})
    assert look(office, Lane.AUDIT).provisioned
    assert objects(cluster) == [SECURED] * 3


def test_a_right_database_is_not_written(cluster: SimClusterThread, office: Office) -> None:
    """A look at a user who has everything writes nothing."""
    outcome = look(office)
    assert (outcome.provisioned, outcome.created, outcome.security_written) == (True, False, False)
    assert objects(cluster) == [SECURED] * 3


def test_the_database_of_a_deleted_user_is_not_made_again(cluster: SimClusterThread, office: Office) -> None:
    """Whoever deleted it did what was due."""
    delete_user(office.client, USER)
    office.client.delete_database(DATABASE)
    outcome = look(office)
    assert (outcome.created, outcome.failure) == (False, None)
    assert DATABASE not in cluster.databases()


def test_a_name_that_is_free_is_left_alone(cluster: SimClusterThread, office: Office) -> None:
    """A database bears a name of which there never was a user document: it is somebody else's."""
    outcome = office.act(make_look(user_document_id("nobody"), Lane.OTHERS, 0.0))
    assert outcome == Outcome()
    assert cluster.databases().count(DATABASE) == 1


# Deleted databases are the operator's, if the configuration says so


@pytest.mark.parametrize("lane", [Lane.OTHERS, Lane.AUDIT, Lane.LIVE])
def test_a_database_that_was_deleted_is_reported(cluster: SimClusterThread, lane: Lane) -> None:
    """The user waits for the operator; another change of the document makes nothing either."""
    office = served(cluster, REPORT)
    office.client.delete_database(DATABASE)
    outcome = office.ensure() if lane is Lane.LIVE else look(office, lane)
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.advice) == ("database_deleted", Advice.GIVE_UP)
    assert DATABASE not in cluster.databases()


def test_the_operators_word_makes_it_again(cluster: SimClusterThread) -> None:
    """Whether or not this instance owns the user."""
    office = served(cluster, REPORT)
    office.client.delete_database(DATABASE)
    assert look(office, Lane.OPERATOR).created
    office.client.delete_database(DATABASE)
    review = make_review(user_document_id(USER), deleted=False, now=0.0, contested=True)
    assert office.act(review).created
    assert objects(cluster) == [SECURED] * 3


def test_a_database_that_was_put_back_ends_the_report(cluster: SimClusterThread) -> None:
    """Somebody restored it, so the user is served."""
    office = served(cluster, REPORT)
    office.client.delete_database(DATABASE)
    assert look(office).failure is not None
    secure(office.client, {})
    assert look(office).provisioned


def test_a_new_user_is_served_where_deletions_are_reported(cluster: SimClusterThread) -> None:
    """A database that never was is not missing because of somebody."""
    assert served(cluster, REPORT)
    assert objects(cluster) == [SECURED] * 3


def test_a_database_that_peruserd_dropped_is_made_for_a_user_who_comes_back(cluster: SimClusterThread) -> None:
    """The journal of deletions says that nobody else did it."""
    office = served(cluster, REPORT)
    office.client.delete_database(DATABASE)
    office.notes.ends.add((DATABASE, str(ended_life(office.client, DATABASE))))
    assert office.ensure().created


@pytest.mark.parametrize("policy", DeletionPolicy)
@pytest.mark.parametrize("database_first", [True, False], ids=["database first", "user first"])
def test_a_user_who_signs_up_again_misses_no_database_of_the_earlier_life(
    cluster: SimClusterThread, policy: DeletionPolicy, *, database_first: bool
) -> None:
    """The database was seen to be gone while its user was deleted, whoever deleted it and in whichever order."""
    office = served(cluster, REPORT, policy)
    if database_first:
        office.client.delete_database(DATABASE)
        assert look(office).failure is not None
        assert office.remove().failure is None
    else:
        assert office.remove().failure is None
        office.client.delete_database(DATABASE)
        assert look(office).failure is None
    cluster.add_user(USER, "x")
    assert office.ensure().created


def test_a_database_of_a_later_life_is_missed(cluster: SimClusterThread) -> None:
    """An end that was no loss explains no other one of the same name."""
    office = served(cluster, REPORT)
    assert office.remove().failure is None
    office.client.delete_database(DATABASE)
    assert look(office).failure is None
    cluster.add_user(USER, "x")
    assert office.ensure().created
    office.client.delete_database(DATABASE)
    assert is_reported(look(office))


def test_a_database_that_was_put_back_by_hand_and_deleted_again_is_missed(cluster: SimClusterThread) -> None:
    """Each deed is reported."""
    office = served(cluster, REPORT)
    for _ in range(2):
        office.client.delete_database(DATABASE)
        assert is_reported(look(office))
        secure(office.client, {})
        assert look(office).provisioned


def test_a_new_life_that_nobody_saw_begin_is_asked_about(cluster: SimClusterThread) -> None:
    """Who deletes both and signs the user up at once looks like somebody who deletes the database alone."""
    office = served(cluster, REPORT)
    office.client.delete_database(DATABASE)
    delete_user(office.client)
    cluster.add_user(USER, "x")
    assert is_reported(look(office))


def test_a_tombstone_of_another_document_explains_no_end(cluster: SimClusterThread) -> None:
    """Anybody can have a row shown under the user's id; the copies of the document say that the user is there."""
    office = served(cluster, REPORT)
    office.client.delete_database(DATABASE)
    office.remove(really=False)
    assert office.notes.ends == set()
    assert is_reported(look(office))


def test_a_scan_asks_nothing_about_users_who_were_deleted_long_ago(cluster: SimClusterThread) -> None:
    """There can be millions of them, and each has one request."""
    office = served(cluster, REPORT)
    assert office.remove().failure is None
    office.client.delete_database(DATABASE)
    cluster.clear_requests()
    assert office.remove(lane=Lane.SCAN, really=False).failure is None
    assert sum(cluster.requests().values()) == 1
    assert office.notes.ends == set()


def test_somebody_who_deletes_what_was_there_a_moment_ago_is_reported(
    cluster: SimClusterThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer that nobody had deleted the database is worth nothing once it was there."""
    office = Office(connect(cluster.urls[0]), databases=REPORT)
    cluster.add_user(USER, "x")
    create = office.client.create_database

    def made_and_deleted(database: str, options: DatabasesConfig) -> Creation:
        monkeypatch.undo()
        create(database, options)
        answer = create(database, options)
        office.client.delete_database(database)
        return answer

    monkeypatch.setattr(office.client, "create_database", made_and_deleted)
    assert is_reported(office.ensure())
    assert DATABASE not in cluster.databases()


# Names after a gap


def test_names_tell_which_databases_are_not_there_or_were_made_again(office: Office) -> None:
    """The list of databases has the revision of each map, and a later one tells of a deletion."""
    for name in ("bob", "carol"):
        assert office.ensure(name).created
    office.client.delete_database(DATABASE)
    office.client.delete_database("userdb-626f62")
    secure(office.client, {})
    document_ids = [user_document_id(name) for name in (USER, "bob", "carol", "dave")]
    found = office._provisioner.find_missing(document_ids, remade=True)
    assert found == {user_document_id(name) for name in (USER, "bob", "dave")}
    assert office._provisioner.find_missing(document_ids) == {user_document_id(name) for name in ("bob", "dave")}
