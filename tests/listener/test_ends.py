"""The journal knows for each life of a database whether its end was a loss."""

from pathlib import Path

import pytest

from peruserd.core.common.names import database_name
from peruserd.core.deletions.journal import Ending, State
from peruserd.couch.errors import NotFoundError
from peruserd.couch.lives import ended_life
from peruserd.listener.dropping import JournalMissingError
from peruserd.simcluster import SimClusterThread
from tests.couch.connecting import connect
from tests.listener.deletions_harness import Clock, DeletionsHarness, deleted_user, make_database

ANN = database_name("userdb-", "ann")


@pytest.fixture
def clock(cluster: SimClusterThread) -> Clock:
    """The time."""
    return Clock(cluster)


@pytest.fixture
def harness(cluster: SimClusterThread, clock: Clock, tmp_path: Path) -> DeletionsHarness:
    """The deletions of the instance beside node 1, with peruserd's own database."""
    connect(cluster.urls[0]).session.request("PUT", "/peruserd", params={"q": "1"}).expect(201)
    return DeletionsHarness(cluster, clock, tmp_path / "one.sqlite", notes_ends=True)


def dropped(cluster: SimClusterThread, harness: DeletionsHarness) -> str:
    """Let the user's database be dropped; return its life."""
    deleted_user(cluster, harness)
    harness.deletions.round()
    assert harness.endings("ann") == [Ending.DROPPED]
    return str(ended_life(harness.client, ANN))


def test_a_life_that_was_dropped_is_known_and_a_later_one_is_not(
    cluster: SimClusterThread, harness: DeletionsHarness
) -> None:
    """Somebody makes the database by hand after that, and deletes it."""
    assert harness.deletions.knows_end(ANN, dropped(cluster, harness))
    make_database(harness.client, "ann")
    harness.client.delete_database(ANN)
    assert not harness.deletions.knows_end(ANN, str(ended_life(harness.client, ANN)))


def test_a_drop_that_was_begun_is_known(cluster: SimClusterThread, harness: DeletionsHarness) -> None:
    """The process ends just after the drop. A user who signs up at that moment has lost no database."""
    life = dropped(cluster, harness)
    (entry,) = harness.entries("ann")
    begun = entry.waiting().begun(entry.noted_at)
    harness.journal.change(entry.id, lambda _: begun)
    assert harness.entries("ann")[0].state is State.DROPPING
    assert harness.deletions.knows_end(ANN, life)


def test_an_end_outlives_the_entry_that_told_of_it(
    cluster: SimClusterThread, clock: Clock, harness: DeletionsHarness
) -> None:
    """Entries are removed after a month, but users can come back later."""
    life = dropped(cluster, harness)
    clock.advance(31 * 86_400)
    harness.deletions.owners_changed()
    harness.deletions.round()
    assert harness.entries("ann") == []
    assert harness.deletions.knows_end(ANN, life)


def test_where_nobody_asks_no_end_is_kept(
    cluster: SimClusterThread, clock: Clock, harness: DeletionsHarness, tmp_path: Path
) -> None:
    """With `when_deleted = "remake"` the journal keeps nothing for good."""
    dropped(cluster, harness)
    clock.advance(31 * 86_400)
    other = DeletionsHarness(cluster, clock, tmp_path / "two.sqlite")
    other.deletions.round()
    assert (harness.entries("ann"), harness.journal.end(ANN)) == ([], None)


def test_an_older_end_takes_the_place_of_no_newer_one(harness: DeletionsHarness) -> None:
    """A late removed entry belongs to an earlier life than the last one."""
    for life in (".20", ".10", ".20"):
        harness.deletions.note_end(ANN, life)
    assert [harness.deletions.knows_end(ANN, each) for each in (".10", ".20", ".30")] == [False, True, False]


def test_without_a_journal_nothing_is_known_and_nothing_is_lost(
    cluster: SimClusterThread, harness: DeletionsHarness
) -> None:
    """The database of the journal is missing: an end that cannot be noted is tried again."""
    harness.client.delete_database("peruserd")
    assert not harness.deletions.knows_end(ANN, ".1")
    with pytest.raises(JournalMissingError):
        harness.deletions.note_end(ANN, ".1")
    with pytest.raises(NotFoundError):
        harness.journal.end(ANN)
    assert "peruserd" not in cluster.databases()
