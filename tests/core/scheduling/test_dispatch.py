"""The turns of documents: the lanes, the part of a scan, and documents that are left alone for a while."""

import pytest

from peruserd.core.feed.changes import make_look
from peruserd.core.feed.lanes import Lane
from tests.core.desk import Desk


def test_the_most_urgent_lane_goes_first(desk: Desk) -> None:
    """Live changes go first, then what a scan found, what is tried again, and reviews, whenever they came."""
    scan = desk.put("a", Lane.SCAN)
    review = desk.review("d")
    retry = desk.put("b", Lane.RETRY)
    live = desk.put("c", Lane.LIVE)
    assert desk.drain() == [live, scan, retry, review]


def test_a_scan_takes_no_more_than_its_part(desk: Desk) -> None:
    """Other work has room beside a scan, however much the scan finds. Finished work makes room for the next."""
    desk.dispatch.limit(4)
    for name in "abc":
        desk.put(name, Lane.SCAN)
    first, second = desk.take(), desk.take()
    assert first is not None
    assert second is not None
    assert (desk.take(), desk.dispatch.can_scan(0.0)) == (None, False)
    live = desk.put("d")
    assert desk.take() is live
    desk.finish(live)
    assert not desk.dispatch.can_scan(0.0)
    desk.finish(first)
    assert desk.dispatch.can_scan(0.0)
    third = desk.take()
    assert third is not None
    assert third.document_id == "c"


def test_what_is_held_back_waits_and_holds_up_nobody_else(desk: Desk) -> None:
    """A document about to move is left alone and keeps its ticket. The documents after it are taken."""
    held, other = desk.put("a"), desk.put("b")
    desk.dispatch.hold_back(lambda document: document == "a")
    assert desk.drain() == [other]
    assert desk.has_waiting("a")
    assert (desk.documents.waiting, desk.documents.parked, desk.mark.under_way) == (1, 1, 1)
    assert not desk.is_finished(held)


@pytest.mark.parametrize("lane", [Lane.LIVE, Lane.RETRY, Lane.SCAN])
def test_what_was_held_back_goes_on_when_it_need_not_wait_any_more(desk: Desk, lane: Lane) -> None:
    """Whichever lane it came by, it is taken once nobody holds it back, and nothing counts as held any more."""
    held = desk.put("a", lane)
    desk.dispatch.hold_back(lambda _: True)
    assert desk.drain() == []
    desk.dispatch.hold_back(lambda _: False)
    assert desk.documents.parked == 0
    assert desk.drain() == [held]


def test_what_is_held_back_is_judged_anew_each_time(desk: Desk) -> None:
    """Another set of documents to hold back lets the former go, and keeps what is in both."""
    first, second, third = desk.put("a"), desk.put("b"), desk.put("c")
    desk.dispatch.hold_back(lambda document: document in "ab")
    assert desk.drain() == [third]
    desk.dispatch.hold_back(lambda document: document in "bc")
    late = desk.put("c")
    assert desk.drain() == [first]
    assert desk.documents.parked == 2
    desk.dispatch.hold_back(lambda _: False)
    assert set(desk.drain()) == {second, late}


def test_a_newer_change_takes_the_place_of_one_held_back(desk: Desk) -> None:
    """A document that was held back is acted on once, for its newest change."""
    old = desk.put("a")
    desk.dispatch.hold_back(lambda _: True)
    assert desk.drain() == []
    new = desk.put("a")
    assert desk.is_finished(old)
    assert desk.drain() == []
    assert (desk.documents.waiting, desk.documents.parked) == (1, 1)
    desk.dispatch.hold_back(lambda _: False)
    assert desk.drain() == [new]


def test_work_begun_before_is_not_held_back_and_its_successor_is(desk: Desk) -> None:
    """Work under way goes on when its document is held back. Later changes of the document wait."""
    first = desk.put("a")
    desk.take()
    second = desk.put("a")
    desk.dispatch.hold_back(lambda _: True)
    assert desk.take() is None
    desk.finish(first)
    assert desk.take() is None
    desk.dispatch.hold_back(lambda _: False)
    assert desk.take() is second


def test_what_is_held_back_for_a_lost_document_is_finished(desk: Desk) -> None:
    """When the document has moved, what waited for it does not wait for its return."""
    lost = desk.put("a")
    desk.dispatch.hold_back(lambda _: True)
    assert desk.take() is None
    desk.documents.lose_unless(lambda _: False, 0.0)
    desk.dispatch.hold_back(lambda _: False)
    assert desk.is_finished(lost)
    assert (desk.documents.waiting, desk.documents.parked, desk.drain()) == (0, 0, [])


def test_reviews_are_never_held_back(desk: Desk) -> None:
    """A review is of what was done already, so it is made whoever owns the document by now."""
    held = desk.put("a")
    review = desk.review("a")
    desk.dispatch.hold_back(lambda _: True)
    assert desk.drain() == [review]
    assert (desk.documents.reviews, desk.documents.waiting) == (0, 1)
    desk.dispatch.hold_back(lambda _: False)
    assert desk.drain() == [held]


def test_a_review_and_a_change_of_one_document_are_not_worked_on_at_once(desk: Desk) -> None:
    """A change and a review of one document wait for each other, and neither replaces the other."""
    live, review = desk.put("a"), desk.review("a")
    assert desk.take() is live
    assert desk.take() is None
    desk.finish(live)
    assert desk.take() is review
    later = desk.put("a")
    row = desk.put("b", Lane.SCAN)
    assert desk.take() is row
    assert desk.take() is None
    assert not desk.is_finished(later)
    desk.finish(review)
    assert desk.take() is later


def test_a_review_whose_document_is_busy_lets_the_next_one_by(desk: Desk) -> None:
    """One document under way does not hold up the reviews of others."""
    live = desk.put("a")
    desk.take()
    blocked, free = desk.review("a"), desk.review("b")
    assert desk.take() is free
    assert desk.take() is None
    desk.finish(live)
    assert desk.take() is blocked


def test_a_user_who_changes_all_the_time_waits_for_room_once(desk: Desk) -> None:
    """While no more databases may be made, the rows of a document that waits for one take no more memory each."""
    desk.dispatch.limit(8, 1)
    first = desk.put("a")
    assert desk.take() is first
    for _ in range(100):
        latest = desk.put("b")
        assert desk.take() is None
    desk.dispatch.limit(8, 1_000)
    assert desk.dispatch.queue_due(0.0) == 1
    assert desk.take() is latest
    assert desk.dispatch.queue_due(0.0) == 0


def test_a_look_goes_on_when_the_retry_that_waited_for_room_with_it_is_forgotten() -> None:
    """The operator takes a user out of quarantine. The request for the look stays open until its end."""
    desk = Desk()
    desk.dispatch.limit(8, 1)
    made = desk.put("other")
    assert desk.take() is made
    desk.documents.end(made)
    desk.dispatch.ended(made, 0.0, created=True)
    desk.put("a", Lane.RETRY)
    assert desk.take() is None, "it waits for room"
    look = make_look("a", Lane.AUDIT, 0.0, desk.mark, desk.mark.enter(0))
    desk.documents.put(look)
    desk.documents.release("a")
    given = desk.dispatch.next(60.0)
    assert given is not None
    desk.finish(given)
    assert desk.is_finished(look)
