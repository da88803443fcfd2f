"""Databases that somebody else deleted, made or changed: a look repairs them."""

from typing import Any

import pytest

from peruserd.core.common.names import user_document_id
from peruserd.core.configuration.choices import DeletionPolicy, WhenDeleted
from peruserd.core.configuration.config import DatabasesConfig
from peruserd.core.feed.changes import make_look, make_review
from peruserd.core.feed.lanes import Lane
from peruserd.core.users.quarantine import Advice
from peruserd.couch.client import Creation
from peruserd.couch.lives import ended_life
from peruserd.listener.outcome import Outcome
from peruserd.simcluster import SimClusterThread
from tests.couch.connecting import connect
from tests.listener.provisioner_harness import (
    DATABASE,
    SECURED,
    USER,
    ProvisionerHarness,
    delete_user,
    objects,
    secure,
    set_copy,
)

REPORT = DatabasesConfig(when_deleted=WhenDeleted.REPORT)


@pytest.fixture
def harness(cluster: SimClusterThread) -> ProvisionerHarness:
    """A provisioner at node 1, and a user who has signed up and was served."""
    return served(cluster, DatabasesConfig())


def served(
    cluster: SimClusterThread, databases: DatabasesConfig, policy: DeletionPolicy = DeletionPolicy.REVOKE
) -> ProvisionerHarness:
    """Return a provisioner that has served the user."""
    cluster.add_user(USER, "x")
    harness = ProvisionerHarness(connect(cluster.urls[0]), databases=databases, policy=policy)
    assert harness.ensure().provisioned
    return harness


def look(harness: ProvisionerHarness, lane: Lane = Lane.OTHERS) -> Outcome:
    """Look at the user for a reason other than a row."""
    return harness.act(make_look(user_document_id(USER), lane, 0.0))


def is_reported(outcome: Outcome) -> bool:
    """Say whether the user waits for the operator, because somebody deleted the database."""
    return outcome.failure is not None and outcome.failure.kind == "database_deleted"


def test_a_database_that_was_deleted_is_made_again(cluster: SimClusterThread, harness: ProvisionerHarness) -> None:
    """The user document is live, so the database is wanted."""
    harness.client.delete_database(DATABASE)
    outcome = look(harness)
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
    cluster: SimClusterThread, harness: ProvisionerHarness, found: dict[str, Any]
) -> None:
    """Names that an admin gave stay; the user is added, and no database is open to everybody."""
    harness.client.delete_database(DATABASE)
    secure(harness.client, found)
    assert look(harness).provisioned
    for each in objects(cluster):
        assert USER in each["members"]["names"]
        assert USER in each["admins"]["names"]
        assert set(found.get("members", {}).get("names", [])) <= set(each["members"]["names"])


def test_a_copy_that_differs_is_brought_to_the_others(cluster: SimClusterThread, harness: ProvisionerHarness) -> None:
    """A node that got a new disk has a blank copy, and a clustered read may not show it."""
    set_copy(harness.client, 2, {})
    assert look(harness, Lane.AUDIT).provisioned
    assert objects(cluster) == [SECURED] * 3


def test_a_right_database_is_not_written(cluster: SimClusterThread, harness: ProvisionerHarness) -> None:
    """A look at a user who has everything writes nothing."""
    outcome = look(harness)
    assert (outcome.provisioned, outcome.created, outcome.security_written) == (True, False, False)
    assert objects(cluster) == [SECURED] * 3


def test_the_database_of_a_deleted_user_is_not_made_again(
    cluster: SimClusterThread, harness: ProvisionerHarness
) -> None:
    """The deletion was due anyway."""
    delete_user(harness.client, USER)
    harness.client.delete_database(DATABASE)
    outcome = look(harness)
    assert (outcome.created, outcome.failure) == (False, None)
    assert DATABASE not in cluster.databases()


def test_a_name_that_is_free_is_left_alone(cluster: SimClusterThread, harness: ProvisionerHarness) -> None:
    """A database for whose name there never was a user document belongs to somebody else."""
    outcome = harness.act(make_look(user_document_id("nobody"), Lane.OTHERS, 0.0))
    assert outcome == Outcome()
    assert cluster.databases().count(DATABASE) == 1


# Deleted databases are the operator's, if the configuration says so


@pytest.mark.parametrize("lane", [Lane.OTHERS, Lane.AUDIT, Lane.LIVE])
def test_a_database_that_was_deleted_is_reported(cluster: SimClusterThread, lane: Lane) -> None:
    """The user waits for the operator; another change of the document makes nothing either."""
    harness = served(cluster, REPORT)
    harness.client.delete_database(DATABASE)
    outcome = harness.ensure() if lane is Lane.LIVE else look(harness, lane)
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.advice) == ("database_deleted", Advice.GIVE_UP)
    assert DATABASE not in cluster.databases()


def test_the_operators_word_makes_it_again(cluster: SimClusterThread) -> None:
    """Whether or not this instance owns the user."""
    harness = served(cluster, REPORT)
    harness.client.delete_database(DATABASE)
    assert look(harness, Lane.OPERATOR).created
    harness.client.delete_database(DATABASE)
    review = make_review(user_document_id(USER), deleted=False, now=0.0, contested=True)
    assert harness.act(review).created
    assert objects(cluster) == [SECURED] * 3


def test_a_database_that_was_put_back_ends_the_report(cluster: SimClusterThread) -> None:
    """Somebody restored it, so the user is served."""
    harness = served(cluster, REPORT)
    harness.client.delete_database(DATABASE)
    assert look(harness).failure is not None
    secure(harness.client, {})
    assert look(harness).provisioned


def test_a_new_user_is_served_where_deletions_are_reported(cluster: SimClusterThread) -> None:
    """A database that never was is not missing because of somebody."""
    assert served(cluster, REPORT)
    assert objects(cluster) == [SECURED] * 3


def test_a_database_that_peruserd_dropped_is_made_for_a_user_who_comes_back(cluster: SimClusterThread) -> None:
    """The journal of deletions says that nobody else did it."""
    harness = served(cluster, REPORT)
    harness.client.delete_database(DATABASE)
    harness.notes.ends.add((DATABASE, str(ended_life(harness.client, DATABASE))))
    assert harness.ensure().created


@pytest.mark.parametrize("policy", DeletionPolicy)
@pytest.mark.parametrize("database_first", [True, False], ids=["database first", "user first"])
def test_a_user_who_signs_up_again_misses_no_database_of_the_earlier_life(
    cluster: SimClusterThread, policy: DeletionPolicy, *, database_first: bool
) -> None:
    """The database was seen to be gone while its user was deleted, whoever deleted it and in whichever order."""
    harness = served(cluster, REPORT, policy)
    if database_first:
        harness.client.delete_database(DATABASE)
        assert look(harness).failure is not None
        assert harness.remove().failure is None
    else:
        assert harness.remove().failure is None
        harness.client.delete_database(DATABASE)
        assert look(harness).failure is None
    cluster.add_user(USER, "x")
    assert harness.ensure().created


def test_a_database_of_a_later_life_is_missed(cluster: SimClusterThread) -> None:
    """An end that was no loss explains no other one of the same name."""
    harness = served(cluster, REPORT)
    assert harness.remove().failure is None
    harness.client.delete_database(DATABASE)
    assert look(harness).failure is None
    cluster.add_user(USER, "x")
    assert harness.ensure().created
    harness.client.delete_database(DATABASE)
    assert is_reported(look(harness))


def test_a_database_that_was_put_back_by_hand_and_deleted_again_is_missed(cluster: SimClusterThread) -> None:
    """Each deletion is reported."""
    harness = served(cluster, REPORT)
    for _ in range(2):
        harness.client.delete_database(DATABASE)
        assert is_reported(look(harness))
        secure(harness.client, {})
        assert look(harness).provisioned


def test_a_new_life_that_nobody_saw_begin_is_asked_about(cluster: SimClusterThread) -> None:
    """Somebody deletes both and signs the user up at once. That looks the same as a deletion of the database alone."""
    harness = served(cluster, REPORT)
    harness.client.delete_database(DATABASE)
    delete_user(harness.client)
    cluster.add_user(USER, "x")
    assert is_reported(look(harness))


def test_a_tombstone_of_another_document_explains_no_end(cluster: SimClusterThread) -> None:
    """Anybody can have a row shown under the user's id; the copies of the document say that the user is there."""
    harness = served(cluster, REPORT)
    harness.client.delete_database(DATABASE)
    harness.remove(really=False)
    assert harness.notes.ends == set()
    assert is_reported(look(harness))


def test_a_scan_asks_nothing_about_users_who_were_deleted_long_ago(cluster: SimClusterThread) -> None:
    """There can be millions of them, and each has one request."""
    harness = served(cluster, REPORT)
    assert harness.remove().failure is None
    harness.client.delete_database(DATABASE)
    cluster.clear_requests()
    assert harness.remove(lane=Lane.SCAN, really=False).failure is None
    assert sum(cluster.requests().values()) == 1
    assert harness.notes.ends == set()


def test_somebody_who_deletes_what_was_there_a_moment_ago_is_reported(
    cluster: SimClusterThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer that nobody has deleted the database is void once the database was made."""
    harness = ProvisionerHarness(connect(cluster.urls[0]), databases=REPORT)
    cluster.add_user(USER, "x")
    create = harness.client.create_database

    def made_and_deleted(database: str, options: DatabasesConfig) -> Creation:
        monkeypatch.undo()
        create(database, options)
        answer = create(database, options)
        harness.client.delete_database(database)
        return answer

    monkeypatch.setattr(harness.client, "create_database", made_and_deleted)
    assert is_reported(harness.ensure())
    assert DATABASE not in cluster.databases()


# Names after a gap


def test_names_tell_which_databases_are_not_there_or_were_made_again(harness: ProvisionerHarness) -> None:
    """The list of databases has the revision of each map, and a later revision shows a deletion."""
    for name in ("bob", "carol"):
        assert harness.ensure(name).created
    harness.client.delete_database(DATABASE)
    harness.client.delete_database("userdb-626f62")
    secure(harness.client, {})
    document_ids = [user_document_id(name) for name in (USER, "bob", "carol", "dave")]
    found = harness._provisioner.find_missing(document_ids, remade=True)
    assert found == {user_document_id(name) for name in (USER, "bob", "dave")}
    assert harness._provisioner.find_missing(document_ids) == {user_document_id(name) for name in ("bob", "dave")}
