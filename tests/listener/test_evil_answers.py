"""The answers that users can provoke by their own databases and documents, and what twenty such users can do."""

from typing import Final

import pytest

from peruserd.core.cluster.views import Copy
from peruserd.couch.probe import Probe, open_probe
from peruserd.listener.outcome import Outcome
from peruserd.simcluster import SimClusterThread
from tests.couch.connecting import connect, make_lease_database
from tests.listener.office import DATABASE, USER, Office
from tests.listener.set_books import AWAY, DONE, WHY, Books

ENEMIES: Final = [f"enemy{number:02}" for number in range(20)]

# By code in a database that is the user's own: validation functions throw what they like, hang, or break their process.
# By size: security objects, documents and headers that are too large. And what a proxy makes of any of these.
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


def work(books: Books, evil: Outcome, honest: Outcome = DONE, most: int = 100) -> list[str]:
    """Do what there is to do, up to a bound; return who was served, or tried, besides the enemies."""
    others = []
    for _ in range(most):
        if (change := books.take()) is None:
            break
        user = change.document_id.removeprefix("org.couchdb.user:")
        if user not in ENEMIES:
            others.append(user)
        elif most < 100:
            # His document changes again while his database is looked at.
            books.sign_up(user)
        books.tracker.give_back(change, evil if user in ENEMIES else honest)
    return others


def assert_harmless(books: Books, evil: Outcome, probe: Probe) -> None:
    """See that enemies whose work ends so neither begin a hold nor keep one up, while others are served."""
    assert evil.failure is not None
    for number in range(6):
        books.sign_up(*ENEMIES, f"u{number}")
        assert work(books, evil) == [f"u{number}"]
        books.probe(probe.ask(), after=1.1)
        books.tracker.retry_due()
    assert (books.tracker.report().counters.holds, books.kept) == (0, ENEMIES)
    # The cluster does fail now, and for everybody.
    books.sign_up("ann")
    books.serve(AWAY)
    books.probe(WHY)
    books.sign_up(*ENEMIES, "bob", "cid")
    for _ in range(4):
        books.probe(WHY, after=6.0)
        work(books, evil, AWAY, most=10)
    assert books.tracker.report().on_hold == WHY
    books.probe(probe.ask())
    assert books.tracker.report().on_hold is None
    assert set(work(books, evil)) == {"ann", "bob", "cid"}


@pytest.mark.parametrize("status", STATUSES)
def test_no_status_that_a_users_own_database_answers_holds_up_others(
    cluster: SimClusterThread, books: Books, probe: Probe, status: int
) -> None:
    """Each path of the database answers so, at every node, and in each of its copies."""
    cluster.add_user(USER, "x")
    client = connect(cluster.urls[0])
    for node in (1, 2, 3):
        cluster.fail(node, status, path_regex=DATABASE)
    assert_harmless(books, Office(client).ensure(), probe)


def test_no_database_that_hangs_holds_up_others(cluster: SimClusterThread, books: Books, probe: Probe) -> None:
    """A validation function that never ends is a time-out."""
    cluster.add_user(USER, "x")
    for node in (1, 2, 3):
        cluster.set_delay(node, 1.0, path_regex=DATABASE)
    outcome = Office(connect(cluster.urls[0], read_timeout=0.2)).ensure()
    assert outcome.failure is not None
    assert outcome.failure.kind == "timeout"
    assert_harmless(books, outcome, probe)
