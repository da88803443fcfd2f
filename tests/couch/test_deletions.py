"""The journal of deletions, on a simulated cluster."""

from collections.abc import Iterator

import pytest

from peruserd.core.deletions.journal import Ending, Entry, PauseReason, Saying, Word, as_document
from peruserd.couch import deletions as module
from peruserd.couch.deletions import DeletionJournal
from peruserd.couch.journal import Journal
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.couch.connecting import connect, session_to


@pytest.fixture
def journal() -> Iterator[DeletionJournal]:
    """The journal of one node."""
    with SimClusterThread(ClusterOptions(nodes=1)) as running:
        connect(running.urls[0]).session.request("PUT", "/peruserd", params={"q": "1"}).expect(201)
        yield DeletionJournal(Journal(session_to(running.urls[0]), "peruserd"))


def entry(number: int) -> Entry:
    """Return an entry of one of many databases."""
    return Entry("org.couchdb.user:x", f"userdb-{number:06x}", ".1", "2-" + "a" * 32, noted_at=1.0, due_at=2.0)


def say(journal: DeletionJournal, number: int, saying: Saying) -> None:
    """Write a word for one of those entries, whatever was said before."""
    journal.say(entry(number).id, lambda _: saying)


def test_every_word_of_a_distrusted_journal_becomes_a_hold(journal: DeletionJournal) -> None:
    """No entry or word has an effect any more. Ended entries stay, because they can protect a database."""
    words = list(Word)
    for number, word in enumerate(words):
        say(journal, number, Saying(word, resumed=True))
    cancelled = journal.note(entry(0)).ended(Ending.CANCELLED, 3.0)
    journal.change(cancelled.id, lambda _: cancelled)
    journal.distrust(7.0)
    assert (journal.pause().why, journal.pause().paused, journal.pause().at) == (PauseReason.EXPOSED, True, 7.0)
    sayings = journal.sayings().values()
    assert [(each.word, each.resumed) for each in sayings] == [(Word.HOLD, False)] * len(words)
    assert journal.entry(cancelled.id) == cancelled


def test_all_counts_of_drops_that_are_old_are_forgotten(
    journal: DeletionJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All old counts are removed, and no current one. Otherwise more would pile up every hour."""
    monkeypatch.setattr(module, "_MAX_PURGED", 3)
    for number in range(8):
        begun = entry(number).begun(1_000.0 + number)
        assert begun.reservation is not None
        journal.reserve(begun.reservation, begun)
    assert journal.forget_drops(1_007.0) == 7
    assert journal.count_drops(0.0, 2_000.0, 100) == 1


def test_entries_are_read_over_many_pages(journal: DeletionJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each entry comes once, in the order of the ids."""
    monkeypatch.setattr(module, "PAGE_ROWS", 2)
    noted = [journal.note(entry(number)) for number in range(5)]
    assert list(journal.entries(noted[0].kind)) == noted


def test_an_entry_under_anothers_id_is_none(journal: DeletionJournal) -> None:
    """If a document was copied to another id, an action for the one must not touch the database of the other."""
    mine, theirs = entry(1), entry(2)
    journal._journal.write(mine.id, as_document(theirs), None)
    assert journal.entry(mine.id) is None
    assert list(journal.entries(mine.kind)) == []
    assert journal.note(mine) == mine
    assert journal.entry(mine.id) == mine
