"""How long the oldest change has waited, as a listener reports it."""

from peruserd.core.scheduling.restless import MAX_CHANGES
from tests.listener.ownerships import DONE
from tests.listener.stepped_tracker import AWAY, WHY, SteppedTracker


def _since(stepped: SteppedTracker) -> float | None:
    return stepped.tracker.report().oldest_waiting_since


def test_the_oldest_change_that_is_not_finished_counts(stepped: SteppedTracker) -> None:
    """A change under work has not been acted on either."""
    begun = stepped.clock.now
    assert _since(stepped) is None
    stepped.sign_up("ann")
    stepped.clock.now += 10.0
    stepped.sign_up("bob")
    assert _since(stepped) == begun
    change = stepped.take()
    assert change is not None
    assert _since(stepped) == begun
    stepped.tracker.give_back(change, DONE)
    assert _since(stepped) == begun + 10.0
    stepped.serve_all()
    assert _since(stepped) is None


def test_on_hold_users_wait(stepped: SteppedTracker) -> None:
    """It is the cluster's fault, and they wait all the same."""
    begun = stepped.clock.now
    stepped.sign_up("ann")
    stepped.serve(AWAY)
    assert stepped.probe(WHY)
    assert _since(stepped) == begun


def test_nobody_makes_a_listener_late_alone(stepped: SteppedTracker) -> None:
    """A user who changes all the time is looked at once a minute. Others who wait count as before."""
    for number in range(2 * MAX_CHANGES + 4):
        stepped.sign_up("enemy", deleted=bool(number % 2))
        stepped.serve_all()
        stepped.clock.now += 0.1
    assert stepped.tracker.report().waiting == 1, "the last change rests"
    assert _since(stepped) is None
    stepped.sign_up("enemy")
    stepped.clock.now += 40.0
    assert _since(stepped) is None, "a newer change of the same user rests as well"
    now = stepped.clock.now
    stepped.sign_up("ann")
    assert _since(stepped) == now
