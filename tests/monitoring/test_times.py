"""Durations in rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.monitoring.times import Times, seconds


@pytest.mark.parametrize(
    ("text", "found"), [("0s", 0), ("30s", 30), ("5m", 300), ("1h", 3_600), ("1d", 86_400), ("1m30s", 90)]
)
def test_a_duration_is_read_in_seconds(text: str, found: int) -> None:
    """The units are those of Prometheus."""
    assert seconds(text) == found


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "5m ", "1.5h", "5y"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """A mistake in a rule fails at once, and not in Prometheus."""
    with pytest.raises(ValueError, match="no duration"):
        seconds(text)


@given(number=st.integers(0, 400_000))
def test_a_duration_that_is_written_is_the_same_when_it_is_read(number: int) -> None:
    """At the scale of 1 every whole number of seconds is written exactly."""
    assert seconds(Times().written(number)) == number


@pytest.mark.parametrize(
    ("scale", "written"), [(1.0, "5m"), (0.1, "30s"), (0.01, "3s"), (0.001, "300ms"), (1e-9, "1ms"), (2.0, "10m")]
)
def test_a_scale_multiplies_a_duration(scale: float, written: str) -> None:
    """A range of no length would be refused by Prometheus, so the least one is a millisecond."""
    assert Times(scale).written(300) == written


def test_only_durations_are_filled_in() -> None:
    """Matchers of labels stand in braces too."""
    text = 'increase(a_total{b="5m"}[{15m}]) > {3s} or c{d="e"}'
    assert Times(0.1).filled(text) == 'increase(a_total{b="5m"}[90s]) > 300ms or c{d="e"}'
