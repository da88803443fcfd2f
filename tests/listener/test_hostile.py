"""An enemy, a second writer and damaged copies can do nothing to a user's database."""

from typing import Any
from zlib import crc32

import pytest

from peruserd.core.cluster.views import Copy
from peruserd.core.common.names import user_document_id
from peruserd.core.configuration.choices import DeletionPolicy
from peruserd.core.configuration.config import DatabasesConfig
from peruserd.core.feed.changes import Change
from peruserd.core.feed.lanes import Lane
from peruserd.core.feed.rows import Row
from peruserd.core.users import security
from peruserd.couch.client import Client
from peruserd.couch.sources import ShardSource
from peruserd.listener.outcome import Outcome
from peruserd.simcluster import SimClusterThread
from tests.couch.connecting import connect
from tests.listener.provisioner_harness import (
    DATABASE,
    DEFAULT,
    SECURED,
    USER,
    ProvisionerHarness,
    delete_user,
    objects,
    secure,
    set_copy,
)

# Overlong UTF-8 for `a`: CouchDB takes the id for another one, and shows it as `ann`.
ODD_DOCUMENT = "/_users/org.couchdb.user%3A%E0%81%A1nn"

PARTNERS: dict[str, Any] = {
    "admins": {"names": ["boss", USER], "roles": ["_admin"]},
    "members": {"names": ["boss", USER, "partner"], "roles": ["staff", "_admin"]},
    "proxy": {"kept": True},
}


@pytest.fixture
def harness(cluster: SimClusterThread) -> ProvisionerHarness:
    """A provisioner at node 1, and a user who has signed up and is served."""
    cluster.add_user(USER, "x")
    harness = ProvisionerHarness(connect(cluster.urls[0]))
    harness.ensure()
    return harness


def _sign_up_odd(client: Client) -> str:
    """Let an enemy make another document with the same shown id; return its revision."""
    body = {"name": USER, "type": "user", "roles": [], "password": "z"}
    answer = client.session.request("PUT", ODD_DOCUMENT, body=body).expect(201, 202)
    return str(answer.decode(dict[str, Any])["rev"])


def _delete_odd(client: Client, rev: str) -> None:
    client.session.request("DELETE", ODD_DOCUMENT, params={"rev": rev}).expect(200, 202)


def _copies(client: Client) -> list[Copy]:
    """Return one copy of each range of the authentication database."""
    shard_map = client.shard_map("_local", "_users")
    assert shard_map is not None
    return [Copy("_users", each, nodes[0], shard_map.suffix) for each, nodes in shard_map.hosts.items()]


def _page(client: Client, copy: Copy) -> list[Row]:
    return ShardSource(client, copy).page(0).results


def _rows(client: Client) -> list[Row]:
    """Return all rows for the user's id in the feeds of the authentication database."""
    rows = [row for copy in _copies(client) for row in _page(client, copy)]
    return [row for row in rows if row.id == user_document_id(USER)]


def _act(harness: ProvisionerHarness, row: Row, lane: Lane = Lane.LIVE) -> None:
    change = Change(row.id, row.deleted, lane, 0.0, in_place=lane is Lane.SCAN)
    assert harness.act(change).failure is None


# Two documents under one id


@pytest.mark.parametrize("lane", [Lane.LIVE, Lane.RETRY, Lane.SCAN])
@pytest.mark.parametrize("policy", [DeletionPolicy.REVOKE, DeletionPolicy.DROP])
def test_a_tombstone_of_another_document_takes_nothing_away(
    cluster: SimClusterThread, harness: ProvisionerHarness, lane: Lane, policy: DeletionPolicy
) -> None:
    """Anybody can sign up and leave under bytes that CouchDB shows as Ann's name; Ann keeps her database."""
    _delete_odd(harness.client, _sign_up_odd(harness.client))
    rows = _rows(harness.client)
    assert sorted(row.deleted for row in rows) == [False, True]
    hasty = ProvisionerHarness(connect(cluster.urls[0]), policy=policy)
    for row in rows:
        _act(hasty, row, lane)
    assert objects(cluster) == [SECURED] * 3


def test_a_live_row_of_another_document_gives_a_deleted_user_nothing_back(
    cluster: SimClusterThread, harness: ProvisionerHarness
) -> None:
    """To let a deleted user in again, an accomplice signs up under bytes that CouchDB shows as that user's name."""
    harness.remove()
    _sign_up_odd(harness.client)
    for row in _rows(harness.client):
        _act(harness, row)
    assert USER not in str(objects(cluster))


def test_two_rows_that_contradict_each_other_are_settled_by_the_document(
    cluster: SimClusterThread, harness: ProvisionerHarness
) -> None:
    """The document itself decides, whichever of the two rows is acted on."""
    delete_user(harness.client)
    harness.ensure(contested=True)
    assert USER not in str(objects(cluster))


# Copies of the user document


def test_a_copy_that_was_away_gives_nobody_access_back(cluster: SimClusterThread, harness: ProvisionerHarness) -> None:
    """A node returns with a deleted user still signed up on its copy, and a listener beside it scans."""
    cluster.partition([[1], [2, 3]])
    there = ProvisionerHarness(connect(cluster.urls[1]))
    delete_user(there.client)
    cluster.set_replication_delay(3600.0)
    cluster.heal()
    there.remove()
    assert USER not in str(objects(cluster))
    assert not next(row.deleted for row in _rows(harness.client))
    harness.ensure()
    harness.look()
    assert USER not in str(objects(cluster))


def test_a_copy_that_is_behind_does_not_save_a_deleted_users_access(
    cluster: SimClusterThread, harness: ProvisionerHarness
) -> None:
    """A user is deleted in the moment in which the database appears: two copies have not heard of it yet."""
    cluster.set_replication_delay(3600.0)
    cluster.partition([[1], [2, 3]])
    delete_user(harness.client)
    cluster.heal()
    outcome = harness.remove()
    assert outcome.revoked
    assert USER not in str(objects(cluster))


def test_a_deletion_is_not_believed_of_a_minority(cluster: SimClusterThread, harness: ProvisionerHarness) -> None:
    """A node that is cut off from the two others takes no access away and forgets nothing."""
    delete_user(harness.client)
    cluster.partition([[1], [2, 3]])
    outcome = harness.remove()
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.waits_for) == (
        "unconfirmed",
        ("node2@127.0.0.1", "node3@127.0.0.1"),
    )
    assert objects(cluster) == [SECURED] * 3


# Copies of the security object


@pytest.mark.parametrize("blank", [DEFAULT, {}], ids=["closed", "open"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_copy_that_lost_its_security_object_does_not_win(
    cluster: SimClusterThread, harness: ProvisionerHarness, blank: dict[str, Any], place: int
) -> None:
    """Afterwards all copies have the partners, roles and other keys, for any blank copy that is asked first."""
    secure(harness.client, PARTNERS)
    set_copy(harness.client, place, blank)
    harness.ensure()
    harness.look(each_copy=True)
    assert objects(cluster) == [PARTNERS] * 3


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_scan_mends_copies_that_an_earlier_owner_left_apart(
    cluster: SimClusterThread, harness: ProvisionerHarness, place: int
) -> None:
    """A clustered read may show the one right copy. The user has lost access in the others, and gets it back."""
    for other in {0, 1, 2} - {place}:
        set_copy(harness.client, other, security.revoke(SECURED, USER))
    assert harness.look(each_copy=True).security_written
    assert objects(cluster) == [SECURED] * 3


def test_a_scan_serves_a_user_while_a_copy_is_away(cluster: SimClusterThread, harness: ProvisionerHarness) -> None:
    """The readable copies are right and agree, so nothing waits for the copy that is away."""
    cluster.stop_node(3)
    assert harness.look(each_copy=True) == Outcome(acted_on=False, provisioned=True)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_blank_copy_does_not_hide_a_deleted_users_access(
    cluster: SimClusterThread, harness: ProvisionerHarness, place: int
) -> None:
    """For any blank copy, no copy names the user after the deletion, and the partners stay."""
    secure(harness.client, PARTNERS)
    set_copy(harness.client, place, DEFAULT)
    assert harness.remove().revoked
    assert objects(cluster) == [security.revoke(PARTNERS, USER)] * 3


def test_a_revocation_with_two_of_three_copies_away_reaches_them_when_they_return(
    cluster: SimClusterThread, harness: ProvisionerHarness
) -> None:
    """The nodes of two copies go down just before the write; no copy is forgotten."""
    delete_user(harness.client)

    def lose_two_nodes(_document_id: str) -> None:
        for node in (2, 3):
            cluster.stop_node(node)

    harness.announce = lose_two_nodes
    outcome = harness.remove()
    assert outcome.failure is not None
    assert outcome.failure.kind == "no_majority"
    harness.announce = lambda _: None
    for node in (2, 3):
        cluster.start_node(node)
    cluster.replicate()
    tries = 0
    while (outcome := harness.remove()).failure is not None:
        tries += 1
        assert tries < 4
    assert USER not in str(objects(cluster))


def test_one_copy_that_is_away_is_waited_for(cluster: SimClusterThread, harness: ProvisionerHarness) -> None:
    """A revocation that reached two of three copies is checked again until the third one has it."""
    delete_user(harness.client)
    cluster.stop_node(3)
    outcome = harness.remove()
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.waits_for) == ("copies_away", ("node3@127.0.0.1",))
    cluster.start_node(3)
    outcome = harness.remove()
    while outcome.failure is not None and outcome.failure.kind == "to_be_seen_again":
        outcome = harness.remove()
    assert outcome.failure is None
    assert USER not in str(objects(cluster))


# Second writers


def test_a_new_database_names_nobody_but_its_user(cluster: SimClusterThread) -> None:
    """Another daemon has named somebody else in a new database: peruserd does not adopt that name."""
    for user in ("ann", "bob"):
        cluster.add_user(user, "x")
    harness = ProvisionerHarness(connect(cluster.urls[0]))
    harness.announce = lambda _: harness.client.put_security(DATABASE, {"admins": {"names": ["stranger"]}})
    harness.ensure()
    harness.announce = lambda _: None
    harness.ensure("bob")
    for database in (DATABASE, "userdb-626f62"):
        assert "stranger" not in str(objects(cluster, database))


def test_what_a_new_database_gets_does_not_depend_on_the_servers_default(cluster: SimClusterThread) -> None:
    """On a server whose new databases are public, a user's is not."""
    cluster.add_user(USER, "x")
    harness = ProvisionerHarness(connect(cluster.urls[0]))
    # The simulated server knows the closed default alone.
    harness.announce = lambda _: harness.client.put_security(DATABASE, {})
    assert harness.ensure().provisioned
    assert objects(cluster) == [security.first(USER)] * 3


# Databases from before CouchDB 1.0

READERS = {"admins": {"names": ["op"]}, "readers": {"names": ["bob"], "roles": ["staff"]}}


def test_readers_are_not_locked_out_by_a_grant_or_a_revocation(
    cluster: SimClusterThread, harness: ProvisionerHarness
) -> None:
    """Users of an old database read on while its own user comes and goes."""
    secure(harness.client, READERS)
    assert harness.ensure().provisioned
    assert objects(cluster) == [security.grant(READERS, USER)] * 3
    assert harness.remove().revoked
    assert objects(cluster) == [READERS] * 3 or all(
        each["readers"] == READERS["readers"] and USER not in str(each) for each in objects(cluster)
    )


def test_ranges_hold_what_their_rows_claim(harness: ProvisionerHarness) -> None:
    """The odd document lies in the range of its own bytes. That can be another range than that of its shown id."""
    _sign_up_odd(harness.client)
    places = [crc32(each) for each in (user_document_id(USER).encode(), b"org.couchdb.user:\xe0\x81\xa1nn")]
    copies = _copies(harness.client)
    showing = [copy.range for copy in copies for row in _page(harness.client, copy) if row.id == user_document_id(USER)]
    assert sorted(showing) == sorted(copy.range for place in places for copy in copies if place in copy.range)


def test_a_database_of_a_configured_shape_is_compared_in_all_its_ranges(cluster: SimClusterThread) -> None:
    """Each range of a database has copies of the security object; all of them are read and brought together."""
    cluster.add_user(USER, "x")
    harness = ProvisionerHarness(connect(cluster.urls[0]), databases=DatabasesConfig(q=2))
    harness.ensure()
    set_copy(harness.client, 5, DEFAULT)
    assert harness.remove().revoked
    assert len(objects(cluster)) == 6
    assert USER not in str(objects(cluster))
