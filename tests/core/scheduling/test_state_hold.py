"""The hold while the state cannot be written."""

from peruserd.core.scheduling.state_hold import StateHold

FULL = "the disk is full"


def test_the_first_write_that_fails_begins_the_hold() -> None:
    """Writes that were under way fail as well, and change nothing."""
    hold = StateHold().failed(FULL, 100.0)
    assert (hold.why, hold.since, hold.try_at, hold.is_new) == (FULL, 100.0, 101.0, True)
    assert hold.failed(FULL, 100.5) is hold


def test_test_writes_have_growing_pauses() -> None:
    """A disk that stays full costs four small writes a minute, and the hold ends soon after it has room."""
    hold, now, pauses = StateHold(), 100.0, []
    for _ in range(7):
        hold = hold.failed(FULL, now)
        pauses.append(hold.try_at - now)
        now = hold.try_at
    assert pauses == [1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]
    assert not hold.is_new
    assert hold.since == 100.0


def test_a_test_write_that_succeeds_ends_the_hold() -> None:
    """Trouble a while later is another one."""
    hold = StateHold().failed(FULL, 100.0).written(101.0)
    assert hold.why is None
    later = hold.failed(FULL, 161.0)
    assert (later.is_new, later.since, later.try_at) == (True, 161.0, 162.0)


def test_a_disk_that_takes_one_write_and_not_the_next_is_one_trouble() -> None:
    """The pauses go on to grow, and it is reported once."""
    hold, now = StateHold(), 100.0
    for failures, pause in ((1, 1.0), (2, 2.0), (3, 4.0)):
        hold = hold.failed(FULL, now)
        assert (hold.failures, hold.try_at - now) == (failures, pause)
        hold = hold.written(now + pause)
        now += pause + 0.5
    assert hold.since == 100.0
