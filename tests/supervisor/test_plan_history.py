"""The last changes of the plan, with their reasons."""

import msgspec

from peruserd.core.cluster.views import View
from peruserd.core.ownership.ranges import WHOLE_SPACE, ShardMap
from peruserd.supervisor.plan_history import PlanHistory

VIEW = View(("n1", "n2"), ("n1", "n2"), ShardMap("_users", ".1", {WHOLE_SPACE: ("n1", "n2")}))
WITHOUT = msgspec.structs.replace(VIEW, instances=("n1",))


def test_the_newest_change_comes_first_and_old_ones_go() -> None:
    """A page shows what happened last, and a cluster that flaps for months fills no memory."""
    history = PlanHistory(lambda: 7.0)
    history.note(None, (VIEW, VIEW), "listening to 1 of 1 ranges", "1 started, 0 informed, 0 stopped")
    (first,) = history.changes
    assert first.reasons == ("the first plan after the start",)
    assert (first.at, first.says, first.done) == (
        7.0,
        "listening to 1 of 1 ranges",
        "1 started, 0 informed, 0 stopped",
    )
    for _ in range(50):
        history.note((VIEW, VIEW), (WITHOUT, WITHOUT), "", "")
        history.note((WITHOUT, WITHOUT), (VIEW, VIEW), "", "")
    assert len(history.changes) == 20
    assert history.changes[0].reasons == ("the instance beside n2 is alive",)


def test_a_plan_that_follows_from_what_was_seen_says_so() -> None:
    """In the quiet period the plan changes before the view in force does, and back if the change did not last."""
    history = PlanHistory()
    history.note((VIEW, VIEW), (VIEW, WITHOUT), "", "")
    history.note((VIEW, WITHOUT), (VIEW, VIEW), "", "")
    back, before = history.changes
    assert before.reasons == (
        "seen, and not in force yet: the instance beside n2 has stopped, or gives no sign of life",
    )
    assert back.reasons == ("what was about to change stays as it was",)
