"""The journal's entries that a listener keeps in memory."""

import msgspec
import pytest

from peruserd.core.deletions.drop import Reason, Wait
from peruserd.core.deletions.journal import Entry, Kind, Pause, Saying, Word
from peruserd.listener.pending import Pending

NOW = 1000.0
ENTRY = Entry("org.couchdb.user:ann", "userdb-616e6e", ".1", "2-b", noted_at=NOW, due_at=NOW + 600.0)


def test_a_word_said_while_the_journal_was_read_is_not_forgotten() -> None:
    """The reading began before the word and shows none; the entry is looked at all the same."""
    pending = Pending([ENTRY])
    pending.spoken_of(frozenset({ENTRY.id}))
    pending.replace([ENTRY], {})
    (item,) = pending.due(NOW)
    assert item.forbidden(Pause(), NOW) is None


def test_a_word_that_the_journal_shows_takes_effect() -> None:
    """An order from before the listener's start came without news, and is found by reading."""
    pending = Pending([ENTRY])
    (item,) = pending.due(NOW)
    assert item.forbidden(Pause(), NOW) is not None
    pending.replace([ENTRY], {ENTRY.id: Saying(Word.DROP_NOW)})
    (item,) = pending.due(NOW)
    assert item.forbidden(Pause(), NOW) is None


def test_a_clock_that_is_set_back_keeps_nothing_waiting() -> None:
    """It was years ahead when the entries were postponed by some minutes."""
    pending = Pending([ENTRY])
    (item,) = pending.due(NOW + 1e9)
    pending.postpone(item, item.turn, Wait(Reason.HOSTS_AWAY), NOW + 1e9)
    assert pending.due(NOW) == [item]
    pending.postpone(item, item.turn, Wait(Reason.HELD), NOW)
    assert pending.due(NOW + 1.0) == []


@pytest.mark.parametrize(("kind", "seconds"), [(Kind.DELETION, 600.0), (Kind.RETURN, 6 * 3_600.0)])
def test_users_who_came_back_and_wait_for_a_word_cost_few_looks(kind: Kind, seconds: float) -> None:
    """A look at an entry takes a dozen requests, anybody can sign up under freed names, and orders arrive at once."""
    pending = Pending([msgspec.structs.replace(ENTRY, kind=kind)])
    (item,) = pending.due(NOW)
    pending.postpone(item, item.turn, Wait(Reason.HELD), NOW)
    assert pending.next_look() == NOW + seconds
    pending.spoken_of(frozenset({item.entry.id}))
    assert pending.due(NOW) == [item]
