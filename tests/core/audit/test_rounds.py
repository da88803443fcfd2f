"""Rounds of the audit and their pace, on a clock that tests move."""

import pytest

from peruserd.core.audit.findings import Finding
from peruserd.core.audit.rounds import Pace, Part, Round, Rounds, Summary

DAY = 86_400.0


def test_a_round_goes_through_its_parts_and_begins_each_at_its_beginning() -> None:
    """The position is of one part alone; the counts are of the whole round."""
    running = Round(1, 100.0, "uuid").at(17).found([Finding.COPY_BEHIND])
    running = running.onwards()
    assert (running.part, running.position) == (Part.DATABASES, None)
    running = running.onwards().at(5, rows=10, users=4).at(9, rows=7, users=1)
    assert (running.part, running.position, running.rows, running.users) == (Part.USERS, 9, 17, 5)
    assert running.found([Finding.COPY_BEHIND, Finding.MISSING]).findings == {
        Finding.COPY_BEHIND: 2,
        Finding.MISSING: 1,
    }
    assert running.findings == {Finding.COPY_BEHIND: 1}
    with pytest.raises(ValueError, match="last part"):
        running.onwards()


def test_a_round_that_was_interrupted_goes_on_where_it_was() -> None:
    """After a restart the same round goes on, if the copy is the one that its sequences are of."""
    begun = Rounds().going_on("uuid", 100.0)
    assert begun.running is not None
    kept = Rounds(begun.running.onwards().onwards().at(500, rows=500, users=200), begun.last, begun.number)
    assert kept.going_on("uuid", 1_000.0) is kept
    anew = kept.going_on("another", 1_000.0)
    assert anew.running == Round(2, 1_000.0, "another")


def test_a_round_from_the_future_begins_again() -> None:
    """The clock was set back, so nobody knows how long the round has taken."""
    kept = Rounds(Round(3, 5_000.0, "uuid"), None, 3)
    assert kept.going_on("uuid", 100.0).running == Round(4, 100.0, "uuid")


def test_the_summary_of_a_round_outlives_it() -> None:
    """The last whole round stays known while the next one goes on."""
    rounds = Rounds().going_on("uuid", 100.0)
    assert rounds.running is not None
    rounds = Rounds(rounds.running.at(9, rows=9, users=3).found([Finding.PUBLIC]), None, 1).ended(160.0)
    assert rounds.running is None
    assert rounds.last == Summary(100.0, 160.0, 3, {Finding.PUBLIC: 1})
    again = rounds.going_on("uuid", DAY)
    assert again.status.last == rounds.last
    assert again.status.running == Summary(DAY, None, 0, {})
    assert again.number == 2
    with pytest.raises(ValueError, match="no round"):
        rounds.ended(200.0)


def test_rounds_begin_an_interval_apart() -> None:
    """From beginning to beginning, at once where one took longer, and never later than an interval from now."""
    assert Rounds().next_begin(50.0, DAY) == 50.0
    ended = Rounds(last=Summary(100.0, 160.0, 3, {}))
    assert ended.next_begin(200.0, DAY) == 100.0 + DAY
    assert ended.next_begin(100.0 + 2 * DAY, DAY) == 100.0 + 2 * DAY
    assert Rounds(last=Summary(9e9, 9e9, 3, {})).next_begin(200.0, DAY) == 200.0 + DAY


def _walk(pace: Pace, total: int, batch: int, requests: int, *, set_back: float = 0.0) -> float:
    """Return how long a round takes whose requests take no time themselves."""
    now = rows = 0.0
    while rows < total:
        for _ in range(requests):
            now += pace.request(now)
        rows += batch
        now += pace.rest(now - set_back, int(rows), batch, total)
    return now


def test_a_round_takes_its_interval_where_the_rate_allows_it() -> None:
    """A thousand users at 10 requests a second would take 7 minutes, and are spread over most of the day."""
    assert _walk(Pace(DAY, 10.0), 1_000, 20, 64) == pytest.approx(0.9 * DAY, rel=0.01)


def test_the_rate_wins_over_the_interval() -> None:
    """With too many users for an hour at that rate, a round takes longer than its interval."""
    assert _walk(Pace(3_600.0, 10.0), 100_000, 20, 64) == pytest.approx(100_000 / 20 * 64 / 10, rel=0.01)


def test_a_clock_that_is_set_keeps_no_round_standing() -> None:
    """With a clock set back by a week, a round takes its time once more at most. Its own rows bound each rest."""
    assert _walk(Pace(DAY, 10.0), 1_000, 20, 64, set_back=7 * DAY) <= 1.1 * DAY
    assert Pace(DAY, 10.0).rest(-7 * DAY, 20, 20, 1_000) == pytest.approx(0.9 * DAY * 20 / 1_000)


def test_more_rows_than_were_counted_are_no_hurry() -> None:
    """Users sign up during the round. The round does not take longer for them."""
    pace = Pace(100.0, 1_000.0)
    assert pace.rest(90.0, 2_000, 20, 1_000) == 0.0
    assert pace.rest(0.0, 10, 10, 0) == pytest.approx(90.0)


def test_requests_are_a_rate_apart_and_owe_nothing_to_an_idle_time() -> None:
    """After a rest there is no burst."""
    pace = Pace(DAY, 10.0)
    assert pace.request(5.0) == 0.0
    assert pace.request(5.0) == pytest.approx(0.1)
    assert pace.request(5.0) == pytest.approx(0.2)
    assert pace.request(100.0) == 0.0
    assert pace.request(100.0) == pytest.approx(0.1)


def test_a_pace_takes_another_interval_and_rate() -> None:
    """A reload changes both, and the listener keeps its part of the rate."""
    pace = Pace(DAY, 10.0)
    pace.change(2 * DAY, 4.0)
    pace.divide(16, 64)
    assert (pace.interval_seconds, pace.rate) == (2 * DAY, 1.0)


def test_listeners_share_the_rate_of_their_instance() -> None:
    """The listeners divide the rate as they divide the users in flight. A single listener has all of it."""
    pace = Pace(DAY, 10.0)
    pace.divide(16, 64)
    assert pace.rate == 2.5
    pace.divide(64, 64)
    assert pace.rate == 10.0
    pace.divide(128, 64)
    assert pace.rate == 10.0
