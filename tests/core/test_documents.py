from collections import Counter

import pytest

from peruserd.core.changes import Change, Lane
from peruserd.core.dispatch import Dispatch
from peruserd.core.documents import Documents
from peruserd.core.watermark import Watermark


class Counting(Watermark):
    """A watermark that counts how often each ticket was given back."""

    def __init__(self) -> None:
        super().__init__(0)
        self.finishes: Counter[int] = Counter()

    def finish(self, ticket: int) -> None:
        """Count, and give back."""
        self.finishes[ticket] += 1
        super().finish(ticket)


class Desk:
    """Documents and what gives them out; changes know when they were made: `read_at` is the document's own version."""

    def __init__(self, share: int = 100) -> None:
        self.documents = Documents((), (), recall_seconds=30.0, now=0.0)
        self.dispatch = Dispatch(self.documents, share)
        self.mark = Counting()

    def put(self, document: str, lane: Lane = Lane.LIVE, version: int = 0, *, deleted: bool = False) -> Change:
        """Put a change with a ticket of its own."""
        change = Change(
            document,
            deleted=deleted,
            lane=lane,
            read_at=float(version),
            watermark=self.mark,
            ticket=self.mark.enter(0),
            met_in_scan=lane is Lane.SCAN,
        )
        self.documents.put(change)
        return change

    def review(self, document: str, *, deleted: bool = False) -> Change:
        """Ask for a review, which has no ticket."""
        self.documents.review(document, deleted=deleted, now=0.0)
        review = self.documents.record(document).review
        assert review is not None
        return review

    def is_finished(self, change: Change) -> bool:
        """Say whether a change's ticket was given back."""
        return self.mark.finishes[change.ticket] == 1

    def take(self) -> Change | None:
        """Take the next change."""
        return self.dispatch.next(0.0)

    def finish(self, change: Change) -> None:
        """End the work on a change."""
        self.documents.end(change)
        self.dispatch.ended(change, 0.0)

    def drain(self) -> list[Change]:
        """Take and finish everything."""
        taken = []
        while (change := self.take()) is not None:
            taken.append(change)
            self.finish(change)
        return taken

    def has_waiting(self, document: str) -> bool:
        """Say whether a change of the document waits."""
        return self.documents.record(document).waiting is not None


def tickets(changes: list[Change]) -> list[tuple[int, bool]]:
    """Return which rows were acted on, and whether as contested."""
    return [(each.ticket, each.contested) for each in changes]


@pytest.fixture
def desk() -> Desk:
    """An empty queue."""
    return Desk()


def test_changes_are_taken_in_the_order_they_came(desk: Desk) -> None:
    """Within a lane, first come is first served."""
    put = [desk.put(document) for document in "abc"]
    assert desk.drain() == put


def test_the_most_urgent_lane_goes_first(desk: Desk) -> None:
    """Live changes are taken before what is tried again, that before reviews, and a scan's last, whenever they came."""
    scan = desk.put("a", Lane.SCAN)
    review = desk.review("d")
    retry = desk.put("b", Lane.RETRY)
    live = desk.put("c", Lane.LIVE)
    assert desk.drain() == [live, retry, review, scan]


def test_a_scan_takes_no_more_than_its_part(desk: Desk) -> None:
    """However much it finds, others have room beside it; what is finished makes room for the next."""
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


def test_nothing_to_do_is_none(desk: Desk) -> None:
    """An empty queue gives nothing, and one whose every document is under way neither."""
    assert desk.take() is None
    desk.put("a")
    assert desk.take() is not None
    desk.put("a")
    assert desk.take() is None


def test_one_document_is_worked_on_by_one_worker(desk: Desk) -> None:
    """A change that comes while its document is worked on waits for the end of that work, and is next then."""
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
    """Of several changes of one document only the newest is acted on; the others' tickets are given back at once."""
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


LANES = [Lane.LIVE, Lane.RETRY, Lane.SCAN]


@pytest.mark.parametrize("deleted_first", [False, True], ids=["live-first", "tombstone-first"])
@pytest.mark.parametrize("first", LANES)
@pytest.mark.parametrize("second", LANES)
def test_rows_of_both_kinds_that_wait_are_contested(
    desk: Desk,
    first: Lane,
    second: Lane,
    deleted_first: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Two documents can be shown under one id: whichever row is acted on, it says that there was another one."""
    desk.put("a", first, deleted=deleted_first)
    desk.put("a", second, deleted=not deleted_first)
    assert [change.contested for change in desk.drain()] == [True]
    desk.put("a", second, deleted=not deleted_first)
    assert [change.contested for change in desk.drain()] == [False]


@pytest.mark.parametrize("deleted_first", [False, True], ids=["live-first", "tombstone-first"])
@pytest.mark.parametrize("first", LANES)
@pytest.mark.parametrize("second", LANES)
def test_a_row_of_the_other_kind_is_never_passed_over_for_work_under_way(
    desk: Desk,
    first: Lane,
    second: Lane,
    deleted_first: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """The work under way knows nothing of it, so it waits, however little it tells, and is contested."""
    begun = desk.put("a", first, deleted=deleted_first)
    assert desk.take() is begun
    later = desk.put("a", second, deleted=not deleted_first)
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


def test_an_old_tombstone_is_known_for_one_when_a_live_row_contests_it(desk: Desk) -> None:
    """Whatever row is acted on, a database is not dropped for a tombstone that a scan has found."""
    desk.put("a", Lane.SCAN, deleted=True)
    desk.put("a")
    assert [(each.contested, each.met_in_scan) for each in desk.drain()] == [(True, True)]
    desk.put("b", Lane.SCAN)
    desk.put("b", deleted=True)
    assert [(each.contested, each.met_in_scan) for each in desk.drain()] == [(True, False)]


def test_the_next_page_of_a_scan_is_asked_for_after_that(desk: Desk) -> None:
    """What came before a page was asked for is on that page; nothing there is void."""
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
    """A scan that meets a lost and regained document again is acted on after the work that was under way all along."""
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


def test_what_is_held_back_waits_and_holds_up_nobody_else(desk: Desk) -> None:
    """A document about to move is left alone; those that come after it are taken, and its ticket is kept."""
    held, other = desk.put("a"), desk.put("b")
    desk.dispatch.hold_back(lambda document: document == "a")
    assert desk.drain() == [other]
    assert desk.has_waiting("a")
    assert (desk.documents.waiting, desk.documents.held, desk.mark.under_way) == (1, 1, 1)
    assert not desk.is_finished(held)


@pytest.mark.parametrize("lane", [Lane.LIVE, Lane.RETRY, Lane.SCAN])
def test_what_was_held_back_goes_on_when_it_need_not_wait_any_more(desk: Desk, lane: Lane) -> None:
    """Whichever lane it came by, it is taken once nobody holds it back, and nothing counts as held any more."""
    held = desk.put("a", lane)
    desk.dispatch.hold_back(lambda _: True)
    assert desk.drain() == []
    desk.dispatch.hold_back(lambda _: False)
    assert desk.documents.held == 0
    assert desk.drain() == [held]


def test_what_is_held_back_is_judged_anew_each_time(desk: Desk) -> None:
    """Another set of documents to hold back lets the former go, and keeps what is in both."""
    first, second, third = desk.put("a"), desk.put("b"), desk.put("c")
    desk.dispatch.hold_back(lambda document: document in "ab")
    assert desk.drain() == [third]
    desk.dispatch.hold_back(lambda document: document in "bc")
    late = desk.put("c")
    assert desk.drain() == [first]
    assert desk.documents.held == 2
    desk.dispatch.hold_back(lambda _: False)
    assert set(desk.drain()) == {second, late}


def test_a_newer_change_takes_the_place_of_one_held_back(desk: Desk) -> None:
    """Of a document held back the newest change alone is acted on in the end, once."""
    old = desk.put("a")
    desk.dispatch.hold_back(lambda _: True)
    assert desk.drain() == []
    new = desk.put("a")
    assert desk.is_finished(old)
    assert desk.drain() == []
    assert (desk.documents.waiting, desk.documents.held) == (1, 1)
    desk.dispatch.hold_back(lambda _: False)
    assert desk.drain() == [new]


def test_work_begun_before_is_not_held_back_and_its_successor_is(desk: Desk) -> None:
    """Holding back takes nothing out of a worker's hands; what follows it in the same document waits."""
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
    assert (desk.documents.waiting, desk.documents.held, desk.drain()) == (0, 0, [])


def test_reviews_are_never_held_back(desk: Desk) -> None:
    """A review is of what was done already, so it is made whoever owns the document by now."""
    held = desk.put("a")
    review = desk.review("a")
    desk.dispatch.hold_back(lambda _: True)
    assert desk.drain() == [review]
    assert (desk.documents.reviews, desk.documents.waiting) == (0, 1)
    desk.dispatch.hold_back(lambda _: False)
    assert desk.drain() == [held]


def test_reviews_outlive_the_loss_of_their_document(desk: Desk) -> None:
    """What others own by now is what they are for."""
    review = desk.review("a")
    desk.documents.lose_unless(lambda _: False, 0.0)
    assert desk.documents.reviews == 1
    assert desk.drain() == [review]


def test_a_review_and_a_change_of_one_document_are_not_worked_on_at_once(desk: Desk) -> None:
    """Whichever is begun, the other waits for its end; neither makes the other void."""
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


def test_reviews_of_one_document_collapse_into_the_newest(desk: Desk) -> None:
    """Asked for twice, it is made once, about what was done last; asked for while it is made, once more after that."""
    desk.review("a")
    newest = desk.review("a", deleted=True)
    assert desk.documents.reviews == 1
    assert desk.take() is newest
    again = desk.review("a")
    assert desk.take() is None
    desk.finish(newest)
    assert desk.drain() == [again]
