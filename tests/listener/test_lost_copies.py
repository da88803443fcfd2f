"""Databases whose shard map names copies that have no file, as the nodes themselves say.

That can happen when somebody deletes a database and makes it again within one second. CouchDB removes the old files
late, and the new files have the same names. CouchDB makes them again only when a clustered request needs them.
"""

from typing import Any

import pytest
from structlog.testing import capture_logs

from peruserd.core.common.names import user_document_id
from peruserd.core.feed.changes import make_look
from peruserd.core.feed.lanes import Lane
from peruserd.listener.outcome import Outcome
from peruserd.simcluster import SimClusterThread
from tests.couch.connecting import connect
from tests.listener.provisioner_harness import DATABASE, SECURED, USER, ProvisionerHarness, delete_user, objects
from tests.proxies import Proxy, decoding, faithful

PARTNERS: dict[str, Any] = {"members": {"names": ["bob", USER]}, "admins": {"names": [USER], "roles": ["_admin"]}}


@pytest.fixture
def harness(cluster: SimClusterThread) -> ProvisionerHarness:
    """A provisioner at node 1, and a user who is served, whose database has a document."""
    cluster.add_user(USER, "x")
    harness = ProvisionerHarness(connect(cluster.urls[0]))
    assert harness.ensure().failure is None
    harness.client.put_security(DATABASE, PARTNERS)
    harness.client.session.request("PUT", f"/{DATABASE}/diary", body={"today": "rain"}).expect(201)
    return harness


def look(harness: ProvisionerHarness) -> Outcome:
    """Look at the user, as for a database that somebody else has made again."""
    return harness.act(make_look(user_document_id(USER), Lane.OTHERS, 0.0))


def lose(cluster: SimClusterThread, *nodes: int) -> None:
    """Remove the files of the copies on these nodes."""
    for number in nodes:
        cluster.lose_copy(number, DATABASE)


def diaries(cluster: SimClusterThread) -> list[int]:
    """Return how many documents each copy has."""
    cluster.replicate()
    return [len(each["revs"]) for copies in cluster.snapshot_copies(DATABASE).values() for each in copies.values()]


@pytest.mark.parametrize("nodes", [(2, 3), (1, 2), (3,), (1,)])
def test_copies_that_are_lost_come_again_with_all_that_the_others_hold(
    cluster: SimClusterThread, harness: ProvisionerHarness, nodes: tuple[int, ...]
) -> None:
    """The first look makes them, gives them the security object of the others, and lets CouchDB bring documents."""
    lose(cluster, *nodes)
    with capture_logs() as lines:
        assert look(harness) == Outcome(acted_on=False, provisioned=True, security_written=True, whole=True)
    assert [each["nodes"] for each in lines if "had no file" in each["event"]] == [
        tuple(f"node{number}@127.0.0.1" for number in nodes)
    ]
    assert diaries(cluster) == [1, 1, 1]
    assert objects(cluster) == [PARTNERS] * 3


def test_a_database_that_has_lost_all_copies_is_served_as_a_new_one(
    cluster: SimClusterThread, harness: ProvisionerHarness
) -> None:
    """Its contents are lost for good, but its user can write again."""
    lose(cluster, 1, 2, 3)
    assert look(harness).failure is None
    assert objects(cluster) == [SECURED] * 3


def test_a_deleted_user_is_in_no_copy_that_comes_again(cluster: SimClusterThread, harness: ProvisionerHarness) -> None:
    """The remaining copy names the user. It is corrected although there is no majority."""
    delete_user(harness.client)
    lose(cluster, 2, 3)
    assert harness.remove(really=False).failure is None
    assert len(objects(cluster)) == 3
    assert USER not in str(objects(cluster))


def test_copies_come_again_where_nobody_can_let_them_replicate(
    cluster: SimClusterThread, harness: ProvisionerHarness
) -> None:
    """The path can be closed. Documents come with the next write then, and the user is served now."""
    lose(cluster, 2, 3)
    cluster.fail(1, 403, path_regex="_sync_shards")
    with capture_logs() as lines:
        assert look(harness).failure is None
    assert any("once somebody writes" in each["event"] for each in lines)
    assert objects(cluster) == [PARTNERS] * 3
    harness.client.session.request("PUT", f"/{DATABASE}/more", body={}).expect(201)


@pytest.mark.usefixtures("harness")
def test_nothing_is_written_where_a_proxy_makes_all_copies_look_lost(cluster: SimClusterThread) -> None:
    """A decoded slash changes the path, and each node then says that the copy has no file."""
    with Proxy(cluster.urls[0], faithful) as proxy:
        behind = ProvisionerHarness(connect(proxy.url))
        proxy.rewriting = lambda path: decoding(path) if DATABASE in path else path
        outcome = look(behind)
    assert outcome.failure is not None
    assert outcome.failure.kind == "copies_away"
    assert objects(cluster) == [PARTNERS] * 3
