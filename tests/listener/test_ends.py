"""The journal knows which ends of databases are no loss, life by life."""

from pathlib import Path

import pytest

from peruserd.core.common.names import database_name
from peruserd.core.deletions.journal import Ending, State
from peruserd.couch.errors import NotFoundError
from peruserd.couch.lives import ended_life
from peruserd.listener.dropping import JournalMissingError
from peruserd.simcluster import SimClusterThread
from tests.couch.connecting import connect
from tests.listener.test_deletions import Clock, Desk, deleted_user, make_database

ANN = database_name("userdb-", "ann")


@pytest.fixture
def clock(cluster: SimClusterThread) -> Clock:
    """The time."""
    return Clock(cluster)


@pytest.fixture
def desk(cluster: SimClusterThread, clock: Clock, tmp_path: Path) -> Desk:
    """The deletions of the instance beside node 1, with peruserd's own database."""
    connect(cluster.urls[0]).session.request("PUT", "/peruserd", params={"q": "1"}).expect(201)
    return Desk(cluster, clock, tmp_path / "one.sqlite", notes_ends=True)


def dropped(cluster: SimClusterThread, desk: Desk) -> str:
    """Let the user's database be dropped; return its life."""
    deleted_user(cluster, desk)
    desk.deletions.round()
    assert desk.endings("ann") == [Ending.DROPPED]
    return str(ended_life(desk.client, ANN))


def test_a_life_that_was_dropped_is_known_and_a_later_one_is_not(cluster: SimClusterThread, desk: Desk) -> None:
    """Somebody makes the database by hand after that, and deletes it."""
    assert desk.deletions.knows_end(ANN, dropped(cluster, desk))
    make_database(desk.client, "ann")
    desk.client.delete_database(ANN)
    assert not desk.deletions.knows_end(ANN, str(ended_life(desk.client, ANN)))


def test_a_drop_that_was_begun_is_known(cluster: SimClusterThread, desk: Desk) -> None:
    """The process ended just after the drop; a user who signs up at that moment is no user without a database."""
    life = dropped(cluster, desk)
    (entry,) = desk.entries("ann")
    begun = entry.waiting().begun(entry.noted_at)
    desk.journal.change(entry.id, lambda _: begun)
    assert desk.entries("ann")[0].state is State.DROPPING
    assert desk.deletions.knows_end(ANN, life)


def test_an_end_outlives_the_entry_that_told_of_it(cluster: SimClusterThread, clock: Clock, desk: Desk) -> None:
    """Entries are removed after a month, and users come back later than that."""
    life = dropped(cluster, desk)
    clock.advance(31 * 86_400)
    desk.deletions.owners_changed()
    desk.deletions.round()
    assert desk.entries("ann") == []
    assert desk.deletions.knows_end(ANN, life)


def test_where_nobody_asks_no_end_is_kept(cluster: SimClusterThread, clock: Clock, desk: Desk, tmp_path: Path) -> None:
    """With `when_deleted = "remake"` the journal keeps nothing for good."""
    dropped(cluster, desk)
    clock.advance(31 * 86_400)
    other = Desk(cluster, clock, tmp_path / "two.sqlite")
    other.deletions.round()
    assert (desk.entries("ann"), desk.journal.end(ANN)) == ([], None)


def test_an_older_end_takes_the_place_of_no_newer_one(desk: Desk) -> None:
    """An entry that is removed late tells of a life before the last one."""
    for life in (".20", ".10", ".20"):
        desk.deletions.note_end(ANN, life)
    assert [desk.deletions.knows_end(ANN, each) for each in (".10", ".20", ".30")] == [False, True, False]


def test_without_a_journal_nothing_is_known_and_nothing_is_lost(cluster: SimClusterThread, desk: Desk) -> None:
    """The database of the journal is not there: an end that cannot be noted is tried again."""
    desk.client.delete_database("peruserd")
    assert not desk.deletions.knows_end(ANN, ".1")
    with pytest.raises(JournalMissingError):
        desk.deletions.note_end(ANN, ".1")
    with pytest.raises(NotFoundError):
        desk.journal.end(ANN)
    assert "peruserd" not in cluster.databases()
