"""Users who are tried early because another user with the same failure was served."""

import pytest

from peruserd.core.scheduling.records import EMPTY, Record, replace
from peruserd.core.scheduling.recovery import Recovery
from peruserd.core.users.quarantine import OF_THE_CLUSTER, Failure, Quarantined


def take(recovery: Recovery, kind: str) -> list[str]:
    """Return the users who try after a user with this kind of failure was served."""
    return recovery.note_served(kept(kind).kept, created=False)


def kept(kind: str, due: float | None = 9.0) -> Record:
    """Return the record of a user in quarantine whose next try is due then."""
    return replace(EMPTY, kept=Quarantined("u", False, Failure(kind, "words"), 1, 0.0), due=due)  # noqa: FBT003


@pytest.mark.parametrize("kind", sorted(OF_THE_CLUSTER))
def test_two_of_the_kind_are_taken_out_those_that_failed_first(kind: str) -> None:
    """Each user is taken once, and a user who failed again is among the last."""
    recovery = Recovery()
    for each in "abcd":
        recovery.note(each, EMPTY, kept(kind))
    recovery.note("a", kept(kind), kept(kind, 20.0))
    assert take(recovery, kind) == ["b", "c"]
    assert take(recovery, kind) == ["d", "a"]
    assert take(recovery, kind) == []


def test_others_are_left_alone() -> None:
    """Users with another kind of failure are left alone, and so are users tried now, served, or without a next try."""
    recovery = Recovery()
    recovery.note("other", EMPTY, kept("timeout"))
    recovery.note("own", EMPTY, kept("held"))
    recovery.note("now", EMPTY, kept("server_error"))
    recovery.note("now", kept("server_error"), kept("server_error", None))
    recovery.note("served", EMPTY, kept("server_error"))
    recovery.note("served", kept("server_error"), EMPTY)
    recovery.note("never", EMPTY, kept("server_error", None))
    assert take(recovery, "server_error") == take(recovery, "held") == []
    assert take(recovery, "timeout") == ["other"]


def test_nothing_is_remembered_of_those_who_are_out() -> None:
    """Memory is bounded by who is in quarantine."""
    recovery = Recovery()
    for number in range(100):
        recovery.note(str(number), EMPTY, kept("timeout"))
        recovery.note(str(number), kept("timeout"), EMPTY)
    recovery.note("x", EMPTY, kept("timeout"))
    assert take(recovery, "timeout") == ["x"]
    assert recovery._waiting == {}


def test_a_new_user_who_is_served_after_others_have_failed_shows_the_end() -> None:
    """Others are tried once, and only if everything was done for the user. A user's own failure shows nothing."""
    recovery = Recovery()
    for each in "abcdef":
        recovery.note(each, EMPTY, kept("timeout"))
    assert recovery.note_served(None, created=True) == []
    recovery.note_failed(Failure("held", "words"))
    assert recovery.note_served(None, created=True) == []
    recovery.note_failed(Failure("timeout", "words"))
    assert recovery.note_served(None, created=False) == []
    assert recovery.note_served(None, created=True) == ["a", "b"]
    assert recovery.note_served(None, created=True) == []


def test_those_who_wait_for_another_node_are_left_alone() -> None:
    """Copies on one node that can be read again say nothing of another node."""
    recovery = Recovery()
    waiting = {
        node: Quarantined(
            "u", deleted=False, failure=Failure("copies_away", "", waits_for=(node,)), failures=1, since=0.0
        )
        for node in "xy"
    }
    for node, entry in waiting.items():
        recovery.note(f"waits for {node}", EMPTY, replace(EMPTY, kept=entry, due=9.0))
    assert recovery.awaited == 2
    assert recovery.note_served(waiting["x"], created=False) == ["waits for x"]
    recovery.note("waits for y", replace(EMPTY, kept=waiting["y"], due=9.0), EMPTY)
    assert recovery.awaited == 1


def test_all_have_their_turn() -> None:
    """Users who fail again come last, so broken ones do not take the turns of others."""
    recovery = Recovery()
    for each in "abcd":
        recovery.note(each, EMPTY, kept("timeout"))
    first = take(recovery, "timeout")
    for each in first:
        recovery.note(each, kept("timeout", None), kept("timeout", 30.0))
    assert (first, take(recovery, "timeout")) == (["a", "b"], ["c", "d"])
