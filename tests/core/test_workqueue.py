from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from peruserd.core.watermark import Watermark
from peruserd.core.workqueue import Change, Lane, WorkQueue


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
    """A queue whose changes know when they were made: `read_at` is the document's own version number."""

    def __init__(self) -> None:
        self.queue = WorkQueue()
        self.mark = Counting()

    def put(self, document: str, lane: Lane = Lane.LIVE, version: int = 0) -> Change:
        """Put a change with a ticket of its own."""
        change = Change(
            document, deleted=False, lane=lane, read_at=float(version), watermark=self.mark, ticket=self.mark.enter(0)
        )
        self.queue.put(change)
        return change

    def is_finished(self, change: Change) -> bool:
        """Say whether a change's ticket was given back."""
        return self.mark.finishes[change.ticket] == 1

    def take(self) -> Change | None:
        """Take the next change."""
        return self.queue.take()

    def drain(self) -> list[Change]:
        """Take and finish everything."""
        taken = []
        while (change := self.queue.take()) is not None:
            taken.append(change)
            self.queue.finish(change)
        return taken


@pytest.fixture
def desk() -> Desk:
    """An empty queue."""
    return Desk()


def test_changes_are_taken_in_the_order_they_came(desk: Desk) -> None:
    """Within a lane, first come is first served."""
    put = [desk.put(document) for document in "abc"]
    assert desk.drain() == put


def test_the_most_urgent_lane_goes_first(desk: Desk) -> None:
    """Live changes are taken before what is tried again, and that before a scan's, whenever they came."""
    scan = desk.put("a", Lane.SCAN)
    retry = desk.put("b", Lane.RETRY)
    live = desk.put("c", Lane.LIVE)
    assert desk.drain() == [live, retry, scan]


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
    assert desk.queue.has_waiting("a")
    assert desk.take() is other
    assert desk.take() is None
    desk.queue.finish(first)
    assert desk.take() is second


def test_changes_that_wait_collapse_into_the_newest(desk: Desk) -> None:
    """Of several changes of one document only the newest is acted on; the others' tickets are given back at once."""
    old, older = desk.put("a"), desk.put("a")
    newest = desk.put("a")
    assert desk.is_finished(old)
    assert desk.is_finished(older)
    assert not desk.is_finished(newest)
    assert desk.queue.waiting == 1
    assert desk.drain() == [newest]


def test_a_ticket_is_kept_until_the_work_is_done(desk: Desk) -> None:
    """Neither waiting nor being worked on lets the checkpoint pass; only the end of the work does."""
    change = desk.put("a")
    assert desk.mark.under_way == 1
    desk.take()
    assert desk.mark.under_way == 1
    desk.queue.finish(change)
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
        desk.queue.finish(earlier)
    assert desk.drain() == ([later] if acted_on else [] if active else [earlier])


def test_a_scans_page_is_void_where_live_changes_came_meanwhile(desk: Desk) -> None:
    """A row asked for before a live change of its document arrived can be older, even when that one is done already."""
    desk.queue.scan_page_requested()
    desk.put("a")
    desk.drain()
    stale, fine = desk.put("a", Lane.SCAN), desk.put("b", Lane.SCAN)
    assert desk.is_finished(stale)
    assert desk.drain() == [fine]


def test_the_next_page_of_a_scan_is_asked_for_after_that(desk: Desk) -> None:
    """What came before a page was asked for is on that page; nothing there is void."""
    desk.queue.scan_page_requested()
    desk.put("a")
    desk.drain()
    desk.queue.scan_page_requested()
    row = desk.put("a", Lane.SCAN)
    assert desk.drain() == [row]


def test_live_changes_are_not_remembered_outside_a_scan(desk: Desk) -> None:
    """With no page on its way there is nothing to make void, and nothing piles up."""
    desk.put("a")
    desk.drain()
    desk.queue.scan_page_requested()
    desk.queue.scan_finished()
    desk.put("b")
    desk.drain()
    assert not desk.queue._fresh
    rows = [desk.put(document, Lane.SCAN) for document in "ab"]
    assert desk.drain() == rows


def test_what_waits_for_a_lost_document_is_finished(desk: Desk) -> None:
    """Changes of documents that are not wanted any more do not wait, nor hold the checkpoint back."""
    lost, kept = desk.put("a"), desk.put("b")
    desk.queue.release_unless(lambda document: document == "b")
    assert desk.is_finished(lost)
    assert desk.queue.waiting == 1
    assert desk.drain() == [kept]


def test_work_begun_before_a_loss_makes_nothing_void(desk: Desk) -> None:
    """A scan that meets a lost and regained document again is acted on after the work that was under way all along."""
    old = desk.put("a")
    desk.take()
    desk.queue.release_unless(lambda _: False)
    row = desk.put("a", Lane.SCAN)
    assert desk.take() is None
    desk.queue.finish(old)
    assert desk.drain() == [row]
    # From then on everything is as for any other document.
    live = desk.put("a")
    desk.take()
    assert desk.is_finished(desk.put("a", Lane.SCAN))
    desk.queue.finish(live)


class QueueMachine(RuleBasedStateMachine):
    """Documents that change, a live lane and a scan that read them, and workers, in any order.

    A change's `read_at` is the version of its document that it shows; both lanes read the same copy.
    """

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk()
        self.versions = dict.fromkeys("abc", 0)
        self.live_seen = dict.fromkeys("abc", 0)
        self.page: dict[str, int] | None = None
        self.acted = dict.fromkeys("abc", 0)
        self.put: list[Change] = []
        self.working: list[Change] = []

    @rule(document=st.sampled_from("abc"))
    def change(self, document: str) -> None:
        self.versions[document] += 1

    @rule(document=st.sampled_from("abc"))
    def enter_live(self, document: str) -> None:
        if self.live_seen[document] < self.versions[document]:
            self.live_seen[document] = self.versions[document]
            self.put.append(self.desk.put(document, Lane.LIVE, self.versions[document]))

    @precondition(lambda self: self.page is None)
    @rule()
    def request_and_read_page(self) -> None:
        self.desk.queue.scan_page_requested()
        # A scan reads what the live lane has read or is yet to read.
        self.page = dict(self.versions)

    @precondition(lambda self: self.page is not None)
    @rule()
    def enter_page(self) -> None:
        assert self.page is not None
        for document, version in self.page.items():
            self.put.append(self.desk.put(document, Lane.SCAN, version))
        self.page = None

    @precondition(lambda self: self.page is not None)
    @rule()
    def end_scan(self) -> None:
        self.page = None
        self.desk.queue.scan_finished()

    @rule(document=st.sampled_from("abc"))
    def retry(self, document: str) -> None:
        self.put.append(self.desk.put(document, Lane.RETRY, self.acted[document]))

    @rule()
    def take(self) -> None:
        change = self.desk.take()
        if change is None:
            return
        document = change.document_id
        assert document not in {each.document_id for each in self.working}
        # A retry is of what was tried before, and stands aside for whatever is newer.
        if change.lane is not Lane.RETRY:
            assert change.read_at >= self.acted[document], "an older change was acted on after a newer one"
            self.acted[document] = int(change.read_at)
        self.working.append(change)

    @precondition(lambda self: self.working)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self.desk.queue.finish(self.working.pop(data.draw(st.integers(0, len(self.working) - 1))))

    @invariant()
    def every_ticket_is_given_back_at_most_once(self) -> None:
        assert all(count == 1 for count in self.desk.mark.finishes.values())
        held = self.desk.queue.waiting + self.desk.queue.active
        assert self.desk.mark.under_way == held
        assert self.desk.queue.active == len(self.working)

    def teardown(self) -> None:
        for change in self.working:
            self.desk.queue.finish(change)
        for change in self.desk.drain():
            if change.lane is not Lane.RETRY:
                self.acted[change.document_id] = int(change.read_at)
        assert all(self.desk.is_finished(change) for change in self.put)
        assert self.desk.queue.waiting == self.desk.queue.active == 0
        for document, version in self.live_seen.items():
            assert self.acted[document] >= version, "a live change was skipped"


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
