"""A task that a thread repeats."""

import queue
import threading

import pytest
from structlog.testing import capture_logs

from peruserd.repeated_task import RepeatedTask
from tests.waiting import PATIENCE_SECONDS, eventually_at_least

NEVER_SECONDS = 3600.0


class Turns:
    """Turns whose pauses are given, one after the other; the last one is repeated. `count` is how many there were."""

    def __init__(self, *pauses: float | None) -> None:
        self._pauses = list(pauses)
        self.count = 0
        self.begun: queue.SimpleQueue[None] = queue.SimpleQueue()

    def __call__(self) -> float | None:
        """Take a turn."""
        self.count += 1
        self.begun.put(None)
        return self._pauses.pop(0) if len(self._pauses) > 1 else self._pauses[0]


@pytest.mark.parametrize("pause", [0.0, -1.0], ids=["due", "overdue"])
def test_turns_follow_each_other_after_their_pauses(pause: float) -> None:
    """A turn that is due, or overdue, follows without a request."""
    turns = Turns(pause)
    task = RepeatedTask("turns", turns)
    task.start()
    eventually_at_least(3, lambda: turns.count)
    task.stop()
    assert task.join(PATIENCE_SECONDS)


def test_a_request_ends_the_pause() -> None:
    """Each request during a long pause brings one turn."""
    turns = Turns(NEVER_SECONDS)
    task = RepeatedTask("turns", turns)
    task.start()
    for number in (1, 2, 3):
        turns.begun.get(timeout=PATIENCE_SECONDS)
        assert turns.count == number
        task.soon()
    turns.begun.get(timeout=PATIENCE_SECONDS)
    task.stop()
    assert task.join(PATIENCE_SECONDS)
    assert turns.count == 4


def test_a_request_does_not_shorten_the_least_pause() -> None:
    """Something may request turns all the time, and they must not become too many."""
    turns = Turns(NEVER_SECONDS)
    task = RepeatedTask("turns", turns, min_pause_seconds=0.2)
    task.start()
    turns.begun.get(timeout=PATIENCE_SECONDS)
    task.soon()
    assert turns.begun.empty()
    turns.begun.get(timeout=PATIENCE_SECONDS)
    task.stop()
    assert task.join(PATIENCE_SECONDS)


def test_a_turn_can_end_the_thread() -> None:
    """The end comes after the last turn, in the thread of the turns."""
    ends: list[str] = []
    task = RepeatedTask("turns", Turns(0.0, None), at_end=lambda: ends.append(threading.current_thread().name))
    assert not task.is_running
    task.start()
    assert task.join(PATIENCE_SECONDS)
    assert not task.is_running
    assert ends == ["turns"]


def test_a_stop_ends_the_pause_and_lets_no_turn_follow() -> None:
    """The end does not wait for the pause."""
    turns, ends = Turns(NEVER_SECONDS), [False]
    task = RepeatedTask("turns", turns, at_end=lambda: ends.append(True))
    task.start()
    turns.begun.get(timeout=PATIENCE_SECONDS)
    task.stop()
    assert task.ends_within(PATIENCE_SECONDS)
    assert (turns.count, ends[-1]) == (1, True)


def test_a_task_that_does_not_end_in_time_is_named() -> None:
    """The other parts of the instance still end."""
    released = threading.Event()

    def turn() -> None:
        released.wait()

    task = RepeatedTask("stubborn", turn)
    task.start()
    task.stop()
    with capture_logs() as logged:
        assert not task.join(0.01)
    assert [(line["log_level"], line["part"]) for line in logged] == [("warning", "stubborn")]
    released.set()
    assert task.ends_within(PATIENCE_SECONDS)


def test_a_task_that_was_never_started_need_not_end() -> None:
    """An instance may end before it has started all its parts."""
    task = RepeatedTask("turns", Turns(NEVER_SECONDS))
    task.stop()
    assert task.join(0.0)
