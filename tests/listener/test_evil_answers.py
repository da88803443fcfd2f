"""The answers that users can provoke by their own databases and documents, and the harm of twenty such users."""

from typing import Final

import pytest

from peruserd.core.cluster.views import Copy
from peruserd.couch.probe import Probe, open_probe
from peruserd.listener.outcome import Outcome
from peruserd.simcluster import SimClusterThread
from tests.couch.connecting import connect, make_lease_database
from tests.listener.ownerships import DONE
from tests.listener.provisioner_harness import DATABASE, USER, ProvisionerHarness
from tests.listener.stepped_tracker import AWAY, WHY, SteppedTracker

ENEMIES: Final = [f"enemy{number:02}" for number in range(20)]

# - Code in a user's own database: validation functions throw anything, hang, or break their process.
# - Size: security objects, documents and headers that are too large.
# - The answers that a proxy makes of any of these.
STATUSES: Final = [400, 401, 403, 404, 405, 409, 412, 413, 415, 417, 429, 431, 500, 501, 502, 503, 504, 507]


@pytest.fixture
def probe(cluster: SimClusterThread) -> Probe:
    """The probe of a listener, in a cluster with peruserd's own database."""
    client = connect(cluster.urls[0])
    make_lease_database(client)
    shard_map = client.shard_map("_local", "_users")
    assert shard_map is not None
    covered, nodes = next(iter(shard_map.hosts.items()))
    return open_probe(client, "peruserd", Copy("_users", covered, nodes[0], shard_map.suffix))


def work(stepped: SteppedTracker, evil: Outcome, honest: Outcome = DONE, most: int = 100) -> list[str]:
    """Do the available work, up to a bound; return the users besides the enemies who were served or tried."""
    others = []
    for _ in range(most):
        if (change := stepped.take()) is None:
            break
        user = change.document_id.removeprefix("org.couchdb.user:")
        if user not in ENEMIES:
            others.append(user)
        elif most < 100:
            # His document changes again while his database is looked at.
            stepped.sign_up(user)
        stepped.tracker.give_back(change, evil if user in ENEMIES else honest)
    return others


def assert_harmless(stepped: SteppedTracker, evil: Outcome, probe: Probe) -> None:
    """Check that enemies with this outcome neither begin nor prolong a hold, while others are served."""
    assert evil.failure is not None
    for number in range(6):
        stepped.sign_up(*ENEMIES, f"u{number}")
        assert work(stepped, evil) == [f"u{number}"]
        stepped.probe(probe.ask(), after=1.1)
        stepped.tracker.queue_due()
    assert (stepped.tracker.report().counters.holds, stepped.kept) == (0, ENEMIES)
    # Now the cluster really fails, for everybody.
    stepped.sign_up("ann")
    stepped.serve(AWAY)
    stepped.probe(WHY)
    stepped.sign_up(*ENEMIES, "bob", "cid")
    for _ in range(4):
        stepped.probe(WHY, after=6.0)
        work(stepped, evil, AWAY, most=10)
    assert stepped.tracker.report().on_hold == WHY
    stepped.probe(probe.ask())
    assert stepped.tracker.report().on_hold is None
    assert set(work(stepped, evil)) == {"ann", "bob", "cid"}


@pytest.mark.parametrize("status", STATUSES)
def test_no_status_that_a_users_own_database_answers_holds_up_others(
    cluster: SimClusterThread, stepped: SteppedTracker, probe: Probe, status: int
) -> None:
    """Each path of the database gives this answer, at every node and in each of its copies."""
    cluster.add_user(USER, "x")
    client = connect(cluster.urls[0])
    for node in (1, 2, 3):
        cluster.fail(node, status, path_regex=DATABASE)
    assert_harmless(stepped, ProvisionerHarness(client).ensure(), probe)


def test_no_database_that_hangs_holds_up_others(
    cluster: SimClusterThread, stepped: SteppedTracker, probe: Probe
) -> None:
    """A validation function that never ends is a time-out."""
    cluster.add_user(USER, "x")
    for node in (1, 2, 3):
        cluster.set_delay(node, 1.0, path_regex=DATABASE)
    outcome = ProvisionerHarness(connect(cluster.urls[0], read_timeout=0.2)).ensure()
    assert outcome.failure is not None
    assert outcome.failure.kind == "timeout"
    assert_harmless(stepped, outcome, probe)
