"""Users who are blamed for a failure of their own, while nobody who works comes back for what waits behind that."""

from peruserd.core.users.quarantine import Failure
from peruserd.listener.outcome import Outcome
from tests.listener.states import Feed, listening

TIMEOUT = Failure("timeout", "no answer in time")


def test_a_worker_is_woken_for_what_came_of_a_user_while_the_blame_was_written_down() -> None:
    """The failure is put away by another thread, and the worker who was woken for the row has found nothing."""
    state = listening()
    feed = Feed(state)
    feed.enter("ann")
    change = state.dispatch.next(0.0)
    assert change is not None
    assert state.set_aside(change, Outcome(failure=TIMEOUT), TIMEOUT, 0.0)
    state.standstill.began(0.5)
    (blame,) = state.standstill.answered(None, chance=0.5, now=0.6)
    ((blamed, failure),) = state.documents.blamed(blame.before)
    state.judged(blamed, failure, now=0.6, wall=0.6, chance=0.5)
    feed.enter("ann")
    assert state.dispatch.next(0.6) is None
    state.passed_on()
    state.put_away(blamed, 0.7)
    assert state.to_wake == 1
    assert state.dispatch.next(0.7) is not None
