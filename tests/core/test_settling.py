from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.settling import Settling
from peruserd.core.views import View

QUIET = 5.0
A, B, C = (View((name,), (name,), None) for name in "abc")


def _settled(view: View) -> Settling:
    return Settling(QUIET).see(view, 0.0)


def test_the_first_view_takes_effect_at_once() -> None:
    """Nothing is served before there is a view, so there is nothing to protect by waiting."""
    assert _settled(A).settled == A
    assert _settled(A).due is None


def test_a_changed_view_takes_effect_after_the_quiet_period() -> None:
    """A view that stays the same for the whole quiet period is believed, and not a moment before."""
    seen = _settled(A).see(B, 10.0).see(B, 12.0)
    assert seen.due == 15.0
    assert seen.ripen(14.9).settled == A
    ripe = seen.ripen(15.0)
    assert (ripe.settled, ripe.due) == (B, None)


def test_a_view_that_changes_again_begins_its_quiet_period_anew() -> None:
    """Only what has stayed the same counts, not how long something has been different."""
    seen = _settled(A).see(B, 10.0).see(C, 14.0)
    assert seen.ripen(15.0).settled == A
    assert seen.ripen(19.0).settled == C


def test_a_view_that_comes_back_changes_nothing() -> None:
    """A node that flaps within the quiet period moves no document."""
    seen = _settled(A).see(B, 10.0).see(A, 12.0)
    assert seen.due is None
    assert seen.ripen(1000.0).settled == A
    again = seen.see(B, 20.0)
    assert again.due == 25.0


def test_without_a_quiet_period_a_change_takes_effect_at_the_next_look() -> None:
    """A quiet period of 0 seconds is none."""
    assert Settling(0.0).see(A, 0.0).see(B, 1.0).ripen(1.0).settled == B


@given(
    quiet=st.floats(0.0, 100.0),
    looks=st.lists(st.tuples(st.floats(0.0, 50.0), st.sampled_from([A, B, C])), min_size=1),
)
def test_what_is_believed_was_seen_unchanged_long_enough(quiet: float, looks: list[tuple[float, View]]) -> None:
    """Whatever is seen and whenever, a new belief was the only thing seen for the whole quiet period before it."""
    settling = Settling(quiet)
    now = 0.0
    seen: list[tuple[float, View]] = []
    for pause, view in looks:
        now += pause
        before = settling.settled
        settling = settling.ripen(now)
        if before is not None and settling.settled != before:
            since = max((at for at, each in seen if each != settling.settled), default=0.0)
            first = min(at for at, each in seen if at >= since and each == settling.settled)
            assert now - first >= quiet - 1e-9
            assert settling.settled == seen[-1][1]
        settling = settling.see(view, now)
        seen.append((now, view))
    assert settling.ripen(now + quiet + 1.0).settled == looks[-1][1]
