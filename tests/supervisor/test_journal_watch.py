"""The journal watch, on a simulated cluster."""

import threading
from collections.abc import Callable, Iterator

import pytest
from structlog.testing import capture_logs

from peruserd.core.deletions.journal import UNREADABLE, Pause, PauseReason, Saying, Word
from peruserd.core.processes.messages import JournalNews
from peruserd.couch.deletions import DeletionJournal
from peruserd.couch.journal import Journal
from peruserd.simcluster import ClusterOptions, SimClusterThread
from peruserd.supervisor import journal_watch
from peruserd.supervisor.journal_watch import JournalWatch
from tests.couch.connecting import connect, session_to
from tests.waiting import eventually

ENTRY = "deletion:userdb-616e6e:2-a"


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """One node with peruserd's own database."""
    with SimClusterThread(ClusterOptions(nodes=1)) as running:
        connect(running.urls[0]).session.request("PUT", "/peruserd", params={"q": "1"}).expect(201)
        yield running


class WatchHarness:
    """A watch whose reading the test starts, and the news that it reports."""

    def __init__(self, cluster: SimClusterThread, database: str = "peruserd") -> None:
        self.news: list[JournalNews] = []
        self.usable = True
        self.journal = DeletionJournal(Journal(session_to(cluster.urls[0]), database))
        self.watch = JournalWatch(
            self.journal, is_usable=lambda: self.usable, on_news=self.news.append, interval_seconds=30.0
        )

    def look(self) -> list[JournalNews]:
        """Read the journal once, and return the news."""
        self.news.clear()
        self.watch.read()
        return self.news


@pytest.fixture
def harness(cluster: SimClusterThread) -> WatchHarness:
    """A watch on the cluster."""
    return WatchHarness(cluster)


def test_what_was_said_before_is_told_at_first(harness: WatchHarness) -> None:
    """The first reading finds the words and the pause."""
    harness.journal.say(ENTRY, lambda _: Saying(Word.HOLD))
    harness.journal.set_pause(Pause(paused=True, at=1.0))
    assert harness.look() == [JournalNews(usable=True, spoken_of=(ENTRY,), pause_changed=True)]
    assert harness.watch.pause.paused
    assert harness.watch.usable


def _shut(harness: WatchHarness, _cluster: SimClusterThread) -> None:
    harness.usable = False


def _failing(_post: WatchHarness, cluster: SimClusterThread) -> None:
    cluster.fail(1, 500, path_regex="^/peruserd")


@pytest.mark.parametrize("trouble", [_shut, _failing])
@pytest.mark.parametrize("before", [Pause(), Pause(paused=True, at=1.0, why=PauseReason.BREAKER)])
def test_while_the_journal_cannot_be_read_nobody_knows_of_a_pause(
    harness: WatchHarness,
    cluster: SimClusterThread,
    before: Pause,
    trouble: Callable[[WatchHarness, SimClusterThread], None],
) -> None:
    """While the journal cannot be read nothing is dropped, so the watch shows a pause, not its last state."""
    assert harness.watch.pause == UNREADABLE
    harness.journal.set_pause(before)
    harness.look()
    assert harness.watch.pause == before
    trouble(harness, cluster)
    harness.look()
    assert harness.watch.pause == UNREADABLE
    harness.usable = True
    cluster.clear_faults()
    harness.look()
    assert harness.watch.pause == before


def test_what_is_said_later_is_told_once(cluster: SimClusterThread, harness: WatchHarness) -> None:
    """A new word is reported with the next reading. A reading without changes reports nothing."""
    harness.look()
    harness.journal.say(ENTRY, lambda _: Saying(Word.CANCEL))
    assert harness.look() == [JournalNews(usable=True, spoken_of=(ENTRY,))]
    cluster.clear_requests()
    assert harness.look() == []
    assert sum(cluster.requests().values()) == 1


def test_entries_are_told_to_nobody(cluster: SimClusterThread, harness: WatchHarness) -> None:
    """The instance that writes an entry knows it, so new entries alone wake no listener."""
    harness.look()
    session_to(cluster.urls[0]).request("PUT", "/peruserd/deletion:x:1-a", body={}).expect(201)
    session_to(cluster.urls[0]).request("PUT", "/peruserd/drop:1:x", body={}).expect(201)
    assert harness.look() == []


def test_a_pause_is_told_and_logged(harness: WatchHarness) -> None:
    """A breaker that pauses all drops is an error in the log of every instance, and its end is logged too."""
    harness.look()
    assert not harness.watch.pause.paused
    harness.journal.set_pause(Pause(paused=True, why=PauseReason.BREAKER, at=1.0, instance="other"))
    with capture_logs() as lines:
        assert harness.look() == [JournalNews(usable=True, pause_changed=True)]
    (line,) = [each for each in lines if each["log_level"] == "error"]
    assert "breaker" in line["event"]
    assert line["instance"] == "other"
    harness.journal.set_pause(Pause(at=2.0))
    with capture_logs() as lines:
        assert harness.look() == [JournalNews(usable=True, pause_changed=True)]
    assert [each["event"] for each in lines] == ["deletions go on"]


@pytest.mark.parametrize(("why", "level"), [(PauseReason.BREAKER, "error"), (PauseReason.OPERATOR, "warning")], ids=str)
def test_a_pause_that_was_there_at_the_start_is_logged(harness: WatchHarness, why: PauseReason, level: str) -> None:
    """An instance that starts during a pause logs it too, once."""
    harness.journal.set_pause(Pause(paused=True, why=why, at=1.0, instance="other"))
    with capture_logs() as lines:
        for _ in range(2):
            harness.look()
    assert [(each["log_level"], each["instance"]) for each in lines] == [(level, "other")]


def test_what_is_said_behind_many_entries_is_told_at_once(
    cluster: SimClusterThread, harness: WatchHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even while thousands of users are deleted, one reading finds the operator's word."""
    harness.look()
    session = session_to(cluster.urls[0])
    for number in range(5):
        session.request("PUT", f"/peruserd/deletion:x:{number}-a", body={}).expect(201)
    harness.journal.set_pause(Pause(paused=True, at=1.0))
    changed_since = harness.journal._journal.changed_since
    monkeypatch.setattr(journal_watch, "PAGE_ROWS", 2)
    monkeypatch.setattr(harness.journal, "changed_since", lambda since: changed_since(since, limit=2))
    assert harness.look() == [JournalNews(usable=True, pause_changed=True)]


def test_until_it_was_read_all_is_paused(harness: WatchHarness) -> None:
    """Before the first reading the pause is unknown, and that counts as a pause."""
    assert harness.watch.pause == UNREADABLE
    assert not harness.watch.usable


def test_a_journal_that_cannot_be_trusted_is_told(harness: WatchHarness) -> None:
    """If the database is not ours or open to others, listeners are told once, and once more when that is over."""
    harness.usable = False
    assert harness.look() == [JournalNews(usable=False)]
    assert harness.look() == []
    harness.usable = True
    assert harness.look() == [JournalNews(usable=True, pause_changed=True)]


def test_a_journal_that_cannot_be_read_is_told(cluster: SimClusterThread, harness: WatchHarness) -> None:
    """While the server fails, the journal is not usable. Words written meanwhile are reported afterwards."""
    harness.look()
    cluster.fail(1, 500)
    assert harness.look() == [JournalNews(usable=False)]
    assert not harness.watch.usable
    cluster.clear_faults()
    harness.journal.say(ENTRY, lambda _: Saying(Word.CANCEL))
    (news,) = harness.look()
    assert news.usable
    assert news.spoken_of == (ENTRY,)


def test_a_journal_that_is_not_there_is_not_usable(cluster: SimClusterThread) -> None:
    """Before the database is made the journal is not usable."""
    assert WatchHarness(cluster, "elsewhere").look() == [JournalNews(usable=False)]


def test_it_looks_from_a_thread_and_at_once_when_asked(harness: WatchHarness) -> None:
    """The thread reads after each interval, and at once after an order to this instance."""
    harness.watch.start()
    eventually(lambda: harness.watch.usable, "it has looked")
    harness.news.clear()
    harness.journal.say(ENTRY, lambda _: Saying(Word.CANCEL))
    harness.watch.read_soon()
    eventually(lambda: harness.news, "it has told of the word")
    harness.watch.stop()


def test_its_thread_outlives_an_error_nobody_foresaw(harness: WatchHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is reported as a journal that is not usable, and the next reading comes."""
    failed = threading.Event()

    def fail() -> dict[str, Saying]:
        failed.set()
        raise RuntimeError("nobody foresaw this")

    with monkeypatch.context() as patched:
        patched.setattr(harness.journal, "sayings", fail)
        harness.watch.start()
        assert failed.wait(30)
        eventually(lambda: harness.news, "it has told of the failure")
    assert harness.news == [JournalNews(usable=False)]
    harness.watch.read_soon()
    eventually(lambda: harness.watch.usable, "it has looked again")
    harness.watch.stop()
