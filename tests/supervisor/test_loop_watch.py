"""The loop watch, with a loop whose rounds are given."""

import faulthandler
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from peruserd import tracebacks
from peruserd.supervisor import loop_watch
from peruserd.supervisor.loop import Outcome
from peruserd.supervisor.loop_watch import LoopWatch
from tests.waiting import PATIENCE_SECONDS, eventually


@pytest.fixture(autouse=True)
def armed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return after how many seconds the process would have ended for certain; it is the tests' own process."""
    seconds: list[float] = []
    monkeypatch.setattr(tracebacks, "end_later", seconds.append)
    return seconds


class Watched:
    """A loop watch whose looks a test makes itself, and the exit codes with which it has ended the process."""

    def __init__(self) -> None:
        self.round = 1.0
        self.codes: list[int] = []
        self.watch = LoopWatch(lambda: self.round, self.codes.append)

    def look(self, times: int) -> None:
        for _ in range(times):
            self.watch._turn()


def test_a_loop_that_goes_round_is_left_alone(armed: list[float]) -> None:
    """It may stand still for nearly two minutes, and all is forgotten with the next round."""
    watched = Watched()
    for number in range(3):
        watched.round = float(number)
        watched.look(12)
    assert (watched.codes, armed) == ([], [])


def test_a_loop_that_stands_still_ends_the_process_with_the_stacks_of_all_threads(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The loop cannot end the instance in order, so the process ends at once. The outer supervisor starts it anew."""
    watched = Watched()
    watched.look(12)
    with capture_logs() as logged:
        watched.look(1)
    assert watched.codes == [Outcome.EXHAUSTED]
    assert [line["log_level"] for line in logged] == ["critical"]
    assert "most recent call first" in capfd.readouterr().err


def test_a_process_that_can_log_nothing_ends_all_the_same(armed: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that stands still may hold the lock of the log, so its end is certain before the first word."""
    before_words: list[float] = []
    monkeypatch.setattr(tracebacks, "dump", lambda: before_words.extend(armed))
    Watched().look(13)
    assert before_words == [5.0]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """Make a watch that looks often, and stop it at the end."""
    monkeypatch.setattr(loop_watch, "_LOOK_SECONDS", 0.001)
    # It would go on to write stacks after the test, because here nothing ends with the first ones.
    monkeypatch.setattr(faulthandler, "dump_traceback", lambda _file: None)
    watched = Watched()
    yield watched
    watched.watch.stop()


def test_it_looks_from_a_thread_of_its_own(quick: Watched) -> None:
    """The loop's own thread would hang along with it."""
    quick.watch.start()
    eventually(lambda: quick.codes, "the process was ended")


def test_it_ends_with_the_loop(quick: Watched) -> None:
    """The loop's end is no hang."""
    quick.watch.start()
    quick.watch.stop()
    assert quick.watch._task.join(PATIENCE_SECONDS)
    assert not quick.watch._task.is_running
