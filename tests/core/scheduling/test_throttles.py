import pytest

from peruserd.core.scheduling.throttles import CreationLimit, ScanThrottle


def test_a_scan_takes_half_of_the_work_in_flight_while_nobody_signs_up() -> None:
    """The share holds after any history, and at least one thing goes at a time."""
    pace = ScanThrottle(16)
    assert (pace.limit(0.0), pace.next_change(0.0)) == (8, None)
    pace.started(1.0)
    pace.finished(2.0, in_place=True)
    assert (pace.limit(2.0), pace.next_change(2.0)) == (8, None)
    pace.share = 1
    assert pace.limit(2.0) == 1


@pytest.mark.parametrize(("in_place", "times"), [(True, 7), (False, 3)])
def test_a_scan_goes_one_by_one_and_rests_while_people_sign_up(in_place: bool, times: int) -> None:  # noqa: FBT001
    """A rest is several times as long as the work before it, so a slow cluster is asked for less.

    It is seven times where a security object was looked at, and three where somebody waited for a database.
    """
    pace = ScanThrottle(16)
    pace.live(10.0)
    assert (pace.limit(10.0), pace.next_change(10.0)) == (1, 2.0)
    pace.started(10.375 - 0.875 / times)
    assert pace.limit(10.375) == 1
    pace.finished(10.375, in_place=in_place)
    assert pace.limit(11.0) == 0
    assert pace.next_change(11.0) == pytest.approx(0.25)
    assert pace.limit(11.26) == 1
    assert pace.next_change(11.26) == pytest.approx(0.74)


def test_what_took_very_long_is_no_reason_to_rest_for_minutes() -> None:
    """A request that timed out says little of how long the next one takes."""
    pace = ScanThrottle(16)
    pace.started(0.0)
    pace.finished(60.0, in_place=True)
    pace.live(64.0)
    assert (pace.limit(64.0), pace.next_change(64.0)) == (0, 1.0)


def test_a_scan_is_as_quick_as_before_some_time_after_the_last_sign_up() -> None:
    """It does not wait for a rest that nobody needs any more."""
    pace = ScanThrottle(16)
    pace.live(0.0)
    pace.live(1.0)
    pace.started(1.5)
    pace.finished(1.75, in_place=True)
    assert (pace.limit(2.75), pace.next_change(2.75)) == (0, 0.25)
    assert (pace.limit(3.0), pace.next_change(3.0)) == (8, None)


def test_no_more_databases_begin_to_be_made_than_in_a_minute() -> None:
    """Work under way has its place already; a database that was made leaves it after a minute, other work at once."""
    limit = CreationLimit(2)
    assert (limit.room(0.0), limit.next_change(0.0)) == (2, None)
    limit.begun("a")
    limit.begun("b")
    assert limit.room(0.0) == 0
    limit.ended("a")
    limit.ended("of nobody")
    assert limit.room(5.0) == 1
    limit.ended("b")
    limit.made(10.0)
    assert (limit.room(10.0), limit.next_change(10.0)) == (1, 60.0)
    assert (limit.room(69.9), limit.room(70.0)) == (1, 2)


def test_what_nobody_limits_is_not_remembered() -> None:
    """A listener that makes databases for months has no list of them."""
    limit = CreationLimit(0)
    limit.made(1.0)
    assert limit.next_change(1.0) is None
    limit.max_per_minute = 1
    for now in range(0, 1000, 30):
        limit.made(float(now))
    assert len(limit._made) <= 3
