from typing import Any

import msgspec
import pytest

from peruserd.core.feed.changes import Change
from peruserd.core.feed.lanes import Lane
from peruserd.core.scheduling import arrivals, records
from peruserd.core.scheduling.aftermath import after_failure, after_success
from peruserd.core.scheduling.records import EMPTY, Erasure, Finish, Keep, Parked, Queue, Record, Remind, State
from peruserd.core.users.quarantine import UNCONFIRMED, UNSERVABLE_NAME, Advice, Failure, Quarantined
from tests.core.outcomes import RECALL, RETRY, Outcome

NODES = frozenset({"n1", "n2"})


def change(lane: Lane = Lane.LIVE, *, deleted: bool = False, contested: bool = False) -> Change:
    """Return a change of ann's document."""
    return Change("ann", deleted, lane, 0.0, contested=contested)


def working(lane: Lane = Lane.LIVE, **more: Any) -> Record:
    """Return a record that a worker has."""
    return Record(active=change(lane), **more)


def entry(failure: Failure = RETRY, *, deleted: bool = False, failures: int = 1) -> Quarantined:
    """Return an entry of the quarantine."""
    return Quarantined("ann", deleted, failure, failures, since=7.0)


# The states


@pytest.mark.parametrize(
    ("record", "state"),
    [
        (Record(waiting=change()), State.WAITING),
        (Record(waiting=change(), parked=Parked.OWNER), State.PARKED),
        (Record(waiting=change(), parked=Parked.OWNER, review=change(Lane.REVIEW)), State.WAITING),
        (Record(review=change(Lane.REVIEW)), State.WAITING),
        (working(), State.WORKING),
        (working(waiting=change()), State.WORKING_NEWER),
        (working(review=change(Lane.REVIEW)), State.WORKING_NEWER),
        (Record(kept=entry()), State.QUARANTINED),
        (Record(kept=entry(), in_doubt=True), State.QUARANTINED),
        (Record(failed_review=entry()), State.QUARANTINED),
        (Record(in_doubt=True), State.IN_DOUBT),
        (Record(acted=records.Act(deleted=True, at=0.0)), State.RECENT),
    ],
)
def test_the_state_follows_from_what_is_known(record: Record, state: State) -> None:
    """A document is in one state, whatever else is remembered of it."""
    assert record.state is state
    assert not record.is_at_rest


def test_a_document_at_rest_has_nothing_to_remember() -> None:
    """Only then may its record be forgotten."""
    assert EMPTY.is_at_rest


# One document's way


def test_a_change_is_worked_on_and_forgotten() -> None:
    """A change is read, taken and acted on. It is remembered for a while and then forgotten."""
    first = change()
    record, effects = arrivals.arrived(EMPTY, first)
    assert effects == (Queue(Lane.LIVE),)
    record = records.taken(record, Lane.LIVE)
    assert record.active is first
    record, removal = after_success(record, Outcome(acted_on=False), 5.0, recall=True)
    assert removal is None
    record, effects = records.ended(record)
    assert effects == (Finish(first),)
    assert record.state is State.RECENT
    assert records.expired(record, 4.0) is record
    assert records.expired(record, 5.0).is_at_rest


def test_what_failed_is_on_disk_before_its_ticket_is_given_back() -> None:
    """The entry is asked for while the work is still under way."""
    record, effects = after_failure(working(), RETRY, is_mine=True, nodes=NODES, now=10.0, wall=1000.0, chance=0.5)
    assert record.active is not None
    kept, remind = effects
    assert isinstance(kept, Keep)
    assert (kept.entry.failures, kept.entry.since, kept.entry.deleted) == (1, 1000.0, False)
    assert remind == Remind(10.5)
    record, _ = records.ended(record)
    assert record.state is State.QUARANTINED
    record, effects = arrivals.retried(record, "ann", 10.4)
    assert effects == ()
    record, effects = arrivals.retried(record, "ann", 10.5)
    assert effects == (Queue(Lane.RETRY),)
    assert record.waiting is not None
    assert record.due is None


def test_failures_in_a_row_lengthen_the_wait_up_to_ten_minutes() -> None:
    """Each failure of the same change doubles its bound; the first date is kept."""
    record = working()
    bounds = []
    for count in range(1, 13):
        record, _ = after_failure(record, RETRY, is_mine=True, nodes=NODES, now=0.0, wall=1000.0 + count, chance=0.999)
        assert record.kept is not None
        assert record.due is not None
        assert (record.kept.failures, record.kept.since) == (count, 1001.0)
        bounds.append(record.due / 0.999)
    assert bounds[:3] == pytest.approx([1.0, 2.0, 4.0])
    assert bounds[-1] == pytest.approx(600.0)


def test_another_kind_of_change_begins_anew() -> None:
    """A user who failed to be served and is deleted then fails for the first time."""
    record = Record(active=change(deleted=True), kept=entry(failures=5))
    record, _ = after_failure(record, RETRY, is_mine=True, nodes=NODES, now=0.0, wall=2000.0, chance=0.5)
    assert record.kept is not None
    assert (record.kept.failures, record.kept.since, record.kept.deleted) == (1, 2000.0, True)


def test_what_only_an_operator_can_mend_is_tried_rarely() -> None:
    """Nobody decides within seconds. A refusal that can be the cluster's ends with it, and is tried as others are."""
    asked = Failure("held", "words", Advice.ASK_OPERATOR)
    record, _ = after_failure(working(), asked, is_mine=True, nodes=NODES, now=0.0, wall=0.0, chance=0.5)
    assert record.due == 30.0
    closed = Failure("unauthorized", "401", Advice.ASK_OPERATOR)
    record, _ = after_failure(working(), closed, is_mine=True, nodes=NODES, now=0.0, wall=0.0, chance=0.5)
    assert record.due == 0.5


def test_what_cannot_be_served_is_kept_and_not_tried_again() -> None:
    """A failure for good is there for people to see."""
    given_up = Failure("too_large", "too large", Advice.GIVE_UP)
    record, effects = after_failure(working(), given_up, is_mine=True, nodes=NODES, now=0.0, wall=0.0, chance=0.5)
    assert [type(each) for each in effects] == [Keep]
    assert (records.ended(record)[0].state, record.due) == (State.QUARANTINED, None)


@pytest.mark.parametrize("kept", [None, entry()], ids=["new", "known"])
def test_a_failure_that_follows_from_the_name_is_not_kept(kept: Quarantined | None) -> None:
    """Nothing could ever help, so nothing is remembered of it."""
    failure = Failure(UNSERVABLE_NAME, "too long", Advice.GIVE_UP)
    record, effects = after_failure(
        working(kept=kept), failure, is_mine=True, nodes=NODES, now=0.0, wall=0.0, chance=0.5
    )
    assert effects == (() if kept is None else (Erasure.ENTRY,))
    assert records.ended(record)[0].is_at_rest


@pytest.mark.parametrize(
    ("record", "is_mine"),
    [(working(waiting=change()), True), (working(), False)],
    ids=["something-newer", "another-owner"],
)
def test_a_failure_gives_way(record: Record, is_mine: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Where something newer waits, or somebody else owns the document, the failure is not kept."""
    assert after_failure(record, RETRY, is_mine=is_mine, nodes=NODES, now=0.0, wall=0.0, chance=0.5) == (record, ())


AWAY = Failure("copy_away", "n3 is away", waits_for=("n3", "n4"))


def test_what_waits_for_a_node_is_tried_with_long_pauses() -> None:
    """Each try is in vain until the node is back: half a minute at least, an hour at most, whatever the chance."""
    record = working()
    waits = []
    for _ in range(12):
        record, _ = after_failure(record, AWAY, is_mine=True, nodes=NODES, now=0.0, wall=0.0, chance=0.0)
        waits.append(record.due)
    assert waits[:3] == [30.0, 60.0, 120.0]
    assert waits[-1] == 1800.0
    record, _ = after_failure(record, AWAY, is_mine=True, nodes=NODES, now=0.0, wall=0.0, chance=1.0)
    assert record.due == 3600.0


def test_what_waits_for_nobody_who_is_away_is_tried_soon() -> None:
    """A node that came back while the try was under way is not waited for."""
    record, _ = after_failure(working(), AWAY, is_mine=True, nodes=NODES | {"n3"}, now=0.0, wall=0.0, chance=0.5)
    assert record.due == 0.5


@pytest.mark.parametrize(
    "record",
    [
        Record(kept=Quarantined("ann", deleted=False, failure=AWAY, failures=1, since=0.0), due=1000.0),
        Record(failed_review=Quarantined("ann", deleted=False, failure=AWAY, failures=1, since=0.0), review_due=1000.0),
    ],
    ids=["retry", "review"],
)
def test_the_return_of_a_node_makes_what_waits_for_it_due(record: Record) -> None:
    """The user is due at once. The return of another node changes nothing."""
    assert records.returned(record, frozenset({"n5"}), 10.0) == (record, ())
    record, effects = records.returned(record, frozenset({"n3", "n4"}), 10.0)
    assert effects == (Remind(10.0),)
    assert 10.0 in (record.due, record.review_due)


def test_a_node_that_has_just_returned_is_soon_asked_again() -> None:
    """The first try can come before its copies are there, however long it was away and was waited for in vain."""
    record = Record(kept=Quarantined("ann", deleted=False, failure=AWAY, failures=9, since=5.0), due=1000.0)
    record, _ = records.returned(record, frozenset({"n3"}), 10.0)
    record = records.replace(record, active=change(Lane.RETRY))
    record, _ = after_failure(record, AWAY, is_mine=True, nodes=NODES | {"n3"}, now=10.0, wall=0.0, chance=1.0)
    assert record.due == 12.0
    assert record.kept is not None
    assert record.kept.since == 5.0


def test_one_node_of_two_that_is_back_is_soon_asked_again() -> None:
    """The node that has not returned can be gone for good."""
    both = msgspec.structs.replace(AWAY, waits_for=("n3", "n4"))
    record, _ = after_failure(working(), both, is_mine=True, nodes=NODES | {"n4"}, now=0.0, wall=0.0, chance=0.5)
    assert record.due == 0.5


def test_what_is_never_tried_again_is_not_for_a_node_either() -> None:
    """Nothing but another change helps then."""
    given_up = msgspec.structs.replace(AWAY, advice=Advice.GIVE_UP)
    record = Record(kept=Quarantined("ann", deleted=False, failure=given_up, failures=1, since=0.0))
    assert records.returned(record, frozenset({"n3"}), 10.0) == (record, ())


def test_a_servers_long_words_are_cut() -> None:
    """An entry is kept for each user, so it is small."""
    record, _ = after_failure(
        working(), Failure("kind", "x" * 100_000), is_mine=True, nodes=NODES, now=0.0, wall=0.0, chance=0.5
    )
    assert record.kept is not None
    assert len(record.kept.failure.message) == 500


# The end of a quarantine, and of a doubt


@pytest.mark.parametrize("lane", [Lane.LIVE, Lane.RETRY, Lane.SCAN])
def test_work_that_succeeds_takes_a_user_out_of_quarantine(lane: Lane) -> None:
    """The lane of the work makes no difference."""
    record, removal = after_success(working(lane, kept=entry(), due=5.0), Outcome(), 0.0, recall=True)
    assert (record.kept, record.due, removal) == (None, None, Erasure.ENTRY)


@pytest.mark.parametrize("outcome", [Outcome(), Outcome(whole=True, acted_on=True)], ids=["nothing", "wrote"])
def test_a_review_that_served_nobody_leaves_the_quarantine_alone(outcome: Outcome) -> None:
    """A user who was never served does not count as served."""
    record, removal = after_success(working(Lane.REVIEW, kept=entry(), due=5.0), outcome, 0.0, recall=True)
    assert (record.kept, record.due, removal) == (entry(), 5.0, None)


def test_a_review_that_served_the_user_ends_the_retry_too() -> None:
    """There is nothing left to try again."""
    record = working(Lane.REVIEW, kept=entry(), waiting=change(Lane.RETRY))
    record, removal = after_success(record, Outcome(provisioned=True), 0.0, recall=True)
    assert (record.kept, record.waiting, removal) == (None, None, Erasure.ENTRY)


def test_a_retry_that_ends_while_it_is_held_leaves_nothing_held() -> None:
    """The next change would be held with nothing to wait for, and never be let go."""
    record = working(Lane.REVIEW, kept=entry(), waiting=change(Lane.RETRY), parked=Parked.LIMIT)
    record, _ = after_success(record, Outcome(provisioned=True), 0.0, recall=True)
    record, _ = records.ended(record)
    assert record.parked is None
    record, effects = arrivals.arrived(record, change())
    assert effects == (Queue(Lane.LIVE),)
    assert record.next_of(Lane.LIVE) is not None


@pytest.mark.parametrize(
    ("outcome", "certain"),
    [
        (Outcome(), False),
        (Outcome(provisioned=True), False),
        (Outcome(whole=True), True),
    ],
    ids=["nothing", "looked", "whole"],
)
@pytest.mark.parametrize("lane", Lane)
def test_a_doubt_ends_with_a_write_or_with_the_database(
    lane: Lane,
    outcome: Outcome,
    certain: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Work that ended well without writing the security object has not made it certain."""
    record, removal = after_success(working(lane, in_doubt=True), outcome, 0.0, recall=False)
    assert record.in_doubt is not certain
    assert removal is (Erasure.DOUBT if certain else None)


def test_failed_work_leaves_a_doubt() -> None:
    """It can have failed in the middle of the write."""
    record, _ = after_failure(working(in_doubt=True), RETRY, is_mine=True, nodes=NODES, now=0.0, wall=0.0, chance=0.5)
    assert records.ended(record)[0].in_doubt


# Reviews


def test_what_was_done_lately_is_reviewed_once() -> None:
    """The next owner may have acted on a newer change already. An act from long ago is no risk."""
    acted = Record(acted=records.Act(deleted=True, at=100.0))
    record, effects = records.left(acted, "ann", 130.0, RECALL)
    assert effects == (Queue(Lane.REVIEW),)
    assert record.review is not None
    assert (record.review.deleted, record.acted) == (True, None)
    assert records.left(acted, "ann", 130.1, RECALL) == (acted, ())


def test_a_doubt_is_reviewed_until_it_ends() -> None:
    """An instance that began to write a security object writes on until it is whole, whoever owns the document then."""
    record, _ = records.left(Record(in_doubt=True), "ann", 0.0, RECALL)
    record, _ = records.ended(records.taken(record, Lane.REVIEW))
    assert record.state is State.IN_DOUBT
    assert records.left(record, "ann", 1.0, RECALL)[1] == (Queue(Lane.REVIEW),)


def test_a_review_that_failed_is_tried_again() -> None:
    """After a growing while, with what it was about."""
    record = Record(active=change(Lane.REVIEW, deleted=True))
    record, effects = after_failure(record, RETRY, is_mine=False, nodes=NODES, now=10.0, wall=0.0, chance=0.5)
    assert effects == (Remind(10.5),)
    record, _ = records.ended(record)
    assert arrivals.retried(record, "ann", 10.4) == (record, ())
    record, effects = arrivals.retried(record, "ann", 10.5)
    assert effects == (Queue(Lane.REVIEW),)
    assert record.review is not None
    assert record.review.deleted
    record, effects = after_failure(
        records.taken(record, Lane.REVIEW), RETRY, is_mine=False, nodes=NODES, now=20.0, wall=0.0, chance=0.5
    )
    assert effects == (Remind(21.0),)
    record, _ = after_success(record, Outcome(), 30.0, recall=False)
    assert records.ended(record)[0].is_at_rest


def test_a_review_that_cannot_succeed_is_given_up() -> None:
    """A failure that nothing helps against is not tried for ever."""
    given_up = Failure("kind", "", Advice.GIVE_UP)
    record, effects = after_failure(
        working(Lane.REVIEW), given_up, is_mine=False, nodes=NODES, now=0.0, wall=0.0, chance=0.5
    )
    assert effects == ()
    assert records.ended(record)[0].is_at_rest


def test_a_lost_document_lets_go_of_all_but_its_doubt() -> None:
    """Its next owner begins with a scan of its own."""
    waits = change()
    record, effects = records.lost(
        Record(waiting=waits, parked=Parked.OWNER, kept=entry(), due=3.0, in_doubt=True), "ann", 0.0
    )
    assert effects == (Finish(waits), Erasure.ENTRY)
    assert record == Record(in_doubt=True)


def test_what_could_not_be_confirmed_is_reviewed_by_who_saw_it() -> None:
    """The next owner's copy may not show the change yet. The review assumes the opposite of the unconfirmed state."""
    unconfirmed = entry(Failure(UNCONFIRMED, "one of three has answered"), deleted=True)
    record, effects = records.lost(Record(kept=unconfirmed, due=3.0), "ann", 5.0)
    assert effects == (Erasure.ENTRY, Queue(Lane.REVIEW))
    assert record.review is not None
    assert (record.review.deleted, record.kept) == (False, None)
