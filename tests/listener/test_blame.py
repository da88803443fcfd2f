"""Users with a failure of their own: the change that waits behind it must still wake a worker."""

from peruserd.core.users.quarantine import Failure
from peruserd.listener.outcome import Outcome
from tests.listener.states import Feed, listening

TIMEOUT = Failure("timeout", "no answer in time")


def test_a_worker_is_woken_for_what_came_of_a_user_while_the_blame_was_written_down() -> None:
    """Another thread puts the failure away, and the worker who was woken for the row has found nothing to do."""
    state = listening()
    feed = Feed(state)
    feed.enter("ann")
    change = state.dispatch.next(0.0)
    assert change is not None
    assert state.set_aside(change, Outcome(failure=TIMEOUT), TIMEOUT, 0.0)
    state.cluster_hold.began(0.5)
    (blame,) = state.cluster_hold.answered(None, chance=0.5, now=0.6)
    ((blamed, failure),) = state.documents.take_set_aside(blame.before)
    state.judged(blamed, failure, now=0.6, wall=0.6, chance=0.5)
    feed.enter("ann")
    assert state.dispatch.next(0.6) is None
    state.clear_results()
    state.put_away(blamed, 0.7)
    assert state.to_wake == 1
    assert state.dispatch.next(0.7) is not None
