"""When failures of listeners are a reason to start the whole instance anew."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.processes.lifecycle import Child, Exited, Ordered, Reason, Timing, Unwanted, Wanted, step
from peruserd.core.processes.restarts import FAULTS, RestartBudget

BUDGET = RestartBudget(faults=3)
TIMING = Timing()


def children(*faults: int) -> list[Child]:
    """Return wanted children with so many faults in a row each."""
    return [Child(wanted=True, failures=each, faults=each) for each in faults]


@pytest.mark.parametrize(
    ("faults", "exceeded"),
    [
        ((), False),
        ((2,), False),
        ((3,), True),
        ((99, 0), False),
        ((3, 3), True),
        ((99, 99, 0, 0), False),
        ((3, 3, 3, 0), True),
        ((2, 2, 2, 2), False),
        ((99, 99, *(0,) * 62), False),
    ],
)
def test_the_instance_ends_only_if_most_listeners_fail(faults: tuple[int, ...], exceeded: bool) -> None:  # noqa: FBT001
    """However often one fails, and however many fail now and then, the others go on."""
    assert BUDGET.exceeded(children(*faults)) == exceeded


@given(st.lists(st.integers(0, 6), max_size=20))
def test_the_budget_grows_with_the_number_of_listeners(faults: list[int]) -> None:
    """With each listener more, the instance stands more failures."""
    failing = sum(each >= 3 for each in faults)
    assert BUDGET.exceeded(children(*faults)) == (failing > len(faults) - failing)
    assert not BUDGET.exceeded(children(*faults, *(0,) * failing))


def test_a_listener_that_nobody_wants_counts_for_neither_side() -> None:
    """The plan has dropped it, so neither its failures nor its health say anything."""
    failing, dropped = Child(wanted=True, faults=3), Child(wanted=False, faults=99)
    assert not BUDGET.exceeded([dropped])
    assert BUDGET.exceeded([failing, dropped, Child(wanted=False)])


@pytest.mark.parametrize("code", [70, 71, 255, -6, -9])
def test_a_listener_that_fails_in_a_row_uses_its_budget_up(code: int) -> None:
    """By then it has waited for minutes in all, so that a short trouble has passed."""
    child, waited = Child(), 0.0
    child, _ = step(child, Wanted(), 0.0, TIMING)
    while not RestartBudget().is_spent(child):
        child, _ = step(child, Exited(code, chance=0.999), 0.0, TIMING)
        assert child.deadline is not None
        waited += child.deadline
    assert child.faults == FAULTS
    assert waited > 120.0


def test_causes_outside_of_the_instance_and_plans_use_up_nothing() -> None:
    """A full disk, a plan that changes its mind, and an order of an operator are no reason to start all anew."""
    child, _ = step(Child(), Wanted(), 0.0, TIMING)
    for _ in range(99):
        child, _ = step(child, Exited(75, chance=0.5), 0.0, TIMING)
        for event in (Ordered(), Unwanted(Reason.UNPLANNED), Wanted(), Exited(0, chance=0.5)):
            child, _ = step(child, event, 0.0, TIMING)
    assert not RestartBudget(faults=1).is_spent(child)
