"""The journal watch can report every reason for a pause of all drops."""

import pytest

from peruserd.core.deletions.journal import Pause, PauseReason
from peruserd.core.processes.messages import JournalNews
from peruserd.couch.deletions import DeletionJournal
from peruserd.couch.journal import Journal
from peruserd.simcluster import ClusterOptions, SimClusterThread
from peruserd.supervisor.journal_watch import JournalWatch
from tests.couch.connecting import connect, session_to


@pytest.mark.parametrize("why", PauseReason)
def test_a_pause_for_any_reason_is_noted(why: PauseReason) -> None:
    """Each reason must have a text in the watch, because otherwise the journal would count as not usable."""
    news: list[JournalNews] = []
    with SimClusterThread(ClusterOptions(nodes=1)) as cluster:
        connect(cluster.urls[0]).session.request("PUT", "/peruserd", params={"q": "1"}).expect(201)
        journal = DeletionJournal(Journal(session_to(cluster.urls[0]), "peruserd"))
        watch = JournalWatch(journal, is_usable=lambda: True, on_news=news.append, interval_seconds=60.0)
        watch.read()
        journal.set_pause(Pause(at=1.0))
        watch.read()
        journal.set_pause(Pause(paused=True, why=why, at=2.0))
        watch.read()
    assert watch.usable
    assert watch.pause.why is why
    assert news[-1].pause_changed
