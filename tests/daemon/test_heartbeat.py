"""The heartbeat, with a health and a notifier of the test."""

from itertools import pairwise
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from peruserd.daemon.heartbeat import START_SECONDS, Heartbeat


class Instance:
    """An instance whose health is given, its clock, and what its heartbeat has done."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.well = True
        self.why: str | None = None
        self.has_started = False
        self.is_stopping = False
        self.words: str | None = "waiting for CouchDB"
        self.looks = 0
        self.said: list[tuple[float, str]] = []
        self.ends: list[str] = []
        self.is_ready = False
        self.heartbeat = Heartbeat(
            cast("Any", self),
            cast("Any", self),
            self.ends.append,
            self.sentence,
            is_stopping=lambda: self.is_stopping,
        )

    def beat(self, rounds: int = 1, seconds: float = 1.0) -> None:
        """Let the loop go round."""
        for _ in range(rounds):
            self.now += seconds
            self.heartbeat.beat(self.now)

    def heard(self, word: str) -> list[float]:
        """Return when something was said."""
        return [at for at, each in self.said if each == word]

    # As a health

    def healthy(self) -> tuple[bool, str]:
        self.looks += 1
        return self.well, "ok" if self.well else "not well"

    def broken(self) -> str | None:
        return self.why

    def started(self) -> bool:
        return self.has_started

    def sentence(self, healthy: tuple[bool, str]) -> str | None:
        if self.words is None:
            raise KeyError("no such range")
        return None if self.is_stopping else f"{self.words} ({healthy[1]})"

    # As a notifier

    def watchdog(self) -> None:
        self._say("watchdog")

    def ready(self) -> None:
        self.is_ready = True
        self._say("ready")

    def repeat(self) -> None:
        self._say("repeat")

    def stopping(self) -> None:
        self._say("stopping")

    def extend_timeout(self, seconds: float) -> None:
        self._say(f"extend {seconds:.0f}")

    def status(self, sentence: str) -> None:
        self._say(f"status {sentence}")

    def _say(self, what: str) -> None:
        self.said.append((self.now, what))


def test_the_watchdog_hears_of_a_healthy_instance_and_of_no_other() -> None:
    """A loop that goes round is not enough, and an instance that has recovered is heard of again."""
    instance = Instance()
    instance.beat()
    instance.well = False
    instance.beat(10)
    assert instance.heard("watchdog") == [1_001.0]
    assert instance.ends == []
    instance.well = True
    instance.beat()
    assert instance.heard("watchdog") == [1_001.0, 1_012.0]


def test_a_thread_that_no_longer_works_ends_the_instance_once(capfd: pytest.CaptureFixture[str]) -> None:
    """The stacks of all threads show where it hangs."""
    instance = Instance()
    instance.well, instance.why = False, "the thread 'cluster-watch' hangs"
    instance.beat(3)
    assert instance.ends == ["the thread 'cluster-watch' hangs"]
    assert instance.heard("watchdog") == []
    assert "most recent call first" in capfd.readouterr().err


def test_a_busy_loop_does_not_look_each_time() -> None:
    """A hundred rounds within a second cost one look."""
    instance = Instance()
    instance.beat(rounds=100, seconds=0.005)
    assert instance.looks == 1
    assert len(instance.heard("watchdog")) == 1


def test_the_start_is_over_once_the_listeners_have_caught_up() -> None:
    """Until then systemd is asked for more time again and again, so that it does not end the start."""
    instance = Instance()
    instance.beat(600)
    assert instance.heard("ready") == []
    extended = instance.heard("extend 60")
    assert len(extended) == 60
    assert max(late - early for early, late in pairwise(extended)) <= 10.0
    instance.has_started = True
    instance.beat(30)
    assert instance.heard("ready") == [1_601.0]
    assert len(instance.heard("extend 60")) == 60


def test_nobody_waits_for_the_start_for_ever() -> None:
    """A boot, or the installation of a package, waits for it. The status says what is missing."""
    instance = Instance()
    instance.beat(int(START_SECONDS) + 60)
    assert instance.heard("ready") == [1_001.0 + START_SECONDS]
    assert instance.said[-1][1] == "status waiting for CouchDB (ok)"


def test_the_state_is_told_in_one_sentence() -> None:
    """It is made of the same answer that the watchdog depends on."""
    instance = Instance()
    instance.beat()
    instance.words, instance.well = "serving 2 of 2 ranges", False
    instance.beat()
    assert instance.heard("status waiting for CouchDB (ok)") == [1_001.0]
    assert instance.heard("status serving 2 of 2 ranges (not well)") == [1_002.0]


def test_the_end_is_told_once_and_its_reason_stays() -> None:
    """The loop has set the status before."""
    instance = Instance()
    instance.beat()
    instance.is_stopping = True
    instance.beat(5)
    assert instance.heard("stopping") == [1_002.0]
    assert instance.heard("status waiting for CouchDB (ok)") == [1_001.0]
    assert len(instance.heard("watchdog")) == 6
    assert instance.heard("ready") == []


def test_a_sentence_that_cannot_be_made_does_not_end_the_loop() -> None:
    """The watchdog hears of the instance all the same, and the log has one traceback."""
    instance = Instance()
    instance.words = None
    with capture_logs() as logged:
        instance.beat(3)
    assert [line["log_level"] for line in logged] == ["error"]
    assert len(instance.heard("watchdog")) == 3
