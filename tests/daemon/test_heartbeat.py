"""The heartbeat, with a health and a notifier of the test."""

from typing import Any, cast

import pytest

from peruserd.daemon.heartbeat import Heartbeat


class Instance:
    """An instance whose health is given, its clock, and what its heartbeat has done."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.well = True
        self.why: str | None = None
        self.looks = 0
        self.watchdogs: list[float] = []
        self.ends: list[str] = []
        self.line: str | None = "listening"
        self.statuses: list[str] = []
        self.heartbeat = Heartbeat(
            cast("Any", self),
            cast("Any", self),
            self.ends.append,
            lambda healthy: self.line and f"{self.line}: {healthy}",
        )

    def healthy(self) -> tuple[bool, str]:
        self.looks += 1
        return self.well, "ok" if self.well else "not well"

    def broken(self) -> str | None:
        return self.why

    def watchdog(self) -> None:
        self.watchdogs.append(self.now)

    def status(self, sentence: str) -> None:
        self.statuses.append(sentence)

    def beat(self, rounds: int = 1, seconds: float = 1.0) -> None:
        for _ in range(rounds):
            self.now += seconds
            self.heartbeat.beat(self.now)


def test_the_watchdog_hears_of_a_healthy_instance_and_of_no_other() -> None:
    """A loop that goes round is not enough, and an instance that has recovered is heard of again."""
    instance = Instance()
    instance.beat()
    instance.well = False
    instance.beat(10)
    assert instance.watchdogs == [1_001.0]
    assert instance.ends == []
    instance.well = True
    instance.beat()
    assert instance.watchdogs == [1_001.0, 1_012.0]


def test_a_thread_that_no_longer_works_ends_the_instance_once(capfd: pytest.CaptureFixture[str]) -> None:
    """The stacks of all threads show where it hangs."""
    instance = Instance()
    instance.well, instance.why = False, "the thread 'watcher' hangs"
    instance.beat(3)
    assert instance.ends == ["the thread 'watcher' hangs"]
    assert instance.watchdogs == []
    assert "most recent call first" in capfd.readouterr().err


def test_systemd_hears_how_the_instance_stands_until_it_stops() -> None:
    """An instance that stops has said why, and nothing may be written over that."""
    instance = Instance()
    instance.beat()
    instance.well = False
    instance.beat()
    instance.line = None
    instance.beat()
    assert instance.statuses == ["listening: (True, 'ok')", "listening: (False, 'not well')"]


def test_a_busy_loop_does_not_look_each_time() -> None:
    """A hundred rounds within a second cost one look."""
    instance = Instance()
    instance.beat(rounds=100, seconds=0.005)
    assert instance.looks == 1
    assert len(instance.watchdogs) == 1
