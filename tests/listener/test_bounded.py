"""Any number of sign-ups of any kind takes only a bounded amount of memory, disk and requests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from peruserd.core.common.names import user_document_id
from peruserd.core.feed import intake as intake_module
from peruserd.core.feed.changes import Change
from peruserd.core.feed.lanes import Lane
from peruserd.core.feed.progress import Identity, SavedProgress
from peruserd.core.feed.rows import PAGE_ROWS, Page, Row
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.ownership.ranges import WHOLE_SPACE
from peruserd.core.scheduling import documents as documents_module
from peruserd.core.users.quarantine import RESTLESS_DATABASE, UNSERVABLE_NAME, Failure
from peruserd.listener import change_tracker as tracker_module
from peruserd.listener.outcome import Outcome
from peruserd.listener.store import Store
from tests.listener.clocks import Clock
from tests.listener.states import ALREADY, FAILED, MADE, MINE, REVOKED, SETTLED, TOO_LONG, Feed, listening
from tests.listener.trackers import make_tracker

# Names that can have no database


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A state file of a range that was scanned."""
    opened = Store.open(tmp_path / "copy.sqlite")
    opened.save(SETTLED)
    yield opened
    opened.close()


def test_ids_of_any_length_never_wait() -> None:
    """Such an id can have megabytes, so it is only counted when it is read, and other users are served."""
    feed = Feed(listening())
    feed.enter("x" * 1_000_000, "ann", "y" * 400)
    feed.enter("x" * 1_000_000, deleted=True)
    assert feed.state.counters.failures == {UNSERVABLE_NAME: 2}
    assert [each.document_id for each in feed.work(MADE, 1.0)] == [user_document_id("ann")]
    assert feed.state.intake.progress is not None
    assert feed.state.intake.progress.checkpoint == 4


def test_a_hundred_thousand_names_that_are_too_long_leave_nothing_behind(store: Store) -> None:
    """Each is counted, none is kept in memory or on disk, and the checkpoint goes past them."""
    tracker = make_tracker(ownership=MINE, share=1, store=store)
    tracker.open(Identity("copy", 100_000))
    for page in range(100):
        first = page * PAGE_ROWS + 1
        rows = [Row(seq, user_document_id(f"{seq:0>200}")) for seq in range(first, first + PAGE_ROWS)]
        tracker.enter_live(Page(rows, rows[-1].seq))
        for _ in rows:
            change = tracker.take()
            assert change is not None
            tracker.give_back(change, TOO_LONG)
        assert len(tracker._state.documents) == 0
    tracker.save()
    report = tracker.report()
    assert report.counters.failures == {"unservable_name": 100_000}
    assert (report.quarantined, report.checkpoint) == (0, 100_000)
    saved, kept, doubts = store.load()
    assert (saved is not None and saved.checkpoint, kept, doubts) == (100_000, [], set())


# Users who come and go


def test_a_user_who_comes_and_goes_all_the_time_is_acted_on_once_a_minute() -> None:
    """Ten changes a second for an hour cause five actions at once, then one a minute, and one for the last change."""
    feed = Feed(listening())
    acted: list[Change] = []
    now = 0.0
    for number in range(36_000):
        now = number / 10
        feed.enter("ann", deleted=number % 2 == 1, now=now)
        acted += feed.work(MADE, now)
    assert 60 <= len(acted) <= 60 + 6
    last = feed.work(MADE, now + 60.0)
    assert [change.deleted for change in last] == [True]
    assert feed.state.report().checkpoint == 36_000
    assert len(feed.state.documents) == 1


def test_a_user_who_rests_holds_up_nobody() -> None:
    """Others are served meanwhile, and the waiting changes of restless users do not stop the reading."""
    feed = Feed(listening())
    for number in range(10):
        feed.enter("ann", deleted=number % 2 == 1)
        feed.work(MADE, 0.0)
    assert feed.state.documents.parked == 1
    assert feed.state.queue_due(1.0) == 60.0
    feed.enter("bob")
    assert [change.document_id for change in feed.work(MADE, 1.0)] == [user_document_id("bob")]


def test_a_database_that_another_program_always_deletes_is_made_once_a_minute() -> None:
    """The two programs undo each other for an hour; the metric counts it, and new users are served meanwhile."""
    feed = Feed(listening())
    made: list[Change] = []
    for second in range(3_600):
        feed.state.look([user_document_id("ann")], Lane.OTHERS, float(second))
        made += feed.work(MADE, float(second))
    assert 60 <= len(made) <= 60 + 3
    assert feed.state.counters.failures == {RESTLESS_DATABASE: len(made) - 2}
    assert feed.state.restless_documents == [user_document_id("ann")] * (len(made) - 2)
    feed.enter("bob", now=3_600.0)
    assert [change.document_id for change in feed.work(MADE, 3_600.0)] == [user_document_id("bob")]


@pytest.mark.parametrize("waits", ["nothing", "a row", "a look of the audit"])
def test_an_operator_does_not_wait_for_the_rest_of_a_restless_user(waits: str) -> None:
    """A requested look is done before the minute is over, together with what has waited; then the user rests again."""
    ann = [user_document_id("ann")]
    feed = Feed(listening())
    for number in range(6):
        feed.enter("ann", deleted=number % 2 == 0)
        feed.work(MADE, 0.0)
    assert len(feed.work(ALREADY, 60.0)) == 1
    if waits == "a row":
        feed.enter("ann", now=61.0)
    elif waits == "a look of the audit":
        feed.state.look(ann, Lane.AUDIT, 61.0)
    assert feed.work(ALREADY, 61.0) == []
    feed.state.look(ann, Lane.OPERATOR, 62.0, 1)
    looked = feed.work(ALREADY, 62.0)
    assert [(each.document_id, each.is_of_operator) for each in looked] == [(ann[0], True)]
    assert feed.state.looked == 1
    feed.enter("ann", now=63.0)
    assert feed.work(ALREADY, 63.0) == []
    assert len(feed.work(ALREADY, 122.0)) == 1


def test_users_who_sign_up_are_no_fight() -> None:
    """Users whose database is made for the first time take no memory."""
    feed = Feed(listening())
    feed.enter(*(f"user-{number}" for number in range(20)))
    feed.work(MADE, 0.0)
    assert feed.state.counters.failures == {}
    assert len(feed.state.dispatch._restless.watched) == 0


def test_an_operator_is_told_of_a_program_that_always_deletes_a_database(store: Store) -> None:
    """The log names the user's document, once for each time that the database is made."""
    tracker = make_tracker(ownership=MINE, share=1, store=store)
    tracker.open(Identity("copy", 0))
    with capture_logs() as lines:
        for _ in range(3):
            tracker.look([user_document_id("ann")], Lane.OPERATOR)
            change = tracker.take()
            assert change is not None
            tracker.give_back(change, MADE)
    told = [each for each in lines if each.get("kind") == RESTLESS_DATABASE]
    assert [each["document"] for each in told] == [user_document_id("ann")]


def test_a_restless_user_who_is_lost_is_let_go() -> None:
    """The reserved place is given back, and the next owner acts."""
    feed = Feed(listening())
    for number in range(10):
        feed.enter("ann", deleted=number % 2 == 1)
        feed.work(MADE, 0.0)
    theirs = Ownership("_users", WHOLE_SPACE, ((WHOLE_SPACE, ("me", "other")),), ("other",))
    feed.state.inform(theirs, None, 8, 0, (), 1.0, cut_off=False)
    assert feed.state.report().checkpoint == 10
    assert feed.state.documents.parked == 0
    assert [each.lane.name for each in feed.work(ALREADY, 100.0)] == ["REVIEW"]


# New databases a minute


def test_new_databases_wait_for_their_minute_in_their_order() -> None:
    """No more new users are served in a minute than the limit allows; the others follow, and none is lost."""
    feed = Feed(listening(new_per_minute=3))
    names = [f"user-{number}" for number in range(10)]
    feed.enter(*names)
    served = [feed.work(MADE, 60.0 * minute) for minute in range(4)]
    assert [len(each) for each in served] == [3, 3, 3, 1]
    assert [change.document_id for each in served for change in each] == [user_document_id(each) for each in names]
    assert feed.state.report().checkpoint == 10


def test_who_waits_longer_for_a_database_goes_before_who_comes_later() -> None:
    """A steady stream of sign-ups does not keep the first of them waiting for ever."""
    feed = Feed(listening(new_per_minute=1))
    feed.enter("a", "b", "c")
    served = feed.work(MADE, 0.0)
    for minute in range(1, 4):
        feed.enter(f"later-{minute}", now=60.0 * minute)
        served += feed.work(MADE, 60.0 * minute)
    assert [change.document_id for change in served] == [user_document_id(each) for each in ("a", "b", "c", "later-1")]


def test_who_needs_no_database_does_not_wait_for_those_who_do() -> None:
    """A deleted user loses access at once, also one who waits for a database. Users with a database do not count."""
    feed = Feed(listening(new_per_minute=2))
    feed.enter(*[f"user-{number}" for number in range(100)])
    feed.work(MADE, 0.0)
    feed.enter("gone", "user-99", deleted=True)
    assert {change.document_id for change in feed.work(REVOKED, 1.0)} == {
        user_document_id("gone"),
        user_document_id("user-99"),
    }
    assert feed.state.queue_due(1.0) == 60.0
    # In so large a crowd the newest users have turns as well.
    assert sorted(change.document_id for change in feed.work(ALREADY, 60.0)) == sorted(
        user_document_id(f"user-{number}") for number in range(2, 99)
    )


def test_who_waits_for_a_database_does_not_stop_the_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading goes on, to find deleted users, up to a limit that keeps the memory small."""
    monkeypatch.setattr(intake_module, "_LIVE_WINDOW", 5)
    monkeypatch.setattr(intake_module, "_PARKED_WINDOW", 20)
    feed = Feed(listening(new_per_minute=1))
    feed.enter(*[f"user-{number}" for number in range(10)])
    feed.work(MADE, 0.0)
    assert feed.state.live_has_room
    feed.enter(*[f"more-{number}" for number in range(20)])
    feed.work(MADE, 0.0)
    assert not feed.state.live_has_room


def test_lifting_the_limit_lets_everybody_go_on() -> None:
    """Users who waited for room are served then."""
    feed = Feed(listening(new_per_minute=1))
    feed.enter("a", "b", "c")
    assert len(feed.work(MADE, 0.0)) == 1
    feed.state.dispatch.limit(8, 0)
    assert len(feed.work(MADE, 0.0)) == 2


@settings(max_examples=50, deadline=None)
@given(
    limit=st.integers(1, 4),
    steps=st.lists(st.tuples(st.sampled_from(["enter", "take", "made", "already", "failed"]), st.floats(0.0, 40.0))),
)
def test_no_minute_sees_more_new_databases_than_allowed(limit: int, steps: list[tuple[str, float]]) -> None:
    """The limit holds for any number of actions under way, and for any order and result of their ends."""
    feed = Feed(listening(new_per_minute=limit))
    now, entered = 0.0, 0
    working: list[Change] = []
    made: list[float] = []
    for step, pause in steps:
        now += pause
        feed.state.queue_due(now)
        if step == "enter":
            feed.enter(f"user-{entered}", now=now)
            entered += 1
        elif step == "take":
            change = feed.state.dispatch.next(now)
            working += [change] if change is not None else []
        elif working and step == "failed":
            change = working.pop(0)
            assert FAILED.failure is not None
            feed.state.failed(change, FAILED, FAILED.failure, now=now, wall=now, chance=0.5)
            feed.state.given_up(change, now, created=False)
        elif working:
            feed.state.succeeded(working.pop(0), MADE if step == "made" else ALREADY, now)
            made += [now] if step == "made" else []
    for begin in made:
        assert sum(begin <= each < begin + 60.0 for each in made) <= limit


# The quarantine


def test_the_quarantine_has_a_bound_and_nobody_is_lost_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without room in the full quarantine is found by a scan of everything, an hour later."""
    monkeypatch.setattr(documents_module, "MAX_QUARANTINED", 3)
    feed = Feed(listening())
    feed.enter(*"abcdef")
    feed.work(FAILED, 0.0)
    state = feed.state
    assert (state.report().quarantined, state.report().checkpoint, len(state.documents)) == (3, 6, 3)
    assert state.intake.progress is not None
    assert state.intake.progress.owed
    assert not state.intake.is_scanning
    feed.work(ALREADY, 3_600.0)
    assert state.report().quarantined == 0
    task = state.scan_task()
    assert task is not None
    assert (task.since, task.wanted(user_document_id("f"))) == (0, True)
    assert not state.intake.progress.owed


def test_a_scan_that_is_owed_is_made_by_the_next_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint has passed users who are remembered nowhere, and the disk says so."""
    monkeypatch.setattr(documents_module, "MAX_QUARANTINED", 1)
    feed = Feed(listening())
    feed.enter("a", "b")
    feed.work(FAILED, 0.0)
    saved = feed.state.intake.progress
    assert saved is not None
    successor = listening(saved=saved)
    task = successor.scan_task()
    assert task is not None
    assert task.since == 0
    assert successor.intake.read == 2


def test_a_user_in_quarantine_stays_there_when_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only users who come while it is full find no room."""
    monkeypatch.setattr(documents_module, "MAX_QUARANTINED", 1)
    feed = Feed(listening())
    feed.enter("a")
    feed.work(FAILED, 0.0)
    feed.work(FAILED, 100.0)
    assert feed.state.report().quarantined == 1
    assert feed.state.intake.progress is not None
    assert not feed.state.intake.progress.owed


# Nodes that are away


def test_a_user_who_waits_for_a_node_is_tried_again_when_it_returns(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users are tried as soon as the node is back, also after a restart; before that hardly ever."""
    clock = Clock()
    monkeypatch.setattr(tracker_module, "time", clock)
    tracker = make_tracker(ownership=MINE, share=1, store=store, nodes=("n1",))
    tracker.open(Identity("copy", 1))
    tracker.enter_live(Page([Row(1, user_document_id("ann"), deleted=True)], 1))
    change = tracker.take()
    assert change is not None
    away = Outcome(failure=Failure("copy_away", "n2 is away", waits_for=("n2",)))
    tracker.give_back(change, away)
    assert [entry.waits_for for entry in store.load()[1]] == [("n2",)]
    clock.now += 29.0
    tracker.queue_due()
    assert tracker.report().waiting == 0
    tracker.inform(MINE, None, 1, nodes=("n1", "n3"))
    tracker.queue_due()
    assert tracker.report().waiting == 0
    tracker.inform(MINE, None, 1, nodes=("n1", "n2", "n3"))
    tracker.queue_due()
    assert tracker.report().waiting == 1


# Memory beside the records


def test_a_page_of_a_scan_that_does_not_come_costs_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many rows can come while a look waits. Then the document is asked for again, and no row is believed."""
    monkeypatch.setattr(documents_module, "_MAX_FRESH", 10)
    state = listening(saved=SavedProgress("copy", 0, MINE, scan=None, owed=True))
    feed = Feed(state)
    state.open(Identity("copy", 1), 0.0)
    task = state.scan_task()
    assert task is not None
    feed.enter(*[f"user-{number}" for number in range(50)])
    assert len(state.documents._fresh) == 0
    feed.work(MADE, 0.0)
    row = Row(1, user_document_id("user-1"), deleted=True)
    assert not state.enter_scan(task, Page([row], 1), (), 0.0)
    assert state.documents.waiting == 0
    again = state.scan_task()
    assert again is not None
    assert again.since == task.since
    assert not state.documents.scan_page_is_void
