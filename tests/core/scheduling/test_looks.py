"""Looks: reasons to act on a user without a row."""

import pytest

from peruserd.core.feed.changes import Change, make_look
from peruserd.core.feed.lanes import Lane
from peruserd.core.scheduling.aftermath import after_success
from peruserd.core.scheduling.arrivals import arrived
from peruserd.core.scheduling.records import EMPTY, Finish, Parked, Queue, replace
from peruserd.core.users.quarantine import Quarantined
from tests.core.desk import Desk
from tests.core.outcomes import RETRY, Outcome

# When a look at what somebody else did may be taken.
LATER = 10.0

LOOKS = (Lane.OTHERS, Lane.OPERATOR, Lane.ROLLOUT, Lane.AUDIT)


def look_at(desk: Desk, document: str, lane: Lane) -> None:
    """Ask for a look that is due, with a ticket."""
    desk.documents.put(make_look(document, lane, -LATER, desk.mark, desk.mark.enter(0)))


@pytest.mark.parametrize("lane", LOOKS)
def test_a_look_believes_nothing(desk: Desk, lane: Lane) -> None:
    """A look at a document at rest is acted on, and asks for every fact."""
    look_at(desk, "a", lane)
    (change,) = desk.drain()
    assert (change.lane, change.contested, change.is_look) == (lane, True, True)
    assert not desk.mark.under_way


def test_reasons_have_an_order(desk: Desk) -> None:
    """The more urgent reason goes first, whenever it came."""
    for lane in reversed(LOOKS):
        look_at(desk, lane.name, lane)
    desk.put("live")
    assert [each.lane for each in desk.drain()] == [Lane.LIVE, *LOOKS]


@pytest.mark.parametrize("lane", [Lane.LIVE, Lane.SCAN, Lane.RETRY])
def test_a_look_ends_with_the_work_that_does_for_it(desk: Desk, lane: Lane) -> None:
    """A process that dies before the work is done is asked for the look again: what it has read again knows less."""
    waiting = desk.put("a", lane)
    look_at(desk, "a", Lane.AUDIT)
    look_at(desk, "a", Lane.OPERATOR)
    desk.put("a")
    assert desk.mark.oldest_ticket == waiting.ticket + 1
    change = desk.take()
    assert change is not None
    assert (change.contested, change.is_of_operator) == (True, True)
    assert desk.mark.under_way
    desk.finish(change)
    assert not desk.mark.under_way


@pytest.mark.parametrize("urgent_first", [True, False])
def test_what_the_operator_wants_is_not_lost_in_a_more_urgent_reason(desk: Desk, urgent_first: bool) -> None:  # noqa: FBT001
    """Only the operator's request creates a reported database again."""
    for lane in sorted((Lane.OTHERS, Lane.OPERATOR), reverse=not urgent_first):
        look_at(desk, "a", lane)
    (change,) = desk.drain()
    assert (change.lane, change.is_of_operator) == (Lane.OTHERS, True)
    assert not desk.mark.under_way


def test_a_look_outlives_a_retry_that_is_forgotten(desk: Desk) -> None:
    """The operator takes the user out of quarantine while a retry waits that was to do for the look as well."""
    desk.documents.put(Change("a", deleted=False, lane=Lane.RETRY, read_at=0.0))
    look_at(desk, "a", Lane.OTHERS)
    desk.documents.release("a")
    (change,) = desk.drain()
    assert (change.lane, desk.mark.under_way) == (Lane.OTHERS, 0)


@pytest.mark.parametrize("lane", [Lane.LIVE, Lane.SCAN, Lane.RETRY])
def test_a_look_makes_what_waits_already_look_at_everything(desk: Desk, lane: Lane) -> None:
    """One act does for both reasons, in the more urgent lane, and believes no row."""
    desk.put("a", lane)
    look_at(desk, "a", Lane.AUDIT)
    (change,) = desk.drain()
    assert (change.lane, change.contested) == (lane, True)
    assert not desk.mark.under_way


def test_a_live_row_takes_the_place_of_a_look_and_looks_at_everything(desk: Desk) -> None:
    """Somebody who signs up does not wait in the lane of the audit."""
    look_at(desk, "a", Lane.AUDIT)
    desk.put("a")
    (change,) = desk.drain()
    assert (change.lane, change.contested) == (Lane.LIVE, True)
    assert not desk.mark.under_way


def test_of_two_looks_the_more_urgent_reason_stays(desk: Desk) -> None:
    """A document waits once, however many reasons there are."""
    look_at(desk, "a", Lane.AUDIT)
    look_at(desk, "a", Lane.OTHERS)
    look_at(desk, "a", Lane.ROLLOUT)
    assert [each.lane for each in desk.drain()] == [Lane.OTHERS]
    assert not desk.mark.under_way


@pytest.mark.parametrize("lane", LOOKS)
def test_a_look_waits_for_work_that_began_before_it(desk: Desk, lane: Lane) -> None:
    """The work under way can have read what mattered before it was changed, even if it looks at everything."""
    look_at(desk, "a", Lane.OTHERS)
    first = desk.take()
    assert first is not None
    look_at(desk, "a", lane)
    assert desk.take() is None
    desk.finish(first)
    assert [each.lane for each in desk.drain()] == [lane]


def test_a_look_that_was_held_for_want_of_room_is_not_stuck() -> None:
    """A look without room for a new database is replaced by a more urgent reason, in that reason's lane."""
    waiting = make_look("a", Lane.AUDIT, 0.0)
    record = replace(EMPTY, waiting=waiting, parked=Parked.LIMIT)
    look = make_look("a", Lane.OPERATOR, 1.0)
    after, effects = arrived(record, look)
    assert (after.waiting, after.parked) == (look, None)
    assert effects == (Finish(waiting), Queue(Lane.OPERATOR))


def test_a_look_leaves_a_document_alone_that_another_instance_will_own() -> None:
    """A document that is held for its upcoming owner stays held."""
    record = replace(EMPTY, waiting=make_look("a", Lane.AUDIT, 0.0), parked=Parked.OWNER)
    after, effects = arrived(record, make_look("a", Lane.OTHERS, 1.0))
    assert after.parked is Parked.OWNER
    assert Queue(Lane.OTHERS) not in effects


def test_looks_go_at_the_pace_of_a_scan(desk: Desk) -> None:
    """Looks take only a part of the work in flight, however many are asked for."""
    desk.dispatch.limit(4)
    for name in "abcd":
        look_at(desk, name, Lane.OTHERS)
    assert desk.take() is not None
    assert desk.take() is not None
    assert desk.take() is None
    assert desk.put("live") is desk.take()


def test_somebody_elses_deed_is_looked_at_once_it_has_settled(desk: Desk) -> None:
    """A database that is put back is deleted and made again: the look comes after both, within seconds."""
    desk.documents.put(make_look("a", Lane.OTHERS, 0.0))
    assert desk.dispatch.next(0.1) is None
    due = desk.dispatch.next_due(0.1)
    assert due is not None
    assert 0.1 < due < LATER
    assert desk.dispatch.next(due - 0.01) is None
    change = desk.dispatch.next(due)
    assert change is not None
    assert change.lane is Lane.OTHERS


def test_somebody_who_signs_up_does_not_wait_for_it(desk: Desk) -> None:
    """A live row of a document that is left alone for a moment is acted on at once, and looks at everything."""
    desk.documents.put(make_look("a", Lane.OTHERS, 0.0, desk.mark, desk.mark.enter(0)))
    assert desk.dispatch.next(0.1) is None
    desk.put("a")
    change = desk.dispatch.next(0.1)
    assert change is not None
    assert (change.lane, change.contested) == (Lane.LIVE, True)
    desk.finish(change)
    assert not desk.mark.under_way
    assert desk.dispatch.next(LATER) is None


def test_a_look_outlives_the_quarantine_that_ends_before_it(desk: Desk) -> None:
    """Work that began before the look serves the user, and takes only the retry with it."""
    review = desk.review("a")
    assert desk.take() is review
    desk.documents.put(Change("a", deleted=False, lane=Lane.RETRY, read_at=0.0))
    look_at(desk, "a", Lane.OTHERS)
    record = desk.documents.record("a")
    kept = Quarantined("a", deleted=False, failure=RETRY, failures=1, since=0.0)
    after, _ = after_success(replace(record, kept=kept), Outcome(provisioned=True), 0.0, recall=True)
    assert after.kept is None
    assert after.waiting is not None
    assert (after.waiting.lane, desk.mark.under_way) == (Lane.OTHERS, 1)


def test_a_look_whose_end_matters_is_not_closed_by_one_whose_end_does_not(desk: Desk) -> None:
    """The ticket goes with the waiting look, and is given back when that look is done."""
    desk.documents.put(make_look("a", Lane.OTHERS, -LATER))
    look_at(desk, "a", Lane.OTHERS)
    assert desk.mark.under_way == 1
    assert [each.lane for each in desk.drain()] == [Lane.OTHERS]
    assert desk.mark.under_way == 0


def test_a_user_who_failed_is_not_judged_while_a_review_is_under_way(desk: Desk) -> None:
    """The end of the review must not count as the end of the failed work. The user tries again."""
    change = desk.put("a")
    assert desk.take() is change
    desk.documents.set_aside(change, RETRY, 0.0, parked=True)
    desk.dispatch.ended(change, 0.0)
    review = desk.review("a")
    assert desk.take() is review
    assert desk.documents.take_set_aside(1.0) == []
    assert desk.documents.record("a").active is review
    desk.finish(review)
    assert desk.take() is change
    assert not desk.is_finished(change)
