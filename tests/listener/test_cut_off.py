"""A listener on the smaller side of a cut: the other copies win when they return, so it looks at everybody again."""

from typing import Any

from peruserd.core.common.names import user_document_id
from peruserd.core.feed.progress import Identity, Scan, Sweep
from peruserd.core.feed.rows import Page, Row
from peruserd.core.feed.scan import ScanTask
from peruserd.core.scheduling.listener_state import ListenerState
from tests.listener.states import ALREADY, FAILED, MINE, Feed, listening, unopened

ALONE: dict[str, Any] = {"nodes": ("n1",), "cut_off": True}
TOGETHER: dict[str, Any] = {"nodes": ("n1", "n2", "n3"), "cut_off": False}
ANN = user_document_id("ann")


def inform(state: ListenerState, now: float, *, nodes: tuple[str, ...], cut_off: bool) -> None:
    """Tell a listener which nodes are connected."""
    state.inform(MINE, None, 8, 0, nodes, now, cut_off=cut_off)


def looked_at(state: ListenerState, task: ScanTask, *, deleted: bool = False) -> list[tuple[str, bool]]:
    """Enter a page of a scan; return the documents to look at, and whether their rows are believed."""
    state.enter_scan(task, Page([Row(1, ANN, deleted=deleted)], 1), set(), 3.0)
    change = state.dispatch.next(3.0)
    return [] if change is None else [(change.document_id, not change.contested)]


def test_everybody_is_looked_at_with_care_once_a_majority_is_connected_again() -> None:
    """A right copy on one side proves nothing, so no row is believed and each copy is asked."""
    feed = Feed(listening())
    state = feed.state
    inform(state, 1.0, **ALONE)
    feed.enter("ann")
    feed.work(ALREADY, 1.0)
    assert not state.intake.is_scanning
    inform(state, 2.0, **TOGETHER)
    state.queue_due(2.0)
    task = state.scan_task()
    assert task is not None
    assert (task.since, task.careful) == (0, True)
    # The sweep for missing databases finds none.
    state.enter_scan(task, Page([], 1), set(), 3.0)
    task = state.scan_task()
    assert task is not None
    assert task.sweep is Sweep.SECURITY
    assert looked_at(state, task) == [(ANN, False)]


def test_a_scan_waits_for_the_end_of_the_cut_and_wakes_nobody_before() -> None:
    """Nothing is due while the others are away, even if users found no room in quarantine."""
    state = listening(cut_off=True)
    state.intake.owe_scan(1.0)
    assert state.queue_due(1_000_000.0) is None
    assert not state.intake.is_scanning


def test_a_restart_during_or_after_a_cut_looks_at_everybody_too() -> None:
    """The progress on disk notes the owed scan; while the cut lasts, each scan is owed again."""
    during = listening(cut_off=True).intake.progress
    assert during is not None
    assert during.owed
    still_cut_off = listening(saved=during, cut_off=True).intake.progress
    assert still_cut_off is not None
    assert still_cut_off.owed
    after = listening(saved=during).intake.progress
    assert after is not None
    assert (after.owed, after.scan) == (False, Scan(until=0, careful=True, known=True))


def test_a_careful_scan_that_is_interrupted_goes_on_with_care() -> None:
    """A user who failed is tried again with the same care, and so is the rest after a restart."""
    feed = Feed(listening())
    state = feed.state
    feed.enter("ann")
    feed.work(ALREADY, 0.0)
    inform(state, 1.0, **ALONE)
    inform(state, 2.0, **TOGETHER)
    state.queue_due(2.0)
    task = state.scan_task()
    assert task is not None
    state.enter_scan(task, Page([], 1), set(), 3.0)
    task = state.scan_task()
    assert task is not None
    state.enter_scan(task, Page([Row(1, ANN, deleted=False)], 1), set(), 3.0)
    saved = state.intake.progress
    assert saved is not None
    assert saved.scan is not None
    assert (saved.scan.sweep, saved.scan.careful) == (Sweep.SECURITY, True)
    feed.work(FAILED, 3.0)
    state.queue_due(100.0)
    retried = state.dispatch.next(100.0)
    assert retried is not None
    assert retried.contested


def test_a_cut_that_ends_before_the_copy_is_known_is_owed_nothing() -> None:
    """No user was looked at, so none is looked at again, and nothing stays due for ever."""
    state = unopened(cut_off=True)
    inform(state, 1.0, **TOGETHER)
    assert state.queue_due(2.0) is None
    state.open(Identity("copy", 0), 3.0)
    assert state.intake.progress is not None
    assert not state.intake.progress.owed
    assert state.queue_due(4.0) is None
