from itertools import product, starmap
from typing import NamedTuple

import pytest

from peruserd.core.feed.changes import Change
from peruserd.core.feed.lanes import Lane
from tests.core.desk import Desk


def tickets(changes: list[Change]) -> list[tuple[int, bool]]:
    """Return which rows were acted on, and whether as contested."""
    return [(each.ticket, each.contested) for each in changes]


def test_changes_are_taken_in_the_order_they_came(desk: Desk) -> None:
    """Within a lane, first come is first served."""
    put = [desk.put(document) for document in "abc"]
    assert desk.drain() == put


def test_nothing_to_do_is_none(desk: Desk) -> None:
    """An empty queue gives nothing, and one whose every document is under way neither."""
    assert desk.take() is None
    desk.put("a")
    assert desk.take() is not None
    desk.put("a")
    assert desk.take() is None


def test_one_document_is_worked_on_by_one_worker(desk: Desk) -> None:
    """A change of a document under way waits for the end of that work, and is next then."""
    first = desk.put("a")
    assert desk.take() is first
    second = desk.put("a")
    other = desk.put("b")
    assert desk.has_waiting("a")
    assert desk.take() is other
    assert desk.take() is None
    desk.finish(first)
    assert desk.take() is second


def test_changes_that_wait_collapse_into_the_newest(desk: Desk) -> None:
    """Only the newest of several changes of a document is acted on. The other tickets are given back at once."""
    old, older = desk.put("a"), desk.put("a")
    newest = desk.put("a")
    assert desk.is_finished(old)
    assert desk.is_finished(older)
    assert not desk.is_finished(newest)
    assert desk.documents.waiting == 1
    assert desk.drain() == [newest]


def test_a_ticket_is_kept_until_the_work_is_done(desk: Desk) -> None:
    """Neither waiting nor being worked on lets the checkpoint pass; only the end of the work does."""
    change = desk.put("a")
    assert desk.mark.under_way == 1
    desk.take()
    assert desk.mark.under_way == 1
    desk.finish(change)
    assert desk.mark.under_way == 0


@pytest.mark.parametrize("active", [False, True], ids=["waiting", "under-way"])
@pytest.mark.parametrize(
    ("first", "second", "acted_on"),
    [
        (Lane.LIVE, Lane.LIVE, True),
        (Lane.LIVE, Lane.SCAN, False),
        (Lane.LIVE, Lane.RETRY, False),
        (Lane.SCAN, Lane.LIVE, True),
        (Lane.SCAN, Lane.SCAN, True),
        (Lane.SCAN, Lane.RETRY, False),
        (Lane.RETRY, Lane.LIVE, True),
        (Lane.RETRY, Lane.SCAN, True),
        (Lane.RETRY, Lane.RETRY, True),
    ],
)
def test_what_tells_more_of_a_document_wins(
    desk: Desk,
    first: Lane,
    second: Lane,
    acted_on: bool,  # noqa: FBT001 - a parameter of the test
    active: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A live change tells more than a scan's, that more than a retry's, whether waiting or under way."""
    earlier = desk.put("a", first)
    if active:
        desk.take()
    later = desk.put("a", second)
    assert desk.is_finished(later) == (not acted_on)
    assert desk.is_finished(earlier) == (acted_on and not active)
    if active:
        desk.finish(earlier)
    assert desk.drain() == ([later] if acted_on else [] if active else [earlier])


def test_a_scans_page_is_void_where_live_changes_came_meanwhile(desk: Desk) -> None:
    """A row asked for before a live change of its document arrived can be older, even when that one is done already."""
    desk.documents.scan_page_requested()
    desk.put("a")
    desk.drain()
    stale, fine = desk.put("a", Lane.SCAN), desk.put("b", Lane.SCAN)
    assert desk.is_finished(stale)
    assert desk.drain() == [fine]


class Pair(NamedTuple):
    """A live row and a tombstone under one id: their lanes, and which of them came first."""

    first: Lane
    second: Lane
    deleted_first: bool


LANES = [Lane.LIVE, Lane.RETRY, Lane.SCAN]
every_pair = pytest.mark.parametrize("pair", list(starmap(Pair, product(LANES, LANES, [False, True]))), ids=str)


@every_pair
def test_rows_of_both_kinds_that_wait_are_contested(desk: Desk, pair: Pair) -> None:
    """Two documents can be shown under one id: whichever row is acted on, it says that there was another one."""
    desk.put("a", pair.first, deleted=pair.deleted_first)
    desk.put("a", pair.second, deleted=not pair.deleted_first)
    assert [change.contested for change in desk.drain()] == [True]
    desk.put("a", pair.second, deleted=not pair.deleted_first)
    assert [change.contested for change in desk.drain()] == [False]


@every_pair
def test_a_row_of_the_other_kind_is_never_passed_over_for_work_under_way(desk: Desk, pair: Pair) -> None:
    """The work under way knows nothing of it, so it waits, however little it tells, and is contested."""
    begun = desk.put("a", pair.first, deleted=pair.deleted_first)
    assert desk.take() is begun
    later = desk.put("a", pair.second, deleted=not pair.deleted_first)
    desk.finish(begun)
    assert tickets(desk.drain()) == [(later.ticket, True)]
    assert not begun.contested


def test_contested_work_under_way_has_seen_both_kinds(desk: Desk) -> None:
    """A row that tells less than it does adds nothing then."""
    desk.put("a")
    desk.put("a", deleted=True)
    begun = desk.take()
    assert begun is not None
    assert begun.contested
    assert desk.is_finished(desk.put("a", Lane.SCAN))
    desk.finish(begun)
    assert desk.drain() == []


@pytest.mark.parametrize("deleted", [False, True], ids=["live", "tombstone"])
def test_a_live_row_does_not_hide_a_scans_row_of_the_other_kind(desk: Desk, deleted: bool) -> None:  # noqa: FBT001
    """Although the page was asked for before, its row may be of another document with the same id."""
    desk.documents.scan_page_requested()
    desk.put("a", deleted=deleted)
    desk.drain()
    row = desk.put("a", Lane.SCAN, deleted=not deleted)
    assert tickets(desk.drain()) == [(row.ticket, True)]


def test_a_page_of_a_scan_is_no_void_where_live_rows_of_both_kinds_came(desk: Desk) -> None:
    """Both can be another document's than the row that the scan has found."""
    desk.documents.scan_page_requested()
    for deleted in (False, True):
        desk.put("a", deleted=deleted)
        desk.drain()
    row = desk.put("a", Lane.SCAN)
    assert tickets(desk.drain()) == [(row.ticket, True)]


def test_the_next_page_of_a_scan_is_asked_for_after_that(desk: Desk) -> None:
    """A row from before the request is on the page, so nothing on the page is void."""
    desk.documents.scan_page_requested()
    desk.put("a")
    desk.drain()
    desk.documents.scan_page_requested()
    row = desk.put("a", Lane.SCAN)
    assert desk.drain() == [row]


def test_live_changes_are_not_remembered_outside_a_scan(desk: Desk) -> None:
    """With no page on its way there is nothing to make void, and nothing piles up."""
    desk.put("a")
    desk.drain()
    desk.documents.scan_page_requested()
    desk.documents.scan_page_ended()
    desk.put("b")
    desk.drain()
    assert not desk.documents._fresh
    assert len(desk.documents) == 0
    rows = [desk.put(document, Lane.SCAN) for document in "ab"]
    assert desk.drain() == rows


def test_what_waits_for_a_lost_document_is_finished(desk: Desk) -> None:
    """Changes of documents that are not wanted any more do not wait, nor hold the checkpoint back."""
    lost, kept = desk.put("a"), desk.put("b")
    desk.documents.lose_unless(lambda document: document == "b", 0.0)
    assert desk.is_finished(lost)
    assert desk.documents.waiting == 1
    assert desk.drain() == [kept]


def test_work_begun_before_a_loss_makes_nothing_void(desk: Desk) -> None:
    """A scan finds a lost and regained document again. It is acted on after the work that was still under way."""
    old = desk.put("a")
    desk.take()
    desk.documents.lose_unless(lambda _: False, 0.0)
    row = desk.put("a", Lane.SCAN)
    assert desk.take() is None
    desk.finish(old)
    assert desk.drain() == [row]
    # From then on everything is as for any other document.
    live = desk.put("a")
    desk.take()
    assert desk.is_finished(desk.put("a", Lane.SCAN))
    desk.finish(live)


def test_reviews_outlive_the_loss_of_their_document(desk: Desk) -> None:
    """Reviews exist for documents that have another owner now."""
    review = desk.review("a")
    desk.documents.lose_unless(lambda _: False, 0.0)
    assert desk.documents.reviews == 1
    assert desk.drain() == [review]


def test_reviews_of_one_document_collapse_into_the_newest(desk: Desk) -> None:
    """Two requests make one review, of the last act. A request during a review makes another one after it."""
    desk.review("a")
    newest = desk.review("a", deleted=True)
    assert desk.documents.reviews == 1
    assert desk.take() is newest
    again = desk.review("a")
    assert desk.take() is None
    desk.finish(newest)
    assert desk.drain() == [again]
