"""The token bucket."""

from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.common.rate import TokenBucket


def test_a_burst_goes_through_and_then_the_rate_rules() -> None:
    """Five at once, then two a second."""
    bucket = TokenBucket(2.0, 5)
    assert [bucket.take(10.0) for _ in range(6)] == [True] * 5 + [False]
    assert [bucket.take(10.5) for _ in range(2)] == [True, False]
    assert not bucket.take(9.0)
    assert [bucket.take(1_000.0) for _ in range(6)] == [True] * 5 + [False]


@given(st.lists(st.floats(0, 100), max_size=200))
def test_no_order_of_times_gets_more_than_the_rate(times: list[float]) -> None:
    """The bucket never allows more than the burst plus the rate times the passed time, whatever the clock does."""
    bucket = TokenBucket(1.0, 3)
    taken = sum(bucket.take(each) for each in times)
    assert taken <= 3 + 100
