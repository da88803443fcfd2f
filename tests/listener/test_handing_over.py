"""The tracker while documents change owners: changes that are held back, reviewed, or left to others."""

from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from peruserd.core.common.names import user_document_id
from peruserd.core.feed import intake
from peruserd.core.feed.changes import Change
from peruserd.core.feed.lanes import Lane
from peruserd.core.feed.progress import Identity, Sweep
from peruserd.core.feed.rows import Page, Row
from peruserd.core.users.quarantine import UNCONFIRMED, Failure
from peruserd.listener import change_tracker as tracker_module
from peruserd.listener.change_tracker import ChangeTracker
from peruserd.listener.outcome import Outcome
from peruserd.listener.store import Store
from tests.listener.clocks import Clock
from tests.listener.ownerships import DONE, FAILED, MINE, SHARED, THEIRS
from tests.listener.trackers import RECALL_SECONDS, make_tracker

REVOKED = Outcome(acted_on=True, revoked=True, security_written=True, whole=True)

# A time so late that nobody has signed up recently, so a scan is given out as fast as anything else.
LATER = 1e9

IDS = [user_document_id(f"user-{number}") for number in range(20)]
STAYS, MOVES = (next(each for each in IDS if SHARED.belongs_to("me")(each) is mine) for mine in (True, False))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The tracker's clock."""
    made = Clock()
    monkeypatch.setattr(tracker_module, "time", made)
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A new state file."""
    opened = Store.open(tmp_path / "copy.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def tracker(store: Store, clock: Clock) -> ChangeTracker:
    """A tracker that owns everything of an empty copy, its scan done."""
    del clock
    made = make_tracker(ownership=MINE, share=8, store=store)
    made.open(Identity("copy", 0))
    for _ in Sweep:
        sweep(made)
    return made


def sweep(tracker: ChangeTracker, *rows: Row, missing: Collection[str] = ()) -> None:
    """Enter the last page of a sweep."""
    task = tracker.wait_for_scan()
    assert task is not None
    tracker.enter_scan(task, Page(list(rows), task.since if task.until is None else task.until), missing)


def live(tracker: ChangeTracker, *rows: Row) -> None:
    """Enter a page of the live feed."""
    tracker.enter_live(Page(list(rows), rows[-1].seq))


def waiting(tracker: ChangeTracker) -> list[Change]:
    """Take all changes that are given out now, without waiting for more."""
    taken = []
    while change := tracker._state.dispatch.next(LATER):
        taken.append(change)
    return taken


def serve(tracker: ChangeTracker, outcome: Outcome = DONE) -> list[Change]:
    """Take all changes that are given out now, and give them back."""
    taken = waiting(tracker)
    for change in taken:
        tracker.give_back(change, outcome)
    return taken


def documents(changes: list[Change], lane: Lane | None = None) -> set[str]:
    """Return the documents of the changes, of one lane or of all."""
    return {change.document_id for change in changes if lane in (None, change.lane)}


# Held back


def test_what_another_will_own_is_left_alone_and_the_rest_is_served(tracker: ChangeTracker) -> None:
    """While another ownership is upcoming, only documents that stay with this instance are given out."""
    tracker.inform(MINE, SHARED, 8)
    live(tracker, Row(1, MOVES), Row(2, STAYS))
    assert documents(serve(tracker)) == {STAYS}
    assert tracker.report().checkpoint == 0


def test_what_was_held_back_is_served_when_the_change_does_not_come(tracker: ChangeTracker) -> None:
    """A flapping node only delays its documents: no scan follows, and no change is skipped."""
    tracker.inform(MINE, SHARED, 8)
    live(tracker, Row(1, MOVES), Row(2, STAYS))
    serve(tracker)
    tracker.inform(MINE, None, 8)
    assert documents(serve(tracker)) == {MOVES}
    report = tracker.report()
    assert (report.checkpoint, report.counters.scans) == (2, 1)


def test_what_was_held_back_is_left_to_its_next_owner(tracker: ChangeTracker) -> None:
    """Once the ownership changes, waiting changes end without an action, because the next owner's scan finds them."""
    tracker.inform(MINE, SHARED, 8)
    live(tracker, Row(1, MOVES), Row(2, STAYS))
    serve(tracker)
    tracker.inform(SHARED, None, 8)
    assert serve(tracker) == []
    assert tracker.report().checkpoint == 2


def test_a_newer_change_of_a_held_document_takes_the_older_ones_place(tracker: ChangeTracker) -> None:
    """Only the newest change of a held document is acted on in the end."""
    tracker.inform(MINE, SHARED, 8)
    live(tracker, Row(1, MOVES))
    assert waiting(tracker) == []
    live(tracker, Row(2, MOVES, deleted=True))
    assert waiting(tracker) == []
    tracker.inform(MINE, None, 8)
    assert [(each.document_id, each.deleted) for each in serve(tracker)] == [(MOVES, True)]
    assert tracker.report().checkpoint == 2


def test_held_documents_do_not_stop_the_feed(tracker: ChangeTracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many documents are held back, reading goes on for those that keep their owner."""
    monkeypatch.setattr(intake, "_LIVE_WINDOW", 2)
    tracker.inform(MINE, SHARED, 8)
    moving = [each for each in IDS if not SHARED.belongs_to("me")(each)]
    live(tracker, *[Row(number, each) for number, each in enumerate(moving, start=1)])
    assert serve(tracker) == []
    assert tracker._state.live_has_room
    monkeypatch.setattr(intake, "_PARKED_WINDOW", len(moving))
    assert not tracker._state.live_has_room


def test_a_change_that_arrives_while_its_document_is_worked_on_is_held_too(tracker: ChangeTracker) -> None:
    """Work that began before the announcement ends normally; later changes of the same document wait."""
    live(tracker, Row(1, MOVES))
    (begun,) = waiting(tracker)
    tracker.inform(MINE, SHARED, 8)
    live(tracker, Row(2, MOVES, deleted=True))
    tracker.give_back(begun, DONE)
    assert waiting(tracker) == []
    assert tracker.report().checkpoint == 1


# Reviews


def test_what_was_done_last_for_a_lost_document_is_reviewed(tracker: ChangeTracker) -> None:
    """The next owner may already have acted on a newer revision; only lost documents are looked at."""
    live(tracker, Row(1, MOVES), Row(2, STAYS, deleted=True), Row(3, MOVES))
    serve(tracker)
    tracker.inform(SHARED, None, 8)
    (review,) = serve(tracker)
    assert (review.document_id, review.lane, review.deleted) == (MOVES, Lane.REVIEW, False)
    assert tracker.report().counters.reviews == 1


@pytest.mark.parametrize("lost", ["before-the-end", "after-it"])
def test_a_review_is_of_what_was_acted_on_and_not_of_what_the_row_said(tracker: ChangeTracker, lost: str) -> None:
    """A tombstone whose document was found to be live and served is looked at as a live one."""
    live(tracker, Row(1, MOVES, deleted=True))
    (change,) = waiting(tracker)
    if lost == "before-the-end":
        tracker.inform(SHARED, None, 8)
    tracker.give_back(change, DONE)
    tracker.inform(SHARED, None, 8)
    (review,) = serve(tracker)
    assert (review.lane, review.deleted) == (Lane.REVIEW, False)


@pytest.mark.parametrize("lost", ["before-the-end", "after-it"])
def test_what_did_nothing_is_not_reviewed(tracker: ChangeTracker, lost: str) -> None:
    """Without an action here, nothing of the next owner can have been undone."""
    live(tracker, Row(1, MOVES, deleted=True))
    (change,) = waiting(tracker)
    if lost == "before-the-end":
        tracker.inform(SHARED, None, 8)
    tracker.give_back(change, Outcome())
    tracker.inform(SHARED, None, 8)
    assert serve(tracker) == []


def test_what_was_done_long_ago_is_not_reviewed(tracker: ChangeTracker, clock: Clock) -> None:
    """Two instances can believe that they own a document only for a limited time; after that no repair is needed."""
    live(tracker, Row(1, MOVES))
    serve(tracker)
    clock.now += RECALL_SECONDS + 1
    tracker.inform(SHARED, None, 8)
    assert serve(tracker) == []


def test_work_that_ends_after_its_document_was_lost_is_reviewed(tracker: ChangeTracker) -> None:
    """Work that was under way when the owner changed may be done after the next owner's work."""
    live(tracker, Row(1, MOVES, deleted=True))
    (begun,) = waiting(tracker)
    tracker.inform(SHARED, None, 8)
    tracker.give_back(begun, REVOKED)
    (review,) = serve(tracker)
    assert (review.lane, review.deleted) == (Lane.REVIEW, True)


def test_what_is_in_doubt_is_reviewed_once_it_is_lost(tracker: ChangeTracker, store: Store) -> None:
    """A listener completes a security object that it has begun to write, even if the document has a new owner."""
    live(tracker, Row(1, MOVES))
    (begun,) = waiting(tracker)
    tracker.intents.before_write(MOVES)
    tracker.give_back(begun, FAILED)
    tracker.inform(SHARED, None, 8)
    (review,) = serve(tracker, FAILED)
    assert review.lane is Lane.REVIEW
    assert tracker.report().quarantined == 0
    assert tracker.intents.in_doubt(MOVES)
    assert tracker.queue_due() is not None
    assert store.load()[2] == {MOVES}


def test_a_review_that_failed_is_made_again_and_settles_the_doubt(
    tracker: ChangeTracker, store: Store, clock: Clock
) -> None:
    """It is tried until it succeeds; then nothing is left on disk."""
    tracker.intents.before_write(MOVES)
    tracker.inform(SHARED, None, 8)
    serve(tracker, FAILED)
    clock.now += 1000.0
    tracker.queue_due()
    (again,) = serve(tracker, DONE)
    assert again.lane is Lane.REVIEW
    tracker.save()
    assert store.load()[2] == set()
    assert tracker.queue_due() is None


def test_a_process_that_starts_reviews_what_it_left_in_doubt_and_lost(store: Store, clock: Clock) -> None:
    """Doubts on disk survive the process; those of documents with another owner are reviewed at once."""
    del clock
    store.record_intent(MOVES)
    tracker = make_tracker(ownership=SHARED, share=8, store=store)
    tracker.open(Identity("copy", 0))
    assert documents(serve(tracker), Lane.REVIEW) == {MOVES}


def test_a_review_waits_beside_a_change_of_the_same_document(tracker: ChangeTracker) -> None:
    """A document that is regained before its review is reviewed all the same, and never by two workers at once."""
    live(tracker, Row(1, MOVES))
    serve(tracker)
    tracker.inform(SHARED, None, 8)
    tracker.inform(MINE, None, 8)
    live(tracker, Row(2, MOVES, deleted=True))
    (first,) = waiting(tracker)
    tracker.give_back(first, DONE)
    (second,) = waiting(tracker)
    assert {first.lane, second.lane} == {Lane.LIVE, Lane.REVIEW}


def test_a_review_that_did_nothing_leaves_a_user_in_quarantine(
    tracker: ChangeTracker, store: Store, clock: Clock
) -> None:
    """A user who was lost, gained again and not served since is not taken for one who was."""
    live(tracker, Row(1, MOVES))
    serve(tracker)
    tracker.inform(SHARED, None, 8)
    (review,) = waiting(tracker)
    tracker.inform(MINE, None, 8)
    live(tracker, Row(2, MOVES))
    tracker.give_back(review, FAILED)
    assert documents(serve(tracker, FAILED)) == {MOVES}
    clock.now += 1000.0
    tracker.queue_due()
    changes = {each.lane: each for each in waiting(tracker)}
    assert set(changes) == {Lane.RETRY}
    tracker.give_back(changes[Lane.RETRY], FAILED)
    (review,) = waiting(tracker)
    assert review.lane is Lane.REVIEW
    tracker.give_back(review, Outcome())
    tracker.save()
    assert tracker.report().quarantined == 1
    assert [entry.document_id for entry in store.load()[1]] == [MOVES]


# Leaving and inheriting


def test_a_listener_that_leaves_gives_out_reviews_only(tracker: ChangeTracker) -> None:
    """The range has new owners: they take the waiting changes, and this listener reviews its latest work."""
    live(tracker, Row(1, MOVES), Row(2, STAYS))
    serve(tracker)
    live(tracker, Row(3, IDS[0]), Row(4, IDS[1]))
    tracker.leave()
    taken = waiting(tracker)
    assert {each.lane for each in taken} == {Lane.REVIEW}
    assert documents(taken) == {MOVES, STAYS}
    assert not tracker.wait_until_left(0.0)
    for change in taken:
        tracker.give_back(change, DONE)
    assert tracker.wait_until_left(0.0)
    assert tracker.report().checkpoint == 2


def test_work_under_way_when_a_listener_leaves_is_reviewed(tracker: ChangeTracker) -> None:
    """Work that ends after the range was given up is reviewed like the rest."""
    live(tracker, Row(1, STAYS))
    (begun,) = waiting(tracker)
    tracker.leave()
    tracker.give_back(begun, DONE)
    assert documents(serve(tracker), Lane.REVIEW) == {STAYS}
    assert tracker.wait_until_left(0.0)


def test_inherited_doubts_are_on_disk_and_reviewed(tracker: ChangeTracker, store: Store) -> None:
    """This listener ends a doubt that it has taken over from another copy's listener, for any document."""
    tracker.take_over_doubts({MOVES, STAYS})
    assert store.load()[2] == {MOVES, STAYS}
    assert documents(serve(tracker), Lane.REVIEW) == {MOVES, STAYS}
    tracker.save()
    assert store.load()[2] == set()


# Scans in two sweeps


def test_a_scan_makes_missing_databases_before_it_looks_at_security_objects(tracker: ChangeTracker) -> None:
    """The first sweep acts only on users without a database, the second on the others.

    The third sweep compares the copies of live users who were there before. Then the scan is done.
    """
    tracker.inform(THEIRS, None, 8)
    tracker.inform(MINE, None, 8)
    rows = (Row(1, IDS[0]), Row(2, IDS[1]), Row(3, IDS[2], deleted=True))
    live(tracker, Row(3, "another document"))
    tracker.inform(THEIRS, None, 8)
    tracker.inform(MINE, None, 8)
    sweep(tracker, *rows, missing={IDS[1]})
    (first,) = serve(tracker)
    assert (first.document_id, first.in_place) == (IDS[1], False)
    assert tracker.report().counters.scans == 1
    sweep(tracker, *rows)
    assert {(each.document_id, each.in_place) for each in serve(tracker)} == {(IDS[0], True), (IDS[2], True)}
    assert tracker.report().counters.scans == 1
    sweep(tracker, *rows)
    assert [(each.document_id, each.each_copy) for each in serve(tracker)] == [(IDS[0], True)]
    assert tracker.report().counters.scans == 2


def begin_a_scan(tracker: ChangeTracker) -> None:
    """Let the tracker gain the documents that it had lost."""
    live(tracker, Row(2, "another document"))
    tracker.inform(THEIRS, None, 8)
    tracker.inform(MINE, None, 8)


def test_a_tombstone_without_a_database_is_passed_over_by_a_scan(tracker: ChangeTracker) -> None:
    """A deleted user without a database needs no action, and the scan ends; one with a database is acted on."""
    begin_a_scan(tracker)
    sweep(tracker)
    rows = (Row(1, IDS[0], deleted=True), Row(2, IDS[1], deleted=True))
    task = tracker.wait_for_scan()
    assert task is not None
    assert task.to_check(Page([*rows, Row(3, IDS[2]), Row(4, "_design/_auth", deleted=True)], 4)) == [IDS[0], IDS[1]]
    tracker.enter_scan(task, Page(list(rows), 2), {IDS[0]})
    assert [(each.document_id, each.deleted) for each in serve(tracker)] == [(IDS[1], True)]
    # The sweep over copies has nobody to look at.
    sweep(tracker, *rows)
    assert tracker.report().counters.scans == 2


def test_only_live_rows_are_looked_for_in_the_sweep_for_databases(tracker: ChangeTracker) -> None:
    """A tombstone has no database to miss."""
    begin_a_scan(tracker)
    task = tracker.wait_for_scan()
    assert task is not None
    page = Page([Row(1, IDS[0]), Row(2, IDS[1], deleted=True), Row(3, "_design/_auth")], 3)
    assert task.to_check(page) == [IDS[0]]


@pytest.mark.parametrize("first", ["live", "tombstone"])
def test_a_tombstone_does_not_hide_a_live_row_from_the_sweep_for_databases(tracker: ChangeTracker, first: str) -> None:
    """Two rows have one id, in any order. The live user gets a database, and the document counts as contested."""
    begin_a_scan(tracker)
    rows = [Row(1, IDS[0]), Row(2, IDS[0], deleted=True)]
    sweep(tracker, *(rows if first == "live" else reversed(rows)), missing={IDS[0]})
    assert [(each.deleted, each.contested) for each in serve(tracker)] == [(False, True)]


def test_a_tombstone_is_looked_at_although_a_live_row_of_its_id_was_served(tracker: ChangeTracker) -> None:
    """The second sweep does not skip the document because of the first one, and marks the contradiction."""
    begin_a_scan(tracker)
    sweep(tracker, Row(1, IDS[0]), missing={IDS[0]})
    serve(tracker)
    sweep(tracker, Row(1, IDS[0]), Row(2, IDS[0], deleted=True))
    assert [(each.deleted, each.contested) for each in serve(tracker)] == [(True, True)]


@pytest.mark.parametrize("first", ["live", "tombstone"])
def test_rows_of_both_kinds_are_acted_on_as_contested_in_the_sweep_for_security(
    tracker: ChangeTracker, first: str
) -> None:
    """Neither row hides the other, in any order."""
    begin_a_scan(tracker)
    sweep(tracker)
    rows = [Row(1, IDS[0]), Row(2, IDS[0], deleted=True)]
    sweep(tracker, *(rows if first == "live" else reversed(rows)))
    assert [each.contested for each in serve(tracker)] == [True]


def test_a_user_whose_first_sweep_failed_is_looked_at_by_the_second(tracker: ChangeTracker) -> None:
    """Only users who were served are skipped."""
    live(tracker, Row(1, "another document"))
    tracker.inform(THEIRS, None, 8)
    tracker.inform(MINE, None, 8)
    sweep(tracker, Row(1, IDS[0]), missing={IDS[0]})
    serve(tracker, FAILED)
    sweep(tracker, Row(1, IDS[0]))
    assert documents(serve(tracker), Lane.SCAN) == {IDS[0]}


def test_a_sweep_that_was_cut_off_goes_on_where_it_was(tracker: ChangeTracker, store: Store) -> None:
    """The sweep is saved with the position: a process that dies in the second does not begin with the first."""
    live(tracker, Row(5, "another document"))
    tracker.inform(THEIRS, None, 8)
    tracker.inform(MINE, None, 8)
    sweep(tracker, Row(5, "another document"))
    tracker.save()
    successor = make_tracker(ownership=MINE, share=8, store=store)
    successor.open(Identity("copy", 5))
    task = successor.wait_for_scan()
    assert task is not None
    assert task.sweep is Sweep.SECURITY


# Halves


def test_a_half_goes_on_near_where_the_whole_was_read_to(store: Store, clock: Clock) -> None:
    """The live feed serves users who sign up during a split of the range; the scan covers the rest."""
    del clock
    tracker = make_tracker(ownership=MINE, share=8, store=store, resume_near=40)
    tracker.open(Identity("half", 45))
    assert tracker.wait_for_room() == 40
    task = tracker.wait_for_scan()
    assert task is not None
    assert (task.since, task.sweep) == (0, Sweep.DATABASES)


@pytest.mark.parametrize("near", [46, "46-opaque", None])
def test_a_hint_that_cannot_be_is_not_believed(store: Store, clock: Clock, near: int | str | None) -> None:
    """A hint beyond the copy's end, or of another kind of feed, is dropped: live begins at the end."""
    del clock
    tracker = make_tracker(ownership=MINE, share=8, store=store, resume_near=near)
    tracker.open(Identity("half", 45))
    assert tracker.wait_for_room() == 45


def test_a_deletion_that_could_not_be_confirmed_is_looked_at_by_who_saw_it(tracker: ChangeTracker) -> None:
    """The next owner's copy may be behind and not show it, so it is not forgotten with the ownership."""
    live(tracker, Row(1, MOVES, deleted=True), Row(2, STAYS, deleted=True))
    serve(tracker, Outcome(failure=Failure(UNCONFIRMED, "one of three has answered")))
    tracker.inform(SHARED, None, 8)
    reviews = [each for each in waiting(tracker) if each.lane is Lane.REVIEW]
    # Any state other than deleted counts as the state in which it was last served.
    assert [(each.document_id, each.deleted) for each in reviews] == [(MOVES, False)]


def test_a_listener_that_leaves_waits_for_nobody_who_has_given_up(tracker: ChangeTracker) -> None:
    """A worker whose session was shut ends, and the next start does its work."""
    live(tracker, Row(1, STAYS))
    (begun,) = waiting(tracker)
    tracker.leave()
    assert not tracker.wait_until_left(0.0)
    tracker.abandon(begun)
    assert tracker.wait_until_left(0.0)
    assert tracker.report().checkpoint == 0
