import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from peruserd.core.feed.watermark import Watermark


class WatermarkMachine(RuleBasedStateMachine):
    """Rows are read in order and finish in any order. `open` has the rows under way: by ticket the sequence before."""

    def __init__(self) -> None:
        super().__init__()
        self.mark = Watermark(0)
        self.read = 0
        self.tickets = 0
        self.open: dict[int, int] = {}
        self.sizes: dict[int, int] = {}
        self.times: dict[int, float] = {}

    @rule(gap=st.integers(1, 5), entered=st.booleans())
    def read_row(self, gap: int, entered: bool) -> None:  # noqa: FBT001 - Hypothesis gives it by name
        if entered:
            ticket = self.mark.enter(self.read, size=gap, at=float(self.read))
            assert ticket == self.tickets
            self.tickets += 1
            self.open[ticket] = self.read
            self.sizes[ticket] = gap
            self.times[ticket] = float(self.read)
        self.read += gap
        self.mark.advance(self.read)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.open)))
        self.mark.finish(ticket)
        del self.open[ticket], self.sizes[ticket], self.times[ticket]

    @invariant()
    def stands_below_the_oldest_that_is_not_finished(self) -> None:
        assert self.mark.finished == min(self.open.values(), default=self.read)
        assert self.mark.read == self.read
        assert self.mark.under_way == len(self.open)
        assert self.mark.size == sum(self.sizes.values())
        assert self.mark.oldest_ticket == min(self.open, default=self.tickets)
        assert self.mark.oldest_at == (self.times[min(self.times)] if self.times else None)
        assert self.mark.next_ticket == self.tickets


TestWatermark = WatermarkMachine.TestCase


@given(sequences=st.lists(st.text(min_size=1), min_size=1))
def test_opaque_sequences_are_kept_as_they_are(sequences: list[str]) -> None:
    """Sequences of a clustered feed are never compared, only handed back."""
    mark = Watermark("now")
    before = "now"
    tickets = []
    for sequence in sequences:
        tickets.append(mark.enter(before))
        before = sequence
    mark.advance(sequences[-1])
    assert mark.finished == "now"
    for ticket in reversed(tickets):
        assert mark.finished == "now"
        mark.finish(ticket)
    assert mark.finished == sequences[-1]


def test_a_ticket_is_given_back_once() -> None:
    """Giving a ticket back twice is a mistake that shows."""
    mark = Watermark(0)
    ticket = mark.enter(0)
    mark.finish(ticket)
    with pytest.raises(KeyError):
        mark.finish(ticket)
