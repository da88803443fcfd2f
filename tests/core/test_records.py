from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from peruserd.core import records
from peruserd.core.aftermath import after_failure, after_success
from peruserd.core.changes import Change, Lane
from peruserd.core.dispatch import Dispatch
from peruserd.core.documents import Documents
from peruserd.core.quarantine import UNCONFIRMED, UNSERVABLE_NAME, Advice, Failure, Quarantined
from peruserd.core.records import EMPTY, Finish, Held, Keep, Queue, Record, Remind, Removal, State
from peruserd.core.watermark import Watermark

RECALL = 30.0
FAILURES = [Failure("server_error", "500", advice) for advice in Advice] + [
    Failure(UNSERVABLE_NAME, "too long", Advice.GIVE_UP),
    Failure("copy_away", "n2 is away", waits_for=("n2",)),
]
RETRY = FAILURES[0]
NODES = frozenset({"n1", "n2"})


class Outcome(msgspec.Struct):
    """What work came to."""

    provisioned: bool = False
    whole: bool = False
    acted_on: bool | None = None


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
        (Record(waiting=change(), held=Held.OWNER), State.HELD),
        (Record(waiting=change(), held=Held.OWNER, review=change(Lane.REVIEW)), State.WAITING),
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
    """Read, taken, acted on; remembered for a while, and then no more."""
    first = change()
    record, effects = records.seen(EMPTY, first)
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
    record, effects = records.retried(record, "ann", 10.4)
    assert effects == ()
    record, effects = records.retried(record, "ann", 10.5)
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
    """Refused credentials are not sent again within seconds: that locks accounts."""
    asked = Failure("unauthorized", "401", Advice.ASK_OPERATOR)
    record, _ = after_failure(working(), asked, is_mine=True, nodes=NODES, now=0.0, wall=0.0, chance=0.5)
    assert record.due == 30.0


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
    assert effects == (() if kept is None else (Removal.RELEASED,))
    assert records.ended(record)[0].is_at_rest


@pytest.mark.parametrize(
    ("record", "is_mine"),
    [(working(waiting=change()), True), (working(), False)],
    ids=["something-newer", "another-owner"],
)
def test_a_failure_gives_way(record: Record, is_mine: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Where something newer waits, or somebody else owns the document, the failure is not kept."""
    assert after_failure(record, RETRY, is_mine=is_mine, nodes=NODES, now=0.0, wall=0.0, chance=0.5) == (record, ())


AWAY = Failure("copy_away", "n3 is away", waits_for=("n2", "n3"))


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
    """At once; the return of another one changes nothing."""
    assert records.returned(record, frozenset({"n4"}), 10.0) == (record, ())
    record, effects = records.returned(record, frozenset({"n3", "n4"}), 10.0)
    assert effects == (Remind(10.0),)
    assert 10.0 in (record.due, record.review_due)


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


# Who leaves quarantine, and what ends a doubt


@pytest.mark.parametrize("lane", [Lane.LIVE, Lane.RETRY, Lane.SCAN])
def test_work_that_succeeds_takes_a_user_out_of_quarantine(lane: Lane) -> None:
    """Whatever it was worth looking for."""
    record, removal = after_success(working(lane, kept=entry(), due=5.0), Outcome(), 0.0, recall=True)
    assert (record.kept, record.due, removal) == (None, None, Removal.RELEASED)


@pytest.mark.parametrize("outcome", [Outcome(), Outcome(whole=True, acted_on=True)], ids=["nothing", "wrote"])
def test_a_review_that_served_nobody_leaves_the_quarantine_alone(outcome: Outcome) -> None:
    """A user who was never served is not taken for one who was."""
    record, removal = after_success(working(Lane.REVIEW, kept=entry(), due=5.0), outcome, 0.0, recall=True)
    assert (record.kept, record.due, removal) == (entry(), 5.0, None)


def test_a_review_that_served_the_user_ends_the_retry_too() -> None:
    """There is nothing left to try again."""
    record = working(Lane.REVIEW, kept=entry(), waiting=change(Lane.RETRY))
    record, removal = after_success(record, Outcome(provisioned=True), 0.0, recall=True)
    assert (record.kept, record.waiting, removal) == (None, None, Removal.RELEASED)


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
    assert removal is (Removal.CERTAIN if certain else None)


def test_failed_work_leaves_a_doubt() -> None:
    """It can have failed in the middle of the write."""
    record, _ = after_failure(working(in_doubt=True), RETRY, is_mine=True, nodes=NODES, now=0.0, wall=0.0, chance=0.5)
    assert records.ended(record)[0].in_doubt


# Reviews


def test_what_was_done_lately_is_reviewed_once() -> None:
    """The next owner may have known better already; what was done long ago cannot have crossed with it."""
    acted = Record(acted=records.Act(deleted=True, at=100.0))
    record, effects = records.left(acted, "ann", 130.0, RECALL)
    assert effects == (Queue(Lane.REVIEW),)
    assert record.review is not None
    assert (record.review.deleted, record.acted) == (True, None)
    assert records.left(acted, "ann", 130.1, RECALL) == (acted, ())


def test_a_doubt_is_reviewed_until_it_ends() -> None:
    """Who began to write a security object writes on until it is whole, whoever owns the document by then."""
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
    assert records.retried(record, "ann", 10.4) == (record, ())
    record, effects = records.retried(record, "ann", 10.5)
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
        Record(waiting=waits, held=Held.OWNER, kept=entry(), due=3.0, in_doubt=True), "ann", 0.0
    )
    assert effects == (Finish(waits), Removal.RELEASED)
    assert record == Record(in_doubt=True)


def test_what_could_not_be_confirmed_is_reviewed_by_who_saw_it() -> None:
    """The next owner's copy may not show it yet; the review is about the contrary of what could not be confirmed."""
    unconfirmed = entry(Failure(UNCONFIRMED, "one of three has answered"), deleted=True)
    record, effects = records.lost(Record(kept=unconfirmed, due=3.0), "ann", 5.0)
    assert effects == (Removal.RELEASED, Queue(Lane.REVIEW))
    assert record.review is not None
    assert (record.review.deleted, record.kept) == (False, None)


class Counting(Watermark):
    """A watermark that counts how often each ticket was given back."""

    def __init__(self) -> None:
        super().__init__(0)
        self.finishes: Counter[int] = Counter()

    def finish(self, ticket: int) -> None:
        """Count, and give back."""
        self.finishes[ticket] += 1
        super().finish(ticket)


NAMES = "ab"

STRANGE = -1
"""The version of a row that is another document's."""


class DocumentsMachine(RuleBasedStateMachine):
    """Three documents, and everything that can happen to them, in any order.

    A change's `read_at` is the version of the document that it shows.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.mark = Counting()
        self.documents = Documents((), (), recall_seconds=RECALL, now=0.0)
        self.dispatch = Dispatch(self.documents, 100)
        self.versions = dict.fromkeys(NAMES, 0)
        self.kinds = dict.fromkeys(NAMES, False)
        # The newest version that was read live since the document is this instance's.
        self.live_seen = dict.fromkeys(NAMES, 0)
        self.page: dict[str, tuple[int, bool]] | None = None
        self.acted = dict.fromkeys(NAMES, 0)
        self.put: list[Change] = []
        self.working: list[Change] = []
        self.mine = set(NAMES)
        self.held: set[str] = set()
        self.quarantine: set[str] = set()
        self.doubts: set[str] = set()
        self.nodes: set[str] = set()
        # Kinds of rows that were read since anybody began to act on them.
        self.hints: dict[str, set[bool]] = {name: set() for name in NAMES}

    # Reading

    @rule(name=st.sampled_from(NAMES), deleted=st.booleans())
    def change(self, name: str, deleted: bool) -> None:  # noqa: FBT001 - Hypothesis gives it by name
        self.versions[name] += 1
        self.kinds[name] = deleted

    @rule(name=st.sampled_from(NAMES))
    def enter_live(self, name: str) -> None:
        if self.live_seen[name] < self.versions[name]:
            self.live_seen[name] = self.versions[name]
            self._put(name, Lane.LIVE, self.versions[name], deleted=self.kinds[name])

    @rule(name=st.sampled_from(NAMES), deleted=st.booleans())
    def change_and_enter_live(self, name: str, deleted: bool) -> None:  # noqa: FBT001 - Hypothesis gives it by name
        self.change(name, deleted)
        self.enter_live(name)

    @rule(name=st.sampled_from(NAMES), deleted=st.booleans())
    def enter_a_strangers_row(self, name: str, deleted: bool) -> None:  # noqa: FBT001 - Hypothesis gives it by name
        """Another document that is shown by the same id changes."""
        self._put(name, Lane.LIVE, STRANGE, deleted=deleted)

    @precondition(lambda self: self.page is None)
    @rule()
    def request_and_read_page(self) -> None:
        self.documents.scan_page_requested()
        self.page = {name: (self.versions[name], self.kinds[name]) for name in NAMES}

    @precondition(lambda self: self.page is not None)
    @rule()
    def enter_page(self) -> None:
        assert self.page is not None
        for name, (version, deleted) in self.page.items():
            self._put(name, Lane.SCAN, version, deleted=deleted)
        self.page = None

    def _put(self, name: str, lane: Lane, version: int, *, deleted: bool) -> None:
        if name not in self.mine:
            return
        change = Change(
            name,
            deleted=deleted,
            lane=lane,
            read_at=float(version),
            watermark=self.mark,
            ticket=self.mark.enter(0),
            met_in_scan=lane is Lane.SCAN,
        )
        fresh = self.documents._fresh.get(name, frozenset())
        self.documents.put(change)
        self.put.append(change)
        record = self.documents.record(name)
        known = [each for each in (record.waiting, record.active) if each is not None and each.lane is not Lane.REVIEW]
        if deleted not in fresh or lane is Lane.LIVE:
            assert any(each.contested or each.deleted == deleted for each in known), (
                "a row was hidden by the other kind"
            )
        if record.waiting is not None:
            self.hints[name].add(deleted)
            if record.kept is not None:
                self.hints[name].add(record.kept.deleted)

    # Working

    @rule()
    def take(self) -> None:
        change = self.dispatch.next(self.now)
        busy = {each.document_id for each in self.working}
        if change is None:
            records = {name: self.documents.record(name) for name in NAMES}
            assert {name for name, record in records.items() if record.review is not None} <= busy
            waiting = {name for name, record in records.items() if record.waiting is not None}
            assert waiting <= busy | self.held, "what may be acted on is not given out"
            return
        name = change.document_id
        assert name not in busy
        self.working.append(change)
        if change.lane is Lane.REVIEW:
            return
        assert name in self.mine
        assert name not in self.held
        assert change.contested or self.hints[name] <= {change.deleted}
        self.hints[name].clear()
        # A retry is of what was tried before, and stands aside for whatever is newer; for what is contested the
        # document itself is read.
        if change.lane is not Lane.RETRY and change.read_at != STRANGE and not change.contested:
            assert change.read_at >= self.acted[name], "an older change was acted on after a newer one"
            self.acted[name] = int(change.read_at)

    @precondition(lambda self: self.working)
    @rule(data=st.data())
    def begin_to_write(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([each.document_id for each in self.working]))
        self.documents.doubt(name)
        self.doubts.add(name)

    @rule(outcome=st.none() | st.builds(Outcome))
    def take_and_end(self, outcome: Outcome | None) -> None:
        before = len(self.working)
        self.take()
        if len(self.working) > before:
            if outcome is None:
                self._fail(-1, RETRY, 0.5)
            else:
                self._succeed(-1, outcome)

    @precondition(lambda self: self.working)
    @rule(data=st.data(), outcome=st.builds(Outcome))
    def succeed(self, data: st.DataObject, outcome: Outcome) -> None:
        self._succeed(data.draw(st.integers(0, len(self.working) - 1)), outcome)

    def _succeed(self, index: int, outcome: Outcome) -> None:
        change = self.working.pop(index)
        name = change.document_id
        released = name in self.quarantine and (change.lane is not Lane.REVIEW or outcome.provisioned)
        certain = name in self.doubts and outcome.whole
        removal = self.documents.succeed(change, outcome, self.now, recall=name in self.mine)
        self.dispatch.ended(change, self.now)
        expected = {(True, True): Removal.SERVED, (True, False): Removal.RELEASED, (False, True): Removal.CERTAIN}
        assert removal is expected.get((released, certain))
        self.quarantine -= {name} if released else set()
        self.doubts -= {name} if certain else set()

    @precondition(lambda self: self.working)
    @rule(data=st.data(), failure=st.sampled_from(FAILURES), chance=st.floats(0, 1, exclude_max=True))
    def fail(self, data: st.DataObject, failure: Failure, chance: float) -> None:
        self._fail(data.draw(st.integers(0, len(self.working) - 1)), failure, chance)

    def _fail(self, index: int, failure: Failure, chance: float) -> None:
        change = self.working.pop(index)
        name = change.document_id
        newer = self.documents.record(name).waiting is not None
        kept, removal = self.documents.fail(
            change, failure, is_mine=name in self.mine, now=self.now, wall=self.now, chance=chance
        )
        admitted = change.lane is not Lane.REVIEW and name in self.mine and not newer
        assert (kept is not None) == (admitted and not failure.follows_from_name)
        if kept is not None:
            assert (kept.deleted, kept.contested) == (change.deleted, change.contested)
            self.quarantine.add(name)
        elif admitted:
            assert removal is (Removal.RELEASED if name in self.quarantine else None)
            self.quarantine.discard(name)
        self.documents.end(change)
        self.dispatch.ended(change, self.now)

    # Owners and time

    @rule(names=st.sets(st.sampled_from(NAMES)))
    def change_owner(self, names: set[str]) -> None:
        self.mine = names
        if self.page is not None:
            # The scan begins again with whatever is gained.
            self.page = None
            self.documents.scan_page_ended()
        released = {name for name, _ in self.documents.lose_unless(names.__contains__, self.now)[0]}
        assert released == self.quarantine - names
        self.quarantine &= names
        for name in set(NAMES) - names:
            self.hints[name].clear()
        self.documents.leave_unless(names.__contains__, self.now)
        reviewed = {name for name in NAMES if self.documents.record(name).review is not None}
        assert self.doubts - names <= reviewed

    @rule(names=st.sets(st.sampled_from(NAMES)))
    def hold_back(self, names: set[str]) -> None:
        self.held = names
        self.dispatch.hold_back(names.__contains__)

    @rule(nodes=st.sets(st.sampled_from(["n1", "n2"])))
    def connect(self, nodes: set[str]) -> None:
        returned = nodes - self.nodes
        self.nodes = nodes
        self.documents.connected(nodes, self.now)
        for record in self._records().values():
            if record.kept is not None and record.due is not None and returned & set(record.kept.waits_for):
                assert record.due <= self.now

    @rule(name=st.sampled_from(NAMES), deleted=st.booleans())
    def review(self, name: str, deleted: bool) -> None:  # noqa: FBT001 - Hypothesis gives it by name
        self.documents.review(name, deleted=deleted, now=self.now)

    @rule(seconds=st.floats(0.0, 1000.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.documents.take_due(self.now)

    # What must hold

    @invariant()
    def every_ticket_is_held_once_and_given_back_once(self) -> None:
        found = self._records()
        open_changes = [each for record in found.values() for each in (record.waiting, record.active) if each]
        held = [each.ticket for each in open_changes if each.watermark is not None]
        assert sorted(held) == sorted(self.mark._open)
        assert all(count == 1 for count in self.mark.finishes.values())
        assert len(self.mark.finishes) + len(held) == len(self.put)

    @invariant()
    def the_counts_are_right(self) -> None:
        def count(has: Callable[[Record], object]) -> int:
            return sum(bool(has(record)) for record in self._records().values())

        documents = self.documents
        assert documents.waiting == count(lambda record: record.waiting)
        assert documents.active == count(lambda record: record.active) == len(self.working)
        assert documents.reviews == count(lambda record: record.review)
        assert documents.held == count(lambda record: record.held) <= documents.waiting
        assert documents.quarantined == count(lambda record: record.kept)
        assert len(documents) == len(self._records())

    @invariant()
    def quarantine_and_doubts_are_what_they_should_be(self) -> None:
        found = self._records()
        assert {name for name, record in found.items() if record.kept is not None} == self.quarantine
        assert {name for name, record in found.items() if record.in_doubt} == self.doubts

    @invariant()
    def nothing_is_forgotten(self) -> None:
        for record in self._records().values():
            under_way = record.active is not None or record.waiting is not None
            if record.kept is not None and record.kept.failure.advice is not Advice.GIVE_UP:
                assert under_way or record.due is not None, "a user in quarantine is never tried again"
            if record.failed_review is not None:
                active = record.active is not None or record.review is not None
                assert active or record.review_due is not None, "a review that failed is never made again"
            dates = [each for each in (record.due, record.review_due) if each is not None]
            due = self.documents.next_due()
            assert not dates or (due is not None and due <= min(dates))

    def _records(self) -> dict[str, Record]:
        return {name: record for name in NAMES if not (record := self.documents.record(name)).is_at_rest}

    def teardown(self) -> None:
        self.dispatch.hold_back(None)
        self.held.clear()
        for _ in range(100):
            while self.working:
                self._succeed(0, Outcome(provisioned=True, whole=True, acted_on=False))
            self.take()
            if not self.working:
                if self.documents.next_due() is None:
                    break
                self.wait(10_000.0)
        assert not self.working
        assert not self.mark.under_way
        assert self.documents.waiting == self.documents.reviews == 0
        self.wait(RECALL + 1.0)
        assert set(self._records()) <= self.quarantine | self.doubts, "a document at rest has a record"
        for name, record in self._records().items():
            assert record.kept is None or record.kept.failure.advice is Advice.GIVE_UP
            assert record.kept is not None or name in self.doubts


TestDocuments = DocumentsMachine.TestCase
TestDocuments.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
