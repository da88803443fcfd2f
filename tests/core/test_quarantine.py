from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from peruserd.core.quarantine import Advice, Failure, Quarantine, Quarantined

FAILURES = {advice: Failure("kind", "why", advice) for advice in Advice}
RETRY = FAILURES[Advice.RETRY]
CHANCES = st.floats(0.0, 1.0, exclude_max=True)


def _admit(quarantine: Quarantine, document: str = "a", failure: Failure = RETRY, **more: Any) -> Quarantined:
    given = {"deleted": False, "now": 0.0, "wall": 1000.0, "chance": 0.5}
    return quarantine.admit(document, failure, **(given | more))


def _kept(document: str, failure: Failure = RETRY) -> Quarantined:
    return Quarantined(document, deleted=False, failure=failure, failures=3, since=7.0)


def test_a_user_is_tried_again_when_the_time_has_come() -> None:
    """Whoever is kept aside is due once, at the date the back-off gives, and not before."""
    quarantine = Quarantine([], 0.0)
    entry = _admit(quarantine, chance=0.5)
    assert quarantine.next_due() == 0.5
    assert quarantine.take_due(0.4) == []
    assert quarantine.take_due(0.5) == [entry]
    assert quarantine.take_due(1000.0) == []
    assert "a" in quarantine


def test_failures_in_a_row_are_counted_and_lengthen_the_wait() -> None:
    """Each failure of the same change doubles the bound of the wait, up to ten minutes; the first date is kept."""
    quarantine = Quarantine([], 0.0)
    bounds = []
    for count in range(1, 13):
        entry = _admit(quarantine, chance=0.999, wall=1000.0 + count)
        assert (entry.failures, entry.since) == (count, 1001.0)
        bounds.append(quarantine._dates["a"] / 0.999)
    assert bounds[:3] == pytest.approx([1.0, 2.0, 4.0])
    assert bounds[-1] == pytest.approx(600.0)


def test_another_change_of_the_document_begins_anew() -> None:
    """A user who failed to be served and is deleted then fails for the first time."""
    quarantine = Quarantine([], 0.0)
    _admit(quarantine)
    _admit(quarantine)
    entry = _admit(quarantine, deleted=True, wall=2000.0)
    assert (entry.failures, entry.since, entry.deleted) == (1, 2000.0, True)
    assert len(quarantine) == 1


def test_what_only_an_operator_can_mend_is_tried_rarely() -> None:
    """Refused credentials are not sent again within seconds: that locks accounts."""
    quarantine = Quarantine([], 0.0)
    _admit(quarantine, failure=FAILURES[Advice.ASK_OPERATOR], chance=0.5)
    assert quarantine.next_due() == 30.0


def test_what_cannot_be_served_is_not_tried_again() -> None:
    """A failure for good is kept, for people to see, and never due; not after a restart either."""
    quarantine = Quarantine([_kept("b", FAILURES[Advice.GIVE_UP])], 0.0)
    _admit(quarantine, failure=FAILURES[Advice.GIVE_UP])
    assert len(quarantine) == 2
    assert quarantine.next_due() is None
    assert quarantine.take_due(1e9) == []


def test_after_a_restart_all_are_due() -> None:
    """The cause may be gone, so what was kept is tried at once, and goes on counting where it was."""
    quarantine = Quarantine([_kept("a"), _kept("b")], 5.0)
    assert {entry.document_id for entry in quarantine.take_due(5.0)} == {"a", "b"}
    assert _admit(quarantine).failures == 4
    assert _admit(quarantine).since == 7.0


@pytest.mark.parametrize("deleted", [False, True])
def test_a_date_from_before_is_void(deleted: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A user served, or whose document changed, is not tried at the date an earlier failure had given."""
    quarantine = Quarantine([], 0.0)
    _admit(quarantine, chance=0.1)
    if not deleted:
        quarantine.release("a")
    entry = _admit(quarantine, failure=FAILURES[Advice.ASK_OPERATOR], chance=0.5, deleted=deleted)
    assert entry.failures == 1
    assert quarantine.take_due(29.0) == []
    assert quarantine.take_due(30.0) == [entry]


def test_release_says_whether_the_user_was_there() -> None:
    """Only a user who was kept can be released, and only once."""
    quarantine = Quarantine([], 0.0)
    _admit(quarantine)
    assert quarantine.release("a")
    assert not quarantine.release("a")
    assert len(quarantine) == 0
    assert quarantine.take_due(1e9) == []


def test_those_with_another_owner_are_released() -> None:
    """Users who belong to somebody else now are forgotten and named."""
    quarantine = Quarantine([], 0.0)
    for document in "abc":
        _admit(quarantine, document)
    gone = quarantine.release_unless(lambda document: document == "b")
    assert sorted(each.document_id for each in gone) == ["a", "c"]
    assert [entry.document_id for entry in quarantine.take_due(1e9)] == ["b"]


def test_where_a_change_was_met_is_remembered() -> None:
    """A tombstone that a scan found is still known for one when it is tried again."""
    quarantine = Quarantine([], 0.0)
    _admit(quarantine, deleted=True, met_in_scan=True)
    assert [entry.met_in_scan for entry in quarantine.take_due(1e9)] == [True]
    assert not _admit(quarantine, deleted=True, met_in_scan=False).met_in_scan


@given(chance=CHANCES, failures=st.integers(1, 200))
def test_a_wait_is_never_longer_than_its_bound(chance: float, failures: int) -> None:
    """However often a user has failed, the next try is within ten minutes."""
    entry = Quarantined("a", deleted=False, failure=RETRY, failures=failures, since=0.0)
    quarantine = Quarantine([entry], 0.0)
    quarantine.take_due(0.0)
    _admit(quarantine, chance=chance)
    due = quarantine.next_due()
    assert due is not None
    assert 0.0 <= due < 600.0


class QuarantineMachine(RuleBasedStateMachine):
    """Users who fail, are served and fall due, against a plain dictionary of dates."""

    def __init__(self) -> None:
        super().__init__()
        self.quarantine = Quarantine([], 0.0)
        self.now = 0.0
        self.dates: dict[str, float | None] = {}

    @rule(document=st.sampled_from("abc"), advice=st.sampled_from(Advice), deleted=st.booleans(), chance=CHANCES)
    def fail(self, document: str, advice: Advice, deleted: bool, chance: float) -> None:  # noqa: FBT001 - by name
        entry = _admit(
            self.quarantine, document, FAILURES[advice], deleted=deleted, now=self.now, chance=chance, wall=self.now
        )
        first = {Advice.RETRY: (1.0, 600.0), Advice.ASK_OPERATOR: (60.0, 3600.0), Advice.GIVE_UP: None}[advice]
        if first is None:
            self.dates[document] = None
        else:
            self.dates[document] = self.now + min(first[1], first[0] * 2.0 ** (entry.failures - 1)) * chance

    @rule(document=st.sampled_from("abc"))
    def serve(self, document: str) -> None:
        assert self.quarantine.release(document) == (document in self.dates)
        self.dates.pop(document, None)

    @rule(seconds=st.floats(0.0, 1000.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        expected = {each for each, date in self.dates.items() if date is not None and date <= self.now}
        due = [entry.document_id for entry in self.quarantine.take_due(self.now)]
        assert len(due) == len(set(due))
        assert set(due) == expected
        self.dates.update(dict.fromkeys(expected))

    @invariant()
    def is_asked_in_time(self) -> None:
        assert len(self.quarantine) == len(self.dates)
        dates = [date for date in self.dates.values() if date is not None]
        due = self.quarantine.next_due()
        assert not dates or (due is not None and due <= min(dates))


TestQuarantine = QuarantineMachine.TestCase
