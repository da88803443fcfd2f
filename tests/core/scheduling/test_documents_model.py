"""Everything that can happen to documents under way, in any order, and what must hold all the time."""

from collections import Counter
from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from peruserd.core.feed.changes import Change
from peruserd.core.feed.lanes import Lane
from peruserd.core.scheduling.records import Erasure, Parked, Record
from peruserd.core.users.quarantine import Advice, Failure
from tests.core.desk import Desk
from tests.core.outcomes import FAILURES, RECALL, RETRY, Outcome
from tests.quick import examples

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
        self.desk = Desk()
        self.documents, self.dispatch, self.mark = self.desk.documents, self.desk.dispatch, self.desk.mark
        self.versions = dict.fromkeys(NAMES, 0)
        self.kinds = dict.fromkeys(NAMES, False)
        # The newest version that was read live since the document is this instance's.
        self.live_seen = dict.fromkeys(NAMES, 0)
        self.page: dict[str, tuple[int, bool]] | None = None
        self.acted = dict.fromkeys(NAMES, 0)
        self.put: list[Change] = []
        self.working: list[Change] = []
        self.mine = set(NAMES)
        self.parked: set[str] = set()
        self.quarantine: set[str] = set()
        self.doubts: set[str] = set()
        self.nodes: set[str] = set()
        self.new_per_minute = 0
        self.share = 100
        # The moments at which databases were made.
        self.made: list[float] = []
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
        fresh = self.documents._fresh.get(name, frozenset())
        self.put.append(self.desk.put(name, lane, version, deleted=deleted))
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
        if change is None and len(self.working) >= self.share:
            return
        if change is None:
            records = {name: self.documents.record(name) for name in NAMES}
            assert {name for name, record in records.items() if record.review is not None} <= busy
            waiting = {name for name, record in records.items() if record.waiting is not None}
            for_room = {name for name, record in records.items() if record.parked is Parked.LIMIT}
            assert waiting <= busy | self.parked | for_room, "what may be acted on is not given out"
            assert not for_room or not self._has_room(), "what there is room for is not given out"
            return
        name = change.document_id
        assert name not in busy
        self.working.append(change)
        if change.lane is Lane.REVIEW:
            return
        assert name in self.mine
        assert name not in self.parked
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
        self.documents.mark_in_doubt(name)
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
        self.dispatch.ended(change, self.now, created=outcome.provisioned)
        self.made += [self.now] if outcome.provisioned else []
        expected = {(True, True): Erasure.BOTH, (True, False): Erasure.ENTRY, (False, True): Erasure.DOUBT}
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
            assert removal is (Erasure.ENTRY if name in self.quarantine else None)
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
        self.parked = names
        self.dispatch.hold_back(names.__contains__)

    @rule(new_per_minute=st.integers(0, 2), share=st.sampled_from([1, 100]))
    def limit(self, new_per_minute: int, share: int = 100) -> None:
        """With one place, two who wait are a crowd."""
        self.new_per_minute = new_per_minute
        self.share = share
        self.dispatch.limit(share, new_per_minute)

    def _has_room(self) -> bool:
        """Say whether one more database may be made, as far as is seen from here: by any work under way or lately."""
        lately = [each for each in self.made if self.now - each < 60.0]
        return self.new_per_minute > len(self.working) + len(lately)

    @rule(nodes=st.sets(st.sampled_from(["n1", "n2"])))
    def connect(self, nodes: set[str]) -> None:
        # Where none was known to be connected, none has returned: at the start all are due by and by.
        returned = nodes - self.nodes if self.nodes else set()
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

    # Invariants

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
        assert documents.parked == count(lambda record: record.parked) <= documents.waiting
        kept = [record.kept for record in self._records().values() if record.kept is not None]
        assert documents.kept_users.total == len(kept)
        assert documents.kept_users.permanent == sum(not each.failure.is_passing for each in kept)
        assert documents.kept_users.by_kind == Counter(each.failure.kind for each in kept)
        assert documents.kept_users.oldest_since == min((each.since for each in kept), default=None)
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
        self.limit(0)
        self.dispatch.hold_back(None)
        self.parked.clear()
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
TestDocuments.settings = settings(max_examples=examples(120), stateful_step_count=50, deadline=None)
