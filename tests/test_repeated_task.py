"""A task that a thread repeats."""

import queue
import threading

import pytest
from structlog.testing import capture_logs

from peruserd import repeated_task
from peruserd.core.common.backoff import Backoff
from peruserd.repeated_task import EndedUnaskedError, RepeatedTask
from peruserd.threads import Register
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
    turns = Turns(0.0, None)
    task = RepeatedTask("turns", turns, may_end=True, at_end=lambda: ends.append(threading.current_thread().name))
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


class Faulty:
    """Turns that raise these errors, one after the other, and succeed afterwards."""

    def __init__(self, *errors: BaseException | None) -> None:
        self._errors = list(errors)
        self.count = 0

    def __call__(self) -> float:
        self.count += 1
        error = self._errors.pop(0) if self._errors else None
        if error is not None:
            raise error
        return 0.01


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses after failures."""
    monkeypatch.setattr(repeated_task, "_BACKOFF", Backoff(initial_seconds=0.01, max_seconds=0.01))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "error",
    [
        ValueError("nobody foresaw this"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        MemoryError(),
        SystemExit(3),
        KeyboardInterrupt(),
        RecursionError(),
    ],
    ids=repr,
)
def test_a_turn_that_fails_in_any_way_is_taken_again(error: BaseException) -> None:
    """The traceback is logged once, however often it fails, and so is the recovery."""
    turns, register = Faulty(error, error, error), Register()
    task = RepeatedTask("turns", turns, register=register)
    with capture_logs() as logged:
        task.start()
        eventually_at_least(6, lambda: turns.count)
        task.stop()
        assert task.join(PATIENCE_SECONDS)
    assert [line["log_level"] for line in logged] == ["error", "info"]
    assert logged[0]["exc_info"] is error
    assert {line["part"] for line in logged} == {"turns"}
    assert logged[1]["failures"] == 3


@pytest.mark.usefixtures("quick")
def test_each_kind_of_failure_in_a_row_has_its_traceback() -> None:
    """A second fault behind the first one would otherwise stay unknown."""
    turns = Faulty(ValueError("one"), ValueError("one"), KeyError("two"), KeyError("two"))
    task = RepeatedTask("turns", turns, register=Register())
    with capture_logs() as logged:
        task.start()
        eventually_at_least(6, lambda: turns.count)
        task.stop()
        assert task.join(PATIENCE_SECONDS)
    assert [type(line.get("exc_info")) for line in logged] == [ValueError, KeyError, type(None)]


def test_the_pauses_after_failures_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that fails for good costs little, and works again within half a minute once it can."""
    pauses: list[float] = []
    turns = Faulty(*(ValueError("again") for _ in range(8)))
    task = RepeatedTask("turns", turns, register=Register())
    monkeypatch.setattr(task, "_rest", pauses.append)
    task.start()
    eventually_at_least(9, lambda: turns.count)
    task.stop()
    assert task.join(PATIENCE_SECONDS)
    assert pauses[:8] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


@pytest.mark.usefixtures("quick")
def test_a_turn_must_not_end_the_thread_unasked() -> None:
    """A part whose connection was interrupted, for example, goes on unless the instance stops."""
    turns = Turns(None, NEVER_SECONDS)
    task = RepeatedTask("turns", turns, register=Register())
    with capture_logs() as logged:
        task.start()
        eventually_at_least(2, lambda: turns.count)
        task.stop()
        assert task.join(PATIENCE_SECONDS)
    assert isinstance(logged[0]["exc_info"], EndedUnaskedError)


def test_a_failure_of_the_last_step_is_logged() -> None:
    """The thread ends as it was told to, and the register knows no thread of it any more."""

    def fail() -> None:
        raise ValueError("at the end")

    register = Register()
    task = RepeatedTask("turns", Turns(NEVER_SECONDS), at_end=fail, register=register)
    with capture_logs() as logged:
        task.start()
        task.stop()
        assert task.join(PATIENCE_SECONDS)
    assert [line["log_level"] for line in logged] == ["error"]
    assert register.names() == []
    assert register.trouble() is None
