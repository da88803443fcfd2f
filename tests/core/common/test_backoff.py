import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.common.backoff import Backoff

BACKOFF = Backoff(initial_seconds=0.5, max_seconds=30.0)
BACKOFFS = st.builds(Backoff, initial_seconds=st.floats(0.001, 10.0), max_seconds=st.floats(10.0, 3600.0))
CHANCES = st.floats(0.0, 1.0, exclude_max=True)


@pytest.mark.parametrize(("failures", "bound"), [(1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (7, 30.0), (8, 30.0)])
def test_the_bound_doubles_with_each_failure_up_to_the_most(failures: int, bound: float) -> None:
    """The first failure waits at most `initial_seconds`, each further one twice as long, none above `max_seconds`."""
    assert BACKOFF.bound(failures) == bound


@given(backoff=BACKOFFS, failures=st.integers(1, 10**9), chance=CHANCES)
def test_a_delay_lies_between_nothing_and_its_bound(backoff: Backoff, failures: int, chance: float) -> None:
    """However many failures there were, a delay can be computed, is never negative and never above the bounds."""
    delay = backoff.delay(failures, chance)
    assert 0.0 <= delay <= backoff.bound(failures) <= backoff.max_seconds


@given(backoff=BACKOFFS, failures=st.integers(1, 200))
def test_one_more_failure_never_waits_less(backoff: Backoff, failures: int) -> None:
    """The bound never falls while failures go on."""
    assert backoff.bound(failures) <= backoff.bound(failures + 1)


def test_delays_are_spread_over_the_whole_interval() -> None:
    """With full jitter, evenly spread chances give evenly spread delays from zero on."""
    assert [BACKOFF.delay(3, chance) for chance in (0.0, 0.25, 0.5, 0.75)] == [0.0, 0.5, 1.0, 1.5]


def test_no_failure_counts_as_the_first() -> None:
    """Asked about no failure at all, the bound is the first one's."""
    assert BACKOFF.bound(0) == 0.5
