"""The journal of deletions, watched once for all listeners of an instance."""

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


class Post:
    """A watch that looks when it is told to, and what it has told."""

    def __init__(self, cluster: SimClusterThread, database: str = "peruserd") -> None:
        self.news: list[JournalNews] = []
        self.usable = True
        self.journal = DeletionJournal(Journal(session_to(cluster.urls[0]), database))
        self.watch = JournalWatch(
            self.journal, is_usable=lambda: self.usable, on_news=self.news.append, interval_seconds=30.0
        )

    def look(self) -> list[JournalNews]:
        """Look once, and return what was told by that."""
        self.news.clear()
        self.watch.look()
        return self.news


@pytest.fixture
def post(cluster: SimClusterThread) -> Post:
    """A watch on the cluster."""
    return Post(cluster)


def test_what_was_said_before_is_told_at_first(post: Post) -> None:
    """The first look finds the words and the pause that are there."""
    post.journal.say(ENTRY, lambda _: Saying(Word.HOLD))
    post.journal.set_pause(Pause(paused=True, at=1.0))
    assert post.look() == [JournalNews(usable=True, spoken_of=(ENTRY,), pause_changed=True)]
    assert post.watch.pause.paused
    assert post.watch.usable


def _shut(post: Post, _cluster: SimClusterThread) -> None:
    post.usable = False


def _failing(_post: Post, cluster: SimClusterThread) -> None:
    cluster.fail(1, 500, path_regex="^/peruserd")


@pytest.mark.parametrize("trouble", [_shut, _failing])
@pytest.mark.parametrize("before", [Pause(), Pause(paused=True, at=1.0, why=PauseReason.BREAKER)])
def test_while_the_journal_cannot_be_read_nobody_knows_of_a_pause(
    post: Post, cluster: SimClusterThread, before: Pause, trouble: Callable[[Post, SimClusterThread], None]
) -> None:
    """Nothing is dropped then, so it is shown as a pause, and not as what was read last."""
    assert post.watch.pause == UNREADABLE
    post.journal.set_pause(before)
    post.look()
    assert post.watch.pause == before
    trouble(post, cluster)
    post.look()
    assert post.watch.pause == UNREADABLE
    post.usable = True
    cluster.clear_faults()
    post.look()
    assert post.watch.pause == before


def test_what_is_said_later_is_told_once(cluster: SimClusterThread, post: Post) -> None:
    """A word is told at the next look; a look that finds nothing tells nothing and costs one request."""
    post.look()
    post.journal.say(ENTRY, lambda _: Saying(Word.CANCEL))
    assert post.look() == [JournalNews(usable=True, spoken_of=(ENTRY,))]
    cluster.clear_requests()
    assert post.look() == []
    assert sum(cluster.requests().values()) == 1


def test_entries_are_told_to_nobody(cluster: SimClusterThread, post: Post) -> None:
    """The instance that notes an entry keeps it, so the journal's own growth wakes no listener."""
    post.look()
    session_to(cluster.urls[0]).request("PUT", "/peruserd/deletion:x:1-a", body={}).expect(201)
    session_to(cluster.urls[0]).request("PUT", "/peruserd/drop:1:x", body={}).expect(201)
    assert post.look() == []


def test_a_pause_is_told_and_logged(post: Post) -> None:
    """A breaker that stops all is an error in the log of every instance, and its end is told too."""
    post.look()
    assert not post.watch.pause.paused
    post.journal.set_pause(Pause(paused=True, why=PauseReason.BREAKER, at=1.0, instance="other"))
    with capture_logs() as lines:
        assert post.look() == [JournalNews(usable=True, pause_changed=True)]
    (line,) = [each for each in lines if each["log_level"] == "error"]
    assert "breaker" in line["event"]
    assert line["instance"] == "other"
    post.journal.set_pause(Pause(at=2.0))
    with capture_logs() as lines:
        assert post.look() == [JournalNews(usable=True, pause_changed=True)]
    assert [each["event"] for each in lines] == ["deletions go on"]


@pytest.mark.parametrize(("why", "level"), [(PauseReason.BREAKER, "error"), (PauseReason.OPERATOR, "warning")], ids=str)
def test_a_pause_that_was_there_at_the_start_is_logged(post: Post, why: PauseReason, level: str) -> None:
    """A reader of the log of an instance that was restarted meanwhile learns it too, once."""
    post.journal.set_pause(Pause(paused=True, why=why, at=1.0, instance="other"))
    with capture_logs() as lines:
        for _ in range(2):
            post.look()
    assert [(each["log_level"], each["instance"]) for each in lines] == [(level, "other")]


def test_what_is_said_behind_many_entries_is_told_at_once(
    cluster: SimClusterThread, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While thousands of users are deleted, the operator's word does not wait for look after look."""
    post.look()
    session = session_to(cluster.urls[0])
    for number in range(5):
        session.request("PUT", f"/peruserd/deletion:x:{number}-a", body={}).expect(201)
    post.journal.set_pause(Pause(paused=True, at=1.0))
    changed_since = post.journal._journal.changed_since
    monkeypatch.setattr(journal_watch, "PAGE_ROWS", 2)
    monkeypatch.setattr(post.journal, "changed_since", lambda since: changed_since(since, limit=2))
    assert post.look() == [JournalNews(usable=True, pause_changed=True)]


def test_until_it_was_read_all_is_paused(post: Post) -> None:
    """Before the first look nobody knows of a pause, which is one."""
    assert post.watch.pause == UNREADABLE
    assert not post.watch.usable


def test_a_journal_that_cannot_be_trusted_is_told(post: Post) -> None:
    """While the database is not ours or open to others the listeners are told once, and told when that is over."""
    post.usable = False
    assert post.look() == [JournalNews(usable=False)]
    assert post.look() == []
    post.usable = True
    assert post.look() == [JournalNews(usable=True, pause_changed=True)]


def test_a_journal_that_cannot_be_read_is_told(cluster: SimClusterThread, post: Post) -> None:
    """A server that fails makes it unusable; what was said meanwhile is told afterwards."""
    post.look()
    cluster.fail(1, 500)
    assert post.look() == [JournalNews(usable=False)]
    assert not post.watch.usable
    cluster.clear_faults()
    post.journal.say(ENTRY, lambda _: Saying(Word.CANCEL))
    (news,) = post.look()
    assert news.usable
    assert news.spoken_of == (ENTRY,)


def test_a_journal_that_is_not_there_is_not_usable(cluster: SimClusterThread) -> None:
    """Before the database is made there is nothing to go by."""
    assert Post(cluster, "elsewhere").look() == [JournalNews(usable=False)]


def test_it_looks_from_a_thread_and_at_once_when_asked(post: Post) -> None:
    """The thread looks now and then, and soon after an order of this instance's own operator."""
    post.watch.start()
    eventually(lambda: post.watch.usable, "it has looked")
    post.news.clear()
    post.journal.say(ENTRY, lambda _: Saying(Word.CANCEL))
    post.watch.look_soon()
    eventually(lambda: post.news, "it has told of the word")
    post.watch.stop()


def test_its_thread_outlives_an_error_nobody_foresaw(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is told as a journal that cannot be used, and the next look comes."""
    failed = threading.Event()

    def fail() -> dict[str, Saying]:
        failed.set()
        raise RuntimeError("nobody foresaw this")

    with monkeypatch.context() as patched:
        patched.setattr(post.journal, "sayings", fail)
        post.watch.start()
        assert failed.wait(30)
        eventually(lambda: post.news, "it has told of the failure")
    assert post.news == [JournalNews(usable=False)]
    post.watch.look_soon()
    eventually(lambda: post.watch.usable, "it has looked again")
    post.watch.stop()
