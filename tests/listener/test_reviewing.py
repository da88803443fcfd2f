"""The acts of a provisioner that follow from a scan and from a review."""

import itertools

import pytest

from peruserd.core.common.names import user_document_id
from peruserd.core.configuration.choices import DeletionPolicy
from peruserd.core.users.evidence import DocumentState, Verdict
from peruserd.core.users.quarantine import Advice
from peruserd.core.users.security import is_public
from peruserd.listener.outcome import Outcome
from peruserd.simcluster import SimClusterThread
from tests.couch.connecting import TalkingServer, answering, connect
from tests.listener.provisioner_harness import (
    DATABASE,
    DEFAULT,
    SECURED,
    USER,
    ProvisionerHarness,
    delete_user,
    made,
    objects,
    secure,
    set_copy,
)


@pytest.fixture
def harness(cluster: SimClusterThread) -> ProvisionerHarness:
    """A provisioner at node 1, with the default settings."""
    return ProvisionerHarness(connect(cluster.urls[0]))


# Scans


def test_a_scan_looks_before_it_creates(cluster: SimClusterThread, harness: ProvisionerHarness) -> None:
    """A user who is served costs a scan one read; one who is not gets the database all the same."""
    harness.ensure()
    harness.doubts.clear()
    cluster.clear_requests()
    assert harness.look() == Outcome(acted_on=False, provisioned=True)
    assert cluster.requests() == {("node1@127.0.0.1", "GET", "security"): 1}
    assert harness.look("bob") == Outcome(
        acted_on=False, provisioned=True, created=True, security_written=True, whole=True
    )


def test_a_scan_compares_copies_at_last(cluster: SimClusterThread, harness: ProvisionerHarness) -> None:
    """A user who is served costs its last sweep a read of each copy; one who is not gets the database here too."""
    harness.ensure()
    harness.doubts.clear()
    cluster.clear_requests()
    assert harness.look(each_copy=True) == Outcome(acted_on=False, provisioned=True)
    read = {("node1@127.0.0.1", "GET", "dbs"): 1, ("node1@127.0.0.1", "GET", "shard_security"): 3}
    assert cluster.requests() == read
    assert harness.look("bob", each_copy=True).created


def test_those_without_a_database_are_found_by_the_hundreds(
    cluster: SimClusterThread, harness: ProvisionerHarness
) -> None:
    """One request asks for five hundred; a name that can have no database is not missing one."""
    harness.ensure()
    cluster.clear_requests()
    others = [f"user{number}" for number in range(749)]
    assert harness.missing(USER, *others, "x" * 200, "") == set(others)
    assert cluster.requests() == {("node1@127.0.0.1", "POST", "dbs_docs"): 2}


def test_a_server_that_cannot_be_asked_for_many_has_nobody_missing() -> None:
    """PouchDB Server has no such list: then each user is looked at by itself."""
    with TalkingServer(answering({})) as server:
        assert ProvisionerHarness(connect(server.url)).missing("ann", "bob") == set()


def test_where_names_are_compared_a_server_that_cannot_be_asked_for_many_has_everybody_looked_at() -> None:
    """No other sweep follows that would look at them."""
    with TalkingServer(answering({})) as server:
        assert ProvisionerHarness(connect(server.url)).missing("ann", "bob", remade=True) == {"ann", "bob"}


# Reviews


def test_a_review_of_what_is_still_so_only_reads_the_document(
    cluster: SimClusterThread, harness: ProvisionerHarness
) -> None:
    """If the user document is unchanged since the action, nothing else is read or written."""
    cluster.add_user(USER, "x")
    cluster.clear_requests()
    assert harness.review(deleted=False) == Outcome()
    asked = {("node1@127.0.0.1", "GET", "dbs"): 1, ("node1@127.0.0.1", "POST", "shard_docs"): 3}
    assert cluster.requests() == asked


def test_a_review_gives_access_back_that_was_taken_from_a_returned_user(
    cluster: SimClusterThread, harness: ProvisionerHarness
) -> None:
    """Revoked too late: the user document is there, so the user is served."""
    cluster.add_user(USER, "x")
    harness.ensure()
    harness.remove()
    cluster.add_user(USER, "y")
    assert harness.review(deleted=True) == Outcome(acted_on=False, provisioned=True, security_written=True, whole=True)
    assert USER in str(objects(cluster))


def test_a_review_takes_access_away_that_a_deleted_user_was_given(
    cluster: SimClusterThread, harness: ProvisionerHarness
) -> None:
    """Granted too late: the user document is deleted, so the access is taken away again."""
    cluster.add_user(USER, "x")
    harness.ensure()
    harness.doubts.clear()
    delete_user(harness.client)
    assert harness.review(deleted=False) == Outcome(acted_on=True, revoked=True, security_written=True, whole=True)
    assert not any(USER in str(each) for each in objects(cluster))


def test_a_review_writes_what_is_in_doubt_whatever_a_read_shows(
    cluster: SimClusterThread, harness: ProvisionerHarness
) -> None:
    """Copies can disagree: a security object in doubt is written again although it looks right."""
    cluster.add_user(USER, "x")
    harness.ensure()
    set_copy(harness.client, 2, DEFAULT)
    harness.doubts.add(user_document_id(USER))
    cluster.clear_requests()
    assert harness.review(deleted=False).security_written
    assert made(cluster, "PUT", "security") == 1
    assert objects(cluster) == [SECURED] * 3


def test_a_review_notes_the_deletion_that_it_finds(cluster: SimClusterThread) -> None:
    """A review takes access away but drops nothing; a deleted user's database is dropped when it is due."""
    harness = ProvisionerHarness(connect(cluster.urls[0]), policy=DeletionPolicy.DROP)
    cluster.add_user(USER, "x")
    harness.ensure()
    harness.doubts.clear()
    delete_user(harness.client)
    assert harness.review(deleted=False) == Outcome(acted_on=True, revoked=True, security_written=True, whole=True)
    assert DATABASE in cluster.databases()
    assert [each[1] for each in harness.notes.noted] == [DATABASE]


def test_a_review_without_a_database_leaves_nothing_in_doubt(
    cluster: SimClusterThread, harness: ProvisionerHarness
) -> None:
    """Without a database a deleted user has no security object that could be wrong."""
    cluster.add_user(USER, "x")
    delete_user(harness.client)
    harness.doubts.add(user_document_id(USER))
    assert harness.review(deleted=True) == Outcome(whole=True)


def test_a_review_of_a_user_nobody_knows_brings_the_copies_together(
    cluster: SimClusterThread, harness: ProvisionerHarness
) -> None:
    """The authentication database was made again: an object in doubt is written as found, and stays closed."""
    secure(harness.client, {})
    harness.doubts.add(user_document_id(USER))
    assert harness.review(deleted=False).security_written
    assert not any(is_public(each) for each in objects(cluster))


def test_with_the_policy_keep_a_review_of_a_deleted_user_changes_nobodys_access(cluster: SimClusterThread) -> None:
    """The copies are brought together as they are."""
    harness = ProvisionerHarness(connect(cluster.urls[0]), policy=DeletionPolicy.KEEP)
    cluster.add_user(USER, "x")
    harness.ensure()
    before = objects(cluster)
    delete_user(harness.client)
    set_copy(harness.client, 2, DEFAULT)
    harness.doubts.add(user_document_id(USER))
    assert harness.review(deleted=True).security_written
    assert objects(cluster) == before


def test_a_document_that_changes_all_the_time_is_reviewed_another_time(
    cluster: SimClusterThread, harness: ProvisionerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A review does not go on for ever; its user is tried again later."""
    del cluster
    states = itertools.cycle([DocumentState.LIVE, DocumentState.DELETED])
    monkeypatch.setattr(harness._provisioner, "confirm", lambda _id: Verdict(next(states)))
    outcome = harness.review(deleted=True)
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.advice) == ("restless", Advice.RETRY)
