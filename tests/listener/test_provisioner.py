from collections.abc import Callable
from typing import Any

import pytest

from peruserd.core.common.names import database_name, max_name_bytes, user_document_id
from peruserd.core.configuration.choices import DeletionPolicy, Grant, OnReturn
from peruserd.core.configuration.config import DatabasesConfig
from peruserd.core.feed.changes import Change
from peruserd.core.feed.lanes import Lane
from peruserd.core.ownership.hashing import document_hash
from peruserd.core.users.quarantine import Advice
from peruserd.core.users.security import Access, first, is_public
from peruserd.couch.client import Client
from peruserd.couch.copies import SingleLayout
from peruserd.listener.dropping import JournalMissingError
from peruserd.listener.outcome import Outcome
from peruserd.listener.store import StoreError
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
    one_copy,
    secure,
    set_copy,
)
from tests.proxies import Proxy, decoding, faithful


@pytest.fixture
def harness(cluster: SimClusterThread) -> ProvisionerHarness:
    """A provisioner at node 1, with the default settings, and a user who has signed up."""
    cluster.add_user(USER, "x")
    cluster.clear_requests()
    return ProvisionerHarness(connect(cluster.urls[0]))


# Ensure


def test_a_user_gets_a_database_of_their_own(cluster: SimClusterThread, harness: ProvisionerHarness) -> None:
    """Ensuring a user creates the database and names the user among its admins and members, in all copies."""
    outcome = harness.ensure()
    assert outcome == Outcome(acted_on=False, provisioned=True, created=True, security_written=True, whole=True)
    assert objects(cluster) == [SECURED] * 3


def test_what_stands_in_a_security_object_is_kept(cluster: SimClusterThread, harness: ProvisionerHarness) -> None:
    """An existing database keeps its other names, roles and unknown keys; the user is added."""
    found = {"admins": {"names": ["op"]}, "members": {"names": ["op"], "roles": ["x"]}, "proxy": {"a": [1]}}
    secure(harness.client, found)
    assert harness.ensure() == Outcome(acted_on=False, provisioned=True, security_written=True, whole=True)
    both = {"names": ["op", USER]}
    assert objects(cluster) == [{**found, "admins": both, "members": {**both, "roles": ["x"]}}] * 3


def test_a_user_who_is_a_member_by_the_configuration_is_no_admin(cluster: SimClusterThread) -> None:
    """With the grant `member` a new database takes the same two requests, and its user cannot change its security."""
    cluster.add_user(USER, "x")
    cluster.clear_requests()
    harness = ProvisionerHarness(connect(cluster.urls[0]), access=Access(Grant.MEMBER))
    assert harness.ensure().provisioned
    assert objects(cluster) == [first(USER, Access(Grant.MEMBER))] * 3
    assert sum(cluster.requests().values()) == 2
    cluster.clear_requests()
    assert harness.ensure().provisioned
    assert made(cluster, "PUT", "security") == 0


def test_other_rights_reach_a_database_that_is_there_by_a_rollout(
    cluster: SimClusterThread, harness: ProvisionerHarness
) -> None:
    """No row, scan or review changes the rights; the rollout removes the name from the admins of each copy."""
    assert harness.ensure().provisioned
    as_member = ProvisionerHarness(connect(cluster.urls[0]), access=Access(Grant.MEMBER))
    assert as_member.ensure().provisioned
    assert as_member.look(each_copy=True).provisioned
    assert as_member.review(deleted=True).provisioned
    assert objects(cluster) == [SECURED] * 3
    assert as_member.roll_out() == Outcome(acted_on=False, provisioned=True, security_written=True, whole=True)
    assert objects(cluster) == [first(USER, Access(Grant.MEMBER))] * 3


def test_a_right_database_is_not_written(cluster: SimClusterThread, harness: ProvisionerHarness) -> None:
    """Ensuring a user who has everything writes no security object and counts no creation."""
    harness.ensure()
    harness.doubts.clear()
    cluster.clear_requests()
    assert harness.ensure() == Outcome(acted_on=False, provisioned=True)
    assert made(cluster, "PUT", "security") == 0
    assert cluster.creations() == {}


def test_the_database_is_made_as_configured(cluster: SimClusterThread) -> None:
    """Prefix, shards and copies of a user's database are those of the configuration."""
    harness = ProvisionerHarness(connect(cluster.urls[0]), databases=DatabasesConfig(prefix="home/", q=2, n=1))
    assert harness.ensure().provisioned
    shard_map = harness.client.shard_map("_local", database_name("home/", USER))
    assert shard_map is not None
    assert [len(nodes) for nodes in shard_map.hosts.values()] == [1, 1]


def test_acts_are_noted_before_they_are_made(cluster: SimClusterThread) -> None:
    """The notes about a database and its security object are made before the requests go out."""
    noted: list[tuple[str, str, int, int]] = []

    def note(act: str) -> Callable[[str], None]:
        return lambda each: noted.append(
            (act, each, made(cluster, "PUT", "database"), made(cluster, "PUT", "security"))
        )

    harness = ProvisionerHarness(connect(cluster.urls[0]), before_create=note("create"), before_write=note("write"))
    harness.ensure()
    user = user_document_id(USER)
    assert noted == [("create", user, 0, 0), ("write", user, 1, 0)]
    assert harness.noted == set()


def test_a_state_that_cannot_be_written_leaves_no_database_without_a_user(cluster: SimClusterThread) -> None:
    """The note comes first, so nothing is made that nobody would secure."""

    def full(_document_id: str) -> None:
        raise StoreError("disk full")

    harness = ProvisionerHarness(connect(cluster.urls[0]), before_create=full)
    with pytest.raises(StoreError):
        harness.ensure()
    assert cluster.creations() == {}


@pytest.mark.parametrize("status", [412, 500], ids=["exists", "fails"])
def test_a_note_about_a_database_that_was_not_made_is_taken_back(cluster: SimClusterThread, status: int) -> None:
    """Otherwise each user whose database exists would be written again after each restart."""
    harness = ProvisionerHarness(connect(cluster.urls[0]))
    if status == 412:
        harness.ensure()
        cluster.add_user(USER, "x")
    else:
        cluster.fail(1, status, path_regex="/userdb-", method="PUT")
    outcome = harness.ensure()
    assert (outcome.failure is None) == (status == 412)
    assert harness.noted == harness.doubts == set()


def test_a_database_only_a_minority_made_is_incomplete(cluster: SimClusterThread) -> None:
    """A database that one of three nodes accepted is created again, and is complete once the others are back."""
    databases = DatabasesConfig(n=1)
    # The name is chosen so that the only copy is on node 1, and can be secured all the same.
    user = next(user for user in map(str, range(100)) if document_hash(database_name("userdb-", user)) % 3 == 0)
    harness = ProvisionerHarness(connect(cluster.urls[0]), databases=databases)
    cluster.add_user(user, "x")
    for node in (2, 3):
        cluster.stop_node(node)
    outcome = harness.ensure(user)
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.advice) == ("accepted_only", Advice.RETRY)
    assert (outcome.created, outcome.provisioned) == (True, False)
    for node in (2, 3):
        cluster.start_node(node)
    again = harness.ensure(user)
    assert (again.failure, again.provisioned, again.created) == (None, True, False)


def _cut_off(cluster: SimClusterThread) -> ProvisionerHarness:
    """A provisioner at node 1, which loses sight of the others each time it is about to write."""
    return ProvisionerHarness(connect(cluster.urls[0]), before_write=lambda _: cluster.partition([[1], [2, 3]]))


def test_a_write_without_a_majority_is_made_again_whatever_a_read_shows(cluster: SimClusterThread) -> None:
    """After a write that reached one copy of three, the next try writes though that copy is right; then all agree."""
    cluster.add_user(USER, "x")
    harness = _cut_off(cluster)
    harness.client.create_database(DATABASE, DatabasesConfig())
    # Before replication the other two copies cannot undo the write to the one copy.
    cluster.set_replication_delay(3600.0)
    outcome = harness.ensure()
    assert outcome.failure is not None
    assert outcome.failure.kind == "no_majority"
    assert not outcome.provisioned
    cluster.heal()
    assert sorted(objects(cluster), key=str) == sorted([SECURED, DEFAULT, DEFAULT], key=str)
    assert harness.client.security(DATABASE) == SECURED
    harness.announce = lambda _: None
    assert harness.ensure() == Outcome(acted_on=False, provisioned=True, security_written=True, whole=True)
    assert objects(cluster) == [SECURED] * 3
    cluster.replicate()
    assert objects(cluster) == [SECURED] * 3


@pytest.mark.parametrize(
    ("path", "outcome", "kind"),
    [
        pytest.param("^/userdb-[0-9a-f]+\\?", 500, "server_error", id="creation-500"),
        pytest.param("^/userdb-[0-9a-f]+\\?", "cut-after", "unreachable", id="creation-cut"),
        pytest.param("_security$", 503, "server_error", id="security-503"),
        pytest.param("_security$", 401, "unauthorized", id="security-401"),
    ],
)
def test_a_step_that_fails_is_a_failure_of_the_whole(
    cluster: SimClusterThread, harness: ProvisionerHarness, path: str, outcome: int | str, kind: str
) -> None:
    """The user is not provisioned whichever request goes wrong, the failure says why, and the next try completes it."""
    cluster.fail(1, outcome, path_regex=path)
    first = harness.ensure()
    assert first.failure is not None
    assert first.failure.kind == kind
    assert not first.provisioned
    cluster.clear_faults()
    assert harness.ensure().provisioned
    assert objects(cluster) == [SECURED] * 3


def test_a_node_that_is_down_is_a_failure_to_try_again(cluster: SimClusterThread, harness: ProvisionerHarness) -> None:
    """A server that cannot be reached is no reason to give a user up."""
    cluster.stop_node(1)
    outcome = harness.ensure()
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.advice) == ("unreachable", Advice.RETRY)


@pytest.mark.parametrize(
    "user",
    [
        pytest.param("x" * (max_name_bytes("userdb-") + 1), id="too-long"),
        pytest.param("é" * 60, id="too-long-in-bytes"),
        pytest.param("", id="empty"),
    ],
)
def test_an_impossible_name_is_given_up_without_a_request(
    cluster: SimClusterThread, harness: ProvisionerHarness, user: str
) -> None:
    """A user whose name allows no database fails for good without a request; deleting such a user needs no action."""
    outcome = harness.ensure(user)
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.advice) == ("unservable_name", Advice.GIVE_UP)
    assert harness.remove(user, really=False) == Outcome()
    assert cluster.requests() == {}


def test_the_longest_name_is_served(cluster: SimClusterThread, harness: ProvisionerHarness) -> None:
    """A name of exactly as many bytes as CouchDB can take has its database."""
    user = "x" * max_name_bytes("userdb-")
    assert harness.ensure(user).provisioned
    assert database_name("userdb-", user) in cluster.databases()


def test_what_is_no_user_document_is_left_alone(cluster: SimClusterThread) -> None:
    """A design document in the feed is nobody's."""
    harness = ProvisionerHarness(connect(cluster.urls[0]))
    assert harness.act(Change("_design/_auth", deleted=False, lane=Lane.LIVE, read_at=0.0)) == Outcome()
    assert cluster.requests() == {}


@pytest.mark.parametrize(
    "malformed",
    [{"admins": []}, {"members": {"names": "ann"}}, {"members": {"names": [1]}}, {"admins": {"roles": {"a": 1}}}],
    ids=["section", "names", "name", "roles"],
)
@pytest.mark.parametrize("deleted", [False, True], ids=["ensure", "revoke"])
def test_a_malformed_security_object_is_left_for_the_operator(
    malformed: dict[str, Any],
    deleted: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """An object with a shape that cannot be merged is not overwritten: a person has to look at it."""
    with TalkingServer(answering(one_copy(malformed, rev="2-b", deleted=deleted))) as server:
        harness = ProvisionerHarness(connect(server.url))
        outcome = harness.remove(really=False) if deleted else harness.ensure()
        assert outcome.failure is not None
        assert (outcome.failure.kind, outcome.failure.advice) == ("malformed_security", Advice.ASK_OPERATOR)
        assert ("PUT", f"/{DATABASE}/_security") not in [(each.method, each.path) for each in server.requests]


@pytest.mark.parametrize("found", [b"[]", b'"x"', b"<html>", b""], ids=["list", "text", "html", "nothing"])
def test_an_answer_that_is_no_security_object_is_a_failure(found: bytes) -> None:
    """A proxy that answers 200 with anything else does not bring the listener down."""
    with TalkingServer(answering(one_copy(found, rev="1-a"))) as server:
        outcome = ProvisionerHarness(connect(server.url)).ensure()
    assert outcome.failure is not None
    assert outcome.failure.kind == "unexpected_answer"


# Revoke and keep


def test_a_deleted_user_loses_access_and_the_database_stays(
    cluster: SimClusterThread, harness: ProvisionerHarness
) -> None:
    """Revoking removes the name from admins and members, in all copies, and deletes nothing."""
    harness.ensure()
    assert harness.remove() == Outcome(acted_on=True, revoked=True, security_written=True, whole=True)
    emptied = {"members": {"roles": ["_admin"], "names": []}, "admins": {"roles": ["_admin"], "names": []}}
    assert objects(cluster) == [emptied] * 3
    assert cluster.deletions() == {}


@pytest.mark.parametrize(
    "found",
    [
        {"members": {"names": [USER]}},
        {"members": {"names": [USER], "roles": []}, "admins": {"names": [USER]}},
        {},
        {"admins": {"names": ["op"]}, "members": {}},
    ],
    ids=["only-member", "only-member-and-admin", "public", "public-with-admin"],
)
def test_revoking_never_leaves_a_database_public(
    cluster: SimClusterThread, harness: ProvisionerHarness, found: dict[str, Any]
) -> None:
    """A deleted user's database is open only to the other named users, for any earlier security object."""
    secure(harness.client, found)
    assert harness.remove().failure is None
    for security in objects(cluster):
        assert not is_public(security)
        assert USER not in str(security)


def test_revoking_without_a_database_is_nothing_to_do(cluster: SimClusterThread, harness: ProvisionerHarness) -> None:
    """A deleted user who never had a database is no failure (it stops couch_peruser for good), and makes none."""
    assert harness.remove() == Outcome()
    assert cluster.databases() == ["_users"]


def test_revoking_again_writes_nothing(cluster: SimClusterThread, harness: ProvisionerHarness) -> None:
    """A deleted user whose access is gone already costs one read."""
    harness.ensure()
    harness.remove()
    harness.doubts.clear()
    cluster.clear_requests()
    assert harness.remove() == Outcome(acted_on=True)
    assert made(cluster, "PUT", "security") == 0


def test_a_revocation_without_a_majority_is_made_again(cluster: SimClusterThread, harness: ProvisionerHarness) -> None:
    """A revocation that reached one copy of three is written again though that copy is right, until all agree twice."""
    harness.ensure()
    cluster.set_replication_delay(3600.0)
    delete_user(harness.client)
    harness.announce = lambda _: cluster.partition([[1], [2, 3]])
    outcome = harness.remove()
    assert outcome.failure is not None
    assert outcome.failure.kind == "no_majority"
    assert not outcome.revoked
    cluster.heal()
    harness.announce = lambda _: None
    again = harness.remove()
    assert again.failure is not None
    assert again.failure.kind == "to_be_seen_again"
    found = objects(cluster)
    assert found == [found[0]] * 3
    assert USER not in str(found[0])
    assert harness.remove() == Outcome(acted_on=True, revoked=True, whole=True)


@pytest.mark.parametrize("is_there", [True, False], ids=["user-there", "user-deleted"])
def test_a_row_of_a_user_whom_the_journal_knows_is_not_believed(
    cluster: SimClusterThread, harness: ProvisionerHarness, *, is_there: bool
) -> None:
    """The database is gone, and anybody can cause a row under the user's id. So the document itself is asked."""
    if not is_there:
        delete_user(harness.client)
    harness.notes.known.add(user_document_id(USER))
    outcome = harness.ensure()
    assert outcome.failure is None
    assert outcome.created is is_there
    assert (DATABASE in cluster.databases()) is is_there


def test_a_revocation_that_the_servers_own_repair_undoes_is_made_again(
    cluster: SimClusterThread, harness: ProvisionerHarness
) -> None:
    """Two nodes return and restore the access by their majority; afterwards the user has no access all the same."""
    harness.ensure()
    delete_user(harness.client)
    cluster.set_replication_delay(3600.0)
    harness.announce = lambda _: cluster.partition([[1], [2, 3]])
    harness.remove()
    cluster.heal()
    cluster.replicate()
    assert USER in str(objects(cluster))
    harness.announce = lambda _: None
    while (outcome := harness.remove()).failure is not None:
        assert outcome.failure.kind == "to_be_seen_again"
    assert USER not in str(objects(cluster))


def test_keep_does_nothing(cluster: SimClusterThread) -> None:
    """With the policy `keep`, a deletion costs no request."""
    harness = ProvisionerHarness(connect(cluster.urls[0]), policy=DeletionPolicy.KEEP)
    assert harness.remove(really=False) == Outcome()
    assert cluster.requests() == {}


# Drop


@pytest.fixture
def dropping(cluster: SimClusterThread) -> ProvisionerHarness:
    """A provisioner at node 1 that drops databases, one user having theirs."""
    harness = ProvisionerHarness(connect(cluster.urls[0]), policy=DeletionPolicy.DROP)
    cluster.add_user(USER, "x")
    harness.ensure()
    return harness


def tombstone(harness: ProvisionerHarness, user: str = USER) -> str | None:
    """Return the revision of a user document as its copies have it."""
    return harness._provisioner.confirm(user_document_id(user)).rev


@pytest.mark.parametrize("lane", [Lane.LIVE, Lane.SCAN, Lane.RETRY])
def test_drop_takes_access_away_and_notes_the_deletion(
    cluster: SimClusterThread, dropping: ProvisionerHarness, lane: Lane
) -> None:
    """The user loses access at once, and the database is dropped when it is due, for any source of the tombstone."""
    assert dropping.remove(lane=lane).revoked
    assert dropping.notes.noted == [(user_document_id(USER), DATABASE, tombstone(dropping), None)]
    assert not any(USER in str(each) for each in objects(cluster))
    assert cluster.deletions() == {}


def test_the_place_of_the_row_is_noted(dropping: ProvisionerHarness) -> None:
    """The journal says at which sequence the tombstone was met."""
    delete_user(dropping.client)
    dropping.act(Change(user_document_id(USER), deleted=True, lane=Lane.LIVE, read_at=0.0, sequence=77))
    assert dropping.notes.noted[0][3] == 77


@pytest.mark.parametrize("user", [USER, "nobody"], ids=["alive", "never-was"])
def test_drop_believes_the_document_and_not_the_feed(
    cluster: SimClusterThread, dropping: ProvisionerHarness, user: str
) -> None:
    """A user document that is there, or never was, is no reason to delete a database."""
    dropping.ensure(user)
    dropping.remove(user, really=False)
    assert dropping.notes.noted == []
    assert database_name("userdb-", user) in cluster.databases()


def test_drop_asks_all_copies_of_the_document(cluster: SimClusterThread, dropping: ProvisionerHarness) -> None:
    """A tombstone on this node's copy deletes nothing while another copy has the user signed up again."""
    cluster.set_replication_delay(3600.0)
    delete_user(dropping.client)
    body = {"name": USER, "type": "user", "roles": [], "password": "y"}
    elsewhere = connect(cluster.urls[1])
    elsewhere.session.request("PUT", f"/_users/{user_document_id(USER)}", body=body).expect(201)
    dropping.remove(really=False)
    assert dropping.notes.noted == []


@pytest.mark.parametrize("groups", [[[1], [2, 3]], [[1], [2], [3]]])
def test_nothing_is_noted_by_a_minority(
    cluster: SimClusterThread, dropping: ProvisionerHarness, groups: list[list[int]]
) -> None:
    """A node cut off from most others confirms nothing, and tries again later."""
    delete_user(dropping.client)
    cluster.partition(groups)
    outcome = dropping.remove(really=False)
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.advice) == ("unconfirmed", Advice.RETRY)
    assert dropping.notes.noted == []
    cluster.heal()
    dropping.remove(really=False)
    assert len(dropping.notes.noted) == 1


def test_a_copy_that_is_away_keeps_no_deletion_from_being_noted(
    cluster: SimClusterThread, dropping: ProvisionerHarness
) -> None:
    """The revocation waits for a host that is lost for good, but the drop does not."""
    delete_user(dropping.client)
    cluster.stop_node(3)
    outcome = dropping.remove(really=False)
    assert outcome.failure is not None
    assert outcome.failure.kind == "copies_away"
    assert len(dropping.notes.noted) == 1


def test_a_deletion_that_cannot_be_noted_is_tried_again(
    cluster: SimClusterThread, dropping: ProvisionerHarness
) -> None:
    """Access is gone although the journal is away, and the user goes to quarantine until it is noted."""
    dropping.notes.failing = JournalMissingError("it is away")
    outcome = dropping.remove()
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.advice) == ("journal_missing", Advice.RETRY)
    assert not any(USER in str(each) for each in objects(cluster))
    dropping.notes.failing = None
    assert dropping.remove(lane=Lane.RETRY).failure is None
    assert len(dropping.notes.noted) == 1


@pytest.mark.parametrize("policy", [DeletionPolicy.REVOKE, DeletionPolicy.KEEP])
def test_other_policies_note_nothing(cluster: SimClusterThread, policy: DeletionPolicy) -> None:
    """Only databases to be dropped are in the journal."""
    harness = ProvisionerHarness(connect(cluster.urls[0]), policy=policy)
    cluster.add_user(USER, "x")
    harness.ensure()
    harness.remove()
    assert harness.notes.noted == []


# Users who come back

FREED: dict[str, Any] = {"admins": {"names": [], "roles": ["_admin"]}, "members": {"names": [], "roles": ["_admin"]}}


@pytest.fixture
def holding(cluster: SimClusterThread) -> ProvisionerHarness:
    """A provisioner that keeps freed databases closed."""
    cluster.add_user(USER, "x")
    return ProvisionerHarness(connect(cluster.urls[0]), on_return=OnReturn.HOLD)


def test_by_default_a_user_who_comes_back_gets_the_database_that_is_there(cluster: SimClusterThread) -> None:
    """With `reopen` the data is there again, as with couch_peruser."""
    cluster.add_user(USER, "x")
    harness = ProvisionerHarness(connect(cluster.urls[0]))
    secure(harness.client, FREED)
    assert harness.ensure().provisioned
    assert harness.notes.asked == []


@pytest.mark.parametrize("freed", [FREED, {"admins": {"names": ["op"]}, "members": {"names": ["op"]}}])
def test_a_freed_name_waits_for_the_operator(
    cluster: SimClusterThread, holding: ProvisionerHarness, freed: dict[str, Any]
) -> None:
    """An existing database that does not name the user stays closed, however it was freed and however long ago."""
    secure(holding.client, freed)
    outcome = holding.ensure()
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.advice) == ("held", Advice.ASK_OPERATOR)
    assert objects(cluster) == [freed] * 3
    assert holding.notes.served_users == []
    holding.notes.admitting = True
    assert holding.ensure().provisioned
    assert all(USER in each["members"]["names"] for each in objects(cluster))
    assert holding.notes.served_users == [user_document_id(USER)]


def test_a_review_opens_no_freed_database_either(cluster: SimClusterThread, holding: ProvisionerHarness) -> None:
    """The operator is asked, whatever the reason to look."""
    secure(holding.client, FREED)
    outcome = holding.review(deleted=True)
    assert outcome.failure is not None
    assert outcome.failure.kind == "held"
    assert objects(cluster) == [FREED] * 3


@pytest.mark.parametrize("security", [DEFAULT, {}])
def test_a_database_that_was_just_made_is_nobodys_freed_one(
    holding: ProvisionerHarness, security: dict[str, Any]
) -> None:
    """A security object that is blank in every copy belongs to a new database that was not secured yet."""
    secure(holding.client, security)
    assert holding.ensure().provisioned
    assert holding.notes.asked == []


def test_a_new_user_is_not_asked_about(holding: ProvisionerHarness) -> None:
    """A user without a database gets one, with the requests that it always took."""
    assert holding.ensure().created
    assert holding.notes.asked == []


def test_a_grant_that_was_cut_off_is_completed_on_the_operators_word(holding: ProvisionerHarness) -> None:
    """One copy names the user, because it was away when the name was freed. The operator's order decides."""
    holding.ensure()
    set_copy(holding.client, 1, FREED)
    set_copy(holding.client, 2, FREED)
    holding.doubts.add(user_document_id(USER))
    holding.notes.admitting = True
    assert holding.ensure().provisioned
    assert holding.notes.asked == [user_document_id(USER)]


@pytest.mark.parametrize("node", [0, 1, 2])
def test_a_copy_that_was_away_when_the_name_was_freed_lets_nobody_in(
    cluster: SimClusterThread, holding: ProvisionerHarness, node: int
) -> None:
    """This holds for each of the copies, even without a known doubt."""
    secure(holding.client, FREED)
    set_copy(holding.client, node, first(USER))
    outcome = holding.ensure()
    assert outcome.failure is not None
    assert outcome.failure.kind == "held"
    assert objects(cluster) == [FREED] * 3


def test_an_error_nobody_foresaw_is_the_users_and_not_the_processs(
    harness: ProvisionerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault met while one user is served goes to quarantine with that user, instead of ending the listener."""

    def fail(*_arguments: object) -> None:
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(Client, "put_security", fail)
    outcome = harness.ensure()
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.advice) == ("unforeseen", Advice.ASK_OPERATOR)
    assert "nobody foresaw this" in outcome.failure.message


def test_a_state_that_cannot_be_written_is_not_the_users(cluster: SimClusterThread) -> None:
    """Without a state there is no quarantine either, so the listener must end."""

    def full(_document_id: str) -> None:
        raise StoreError("disk full")

    with pytest.raises(StoreError):
        ProvisionerHarness(connect(cluster.urls[0]), before_write=full).ensure()


def test_a_revocation_is_not_over_where_a_proxy_hides_the_database(cluster: SimClusterThread) -> None:
    """A decoded slash makes the path another database's, and CouchDB answers that it does not exist."""
    with Proxy(cluster.urls[0], faithful) as proxy:
        client = connect(proxy.url)
        layout = SingleLayout(client, "server", "_users")
        harness = ProvisionerHarness(client, databases=DatabasesConfig(prefix="user/db-"), layout=layout)
        cluster.add_user(USER, "x")
        assert harness.ensure().failure is None
        delete_user(connect(cluster.urls[0]))
        proxy.rewriting = decoding
        outcome = harness.remove(really=False)
        assert outcome.failure is not None
        proxy.rewriting = faithful
        assert harness.remove(really=False, lane=Lane.RETRY).revoked
