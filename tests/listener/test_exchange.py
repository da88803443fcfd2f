"""The way of a worker to its next change, and the threads that the end of its work wakes."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from peruserd.core.common.names import user_document_id
from peruserd.core.feed import intake
from peruserd.core.feed.changes import Change
from peruserd.core.feed.lanes import Lane
from peruserd.core.feed.progress import Identity, SavedProgress
from peruserd.core.feed.rows import Page, Row
from peruserd.core.users.quarantine import Quarantined
from peruserd.listener import change_tracker as tracker_module
from peruserd.listener.change_tracker import ChangeTracker
from peruserd.listener.outcome import Outcome
from peruserd.listener.store import Store
from tests.listener.ownerships import FAILED, MINE, THEIRS
from tests.listener.trackers import make_tracker
from tests.waiting import PATIENCE_SECONDS, eventually

DONE = Outcome(acted_on=False, provisioned=True)


class Counter:
    """A tracker with nothing to scan, and a count of the times when it woke the main thread."""

    def __init__(self, path: Path) -> None:
        self.wakes = 0
        self.store = Store.open(path)
        self.store.save(SavedProgress("copy", 0, MINE, covered=(MINE,)))
        self.tracker: ChangeTracker = make_tracker(ownership=MINE, share=1, store=self.store, wake=self._wake)
        self.tracker.open(Identity("copy", 0))

    def enter(self, *names: str) -> None:
        self.tracker.enter_live(
            Page([Row(seq, user_document_id(name)) for seq, name in enumerate(names, start=1)], len(names))
        )

    def take(self) -> Change:
        change = self.tracker.take()
        assert change is not None
        return change

    def _wake(self) -> None:
        self.wakes += 1


@pytest.fixture
def counter(tmp_path: Path) -> Iterator[Counter]:
    """A tracker that gives out one change at a time."""
    made = Counter(tmp_path / "copy.sqlite")
    yield made
    made.tracker.stop()
    made.store.close()


@pytest.mark.parametrize("outcome", [DONE, FAILED], ids=["done", "failed"])
def test_an_exchange_gives_back_and_takes(counter: Counter, outcome: Outcome) -> None:
    """The change is finished, its place is free, and the next change takes it; None once the listener stops."""
    counter.enter("ann", "bob")
    first = counter.take()
    second = counter.tracker.exchange(first, outcome)
    assert second is not None
    assert second.document_id == user_document_id("bob")
    assert (counter.tracker.report().checkpoint, counter.tracker.in_flight) == (1, 1)
    counter.tracker.stop()
    assert counter.tracker.exchange(second, outcome) is None
    assert counter.tracker.report().checkpoint == 2


def test_a_failure_is_written_while_others_go_on(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other threads get the tracker while a worker that exchanges a failed change waits for the disk."""
    write = counter.store.quarantine
    reports = []

    def look_and_write(entry: Quarantined) -> None:
        thread = threading.Thread(target=lambda: reports.append(counter.tracker.report()))
        thread.start()
        thread.join(PATIENCE_SECONDS)
        write(entry)

    monkeypatch.setattr(counter.store, "quarantine", look_and_write)
    counter.enter("ann", "bob")
    counter.tracker.exchange(counter.take(), FAILED)
    (seen,) = reports
    assert (seen.checkpoint, seen.in_flight) == (0, 1)


def test_an_exchange_comes_again_while_the_books_are_in_use(counter: Counter) -> None:
    """A worker that finds the tracker locked gets its turn once the lock is free."""
    counter.enter("ann", "bob")
    first = counter.take()
    taken: list[Change | None] = []
    worker = threading.Thread(target=lambda: taken.append(counter.tracker.exchange(first, DONE)))
    with counter.tracker._changed:
        worker.start()
        worker.join(0.01)
        assert not taken
    worker.join(PATIENCE_SECONDS)
    (second,) = taken
    assert second is not None
    assert second.document_id == user_document_id("bob")


def test_a_change_of_the_same_document_is_taken_by_who_finished_the_earlier(counter: Counter) -> None:
    """A change that waited for the end of the work goes on at once, although nobody else is woken for it."""
    counter.enter("ann")
    first = counter.take()
    counter.enter("ann")
    second = counter.tracker.exchange(first, DONE)
    assert second is not None
    assert second is not first
    assert second.document_id == first.document_id


def test_the_place_that_a_scan_leaves_is_taken_by_one_who_waits(counter: Counter) -> None:
    """A worker that gives back a scanned change may take a live one; then another worker goes on with the scan."""
    counter.tracker.inform(MINE, None, 4)
    for name in "abc":
        counter.tracker._state.documents.put(Change(user_document_id(name), deleted=False, lane=Lane.SCAN, read_at=0.0))
    first, _ = counter.take(), counter.take()
    taken: list[Change | None] = []
    worker = threading.Thread(target=lambda: taken.append(counter.tracker.take()))
    worker.start()
    worker.join(0.01)
    assert not taken, "a scan takes half of the work in flight"
    # This is what entering a page does, except for waking threads.
    counter.tracker._state.documents.put(Change(user_document_id("live"), deleted=False, lane=Lane.LIVE, read_at=0.0))
    live = counter.tracker.exchange(first, DONE)
    assert live is not None
    assert live.lane is Lane.LIVE
    worker.join(PATIENCE_SECONDS)
    assert [each.document_id for each in taken if each is not None] == [user_document_id("c")]


def test_while_people_sign_up_a_scan_goes_one_by_one(counter: Counter) -> None:
    """One worker takes scanned changes, with a rest in between, and no other worker does so meanwhile."""
    counter.tracker.inform(MINE, None, 8)
    counter.tracker.enter_live(Page([Row(1, "_design/_auth")], 1))
    for name in "abc":
        counter.tracker._state.documents.put(Change(user_document_id(name), deleted=False, lane=Lane.SCAN, read_at=0.0))
    first = counter.take()
    taken: list[Change | None] = []
    worker = threading.Thread(target=lambda: taken.append(counter.tracker.take()))
    worker.start()
    worker.join(0.05)
    assert not taken
    second = counter.tracker.exchange(first, DONE)
    assert second is not None
    assert [each.document_id for each in (first, second)] == [user_document_id("a"), user_document_id("b")]
    assert not taken
    counter.tracker.stop()
    worker.join(PATIENCE_SECONDS)
    assert taken == [None]


def test_as_many_workers_are_woken_as_there_is_work(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document of another owner wakes no worker, and one user's document wakes one, however many wait."""
    counter.tracker.inform(MINE, None, 8)
    dispatch = counter.tracker._state.dispatch
    take = dispatch.next
    looks: list[Change | None] = []

    def look(now: float) -> Change | None:
        looks.append(take(now))
        return looks[-1]

    monkeypatch.setattr(dispatch, "next", look)
    taken: list[Change | None] = []
    workers = [threading.Thread(target=lambda: taken.append(counter.tracker.take())) for _ in range(4)]
    for each in workers:
        each.start()
    eventually(lambda: len(looks) == len(workers), "all have looked for work")
    counter.tracker.enter_live(Page([Row(1, "_design/_auth")], 1))
    counter.tracker.enter_live(Page([Row(2, user_document_id("ann"))], 2))
    eventually(lambda: bool(taken), "one has found some")
    assert len(looks) == len(workers) + 1
    counter.tracker.stop()
    for each in workers:
        each.join(PATIENCE_SECONDS)
    assert len(taken) == len(workers)


def test_the_main_thread_is_woken_once_for_all_that_ends_until_it_saves(counter: Counter) -> None:
    """The first ended change wakes the main thread to save; the next wake-up comes after the save."""
    counter.enter("ann", "bob", "cid", "dan")
    before = counter.wakes
    change = counter.take()
    for _ in range(2):
        taken = counter.tracker.exchange(change, DONE)
        assert taken is not None
        change = taken
    assert counter.wakes == before + 1
    counter.tracker.save()
    counter.tracker.exchange(change, DONE)
    assert counter.wakes == before + 2


def test_passing_over_what_is_held_back_lets_reading_go_on(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that finds no permitted work makes room, and the room is used at once."""
    monkeypatch.setattr(intake, "_LIVE_WINDOW", 2)
    monkeypatch.setattr(tracker_module, "_ROUND_SECONDS", 10 * PATIENCE_SECONDS)
    counter.enter("ann", "bob")
    counter.tracker.inform(MINE, THEIRS, 1)
    read: list[object] = []
    reader = threading.Thread(target=lambda: read.append(counter.tracker.wait_for_room()))
    reader.start()
    eventually(lambda: bool(counter.tracker._changed.awaited), "the reader waits for room")
    worker = threading.Thread(target=counter.tracker.take)
    worker.start()
    reader.join(PATIENCE_SECONDS)
    assert read == [2]
    counter.tracker.stop()
    worker.join(PATIENCE_SECONDS)


def test_the_end_of_the_work_wakes_who_waits_for_it(counter: Counter) -> None:
    """The end of a listener waits until nothing is in flight, and no longer."""
    counter.enter("ann")
    change = counter.take()
    ended: list[bool] = []
    thread = threading.Thread(target=lambda: ended.append(counter.tracker.wait_until_idle(PATIENCE_SECONDS)))
    thread.start()
    eventually(lambda: bool(counter.tracker._changed.awaited), "somebody waits for the end")
    counter.tracker.give_back(change, DONE)
    thread.join(PATIENCE_SECONDS)
    assert ended == [True]
