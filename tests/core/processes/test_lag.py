"""Who is behind, and how far."""

import pytest

from peruserd.core.processes.lag import Standing, why_behind

NOW = 1_000.0


def behind(*standings: Standing) -> str | None:
    """Return who is behind, with a limit of 30 s and long polls of 25 s."""
    return why_behind(standings, NOW, ready_lag=30.0, poll_seconds=25.0)


@pytest.mark.parametrize(
    "standing",
    [
        Standing("a", None, None),
        Standing("a", NOW - 30.0, NOW),
        Standing("a", None, NOW - 55.0),
        Standing("a", NOW + 5.0, NOW + 5.0),
    ],
    ids=["nothing-known", "waits-a-while", "long-poll", "report-from-the-future"],
)
def test_within_the_limits_nobody_is_behind(standing: Standing) -> None:
    """A long poll without news explains its own time."""
    assert behind(standing) is None


def test_each_listener_behind_is_named_with_its_lag() -> None:
    """Users wait for work, or it is not known whether there are any."""
    found = behind(Standing("a", NOW - 31.0, NOW), Standing("b", None, NOW), Standing("c", None, NOW - 300.0))
    words = "a (a change has waited for 31 s), c (its feed was last read 5 min ago)"
    assert found == f"behind by more than 30 s: {words}"
