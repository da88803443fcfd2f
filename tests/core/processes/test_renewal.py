from peruserd.core.cluster.views import Copy
from peruserd.core.ownership.ranges import split_evenly
from peruserd.core.processes.renewal import PATIENCE_SECONDS, Renewal

FIRST, SECOND, THIRD = (Copy("_users", each, "n1") for each in split_evenly(3))


def test_the_next_listener_waits_until_the_last_one_reads() -> None:
    """So only one range at a time is without its listener."""
    renewal, due = Renewal().next([SECOND, FIRST], {THIRD: True}, 0.0)
    assert due == FIRST
    renewal, due = renewal.next([SECOND], {FIRST: False, THIRD: True}, 1.0)
    assert due is None
    renewal, due = renewal.next([SECOND], {FIRST: True, THIRD: True}, 2.0)
    assert due == SECOND
    assert renewal.next([], {FIRST: True, SECOND: False, THIRD: True}, 3.0) == (renewal, None)


def test_a_listener_that_does_not_come_back_keeps_the_others_waiting_for_a_while_only() -> None:
    """Its copy may be away for days, and the others need their configuration."""
    renewal, _ = Renewal().next([FIRST, SECOND], {}, 0.0)
    until = renewal.deadline(has_outdated=True)
    assert until == PATIENCE_SECONDS
    assert renewal.next([SECOND], {FIRST: False}, until - 0.1)[1] is None
    assert renewal.next([SECOND], {FIRST: False}, until)[1] == SECOND


def test_a_listener_that_has_left_the_plan_keeps_nobody_waiting() -> None:
    """It will never read its copy again."""
    renewal, _ = Renewal().next([FIRST, SECOND], {}, 0.0)
    assert renewal.next([SECOND], {}, 1.0)[1] == SECOND


def test_a_listener_that_is_outdated_again_is_renewed_again() -> None:
    """A second reload came while the first one was carried out."""
    renewal, _ = Renewal().next([FIRST], {SECOND: True}, 0.0)
    assert renewal.next([FIRST, SECOND], {}, 1.0)[1] == FIRST


def test_nothing_is_due_while_nothing_is_outdated() -> None:
    """The loop must not wake up for nothing."""
    renewal, _ = Renewal().next([FIRST], {}, 0.0)
    assert renewal.deadline(has_outdated=False) is None
    assert Renewal().deadline(has_outdated=True) is None
