import resource

import pytest
from structlog.testing import capture_logs

from peruserd.supervisor import descriptors
from peruserd.supervisor.descriptors import DescriptorWatch


class Limits:
    """The limits of a process, in place of those of the tests' own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> None:
        self.now = soft, hard
        self.refuses = False
        monkeypatch.setattr(resource, "getrlimit", lambda _kind: self.now)
        monkeypatch.setattr(resource, "setrlimit", self._set)

    def _set(self, kind: int, limits: tuple[int, int]) -> None:
        assert kind == resource.RLIMIT_NOFILE
        if self.refuses:
            raise ValueError("not allowed to raise maximum limit")
        self.now = limits


def test_the_soft_limit_becomes_the_hard_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hard one stays, so no privilege is needed."""
    limits = Limits(monkeypatch, 1_024, 4_096)
    descriptors.raise_limit()
    assert limits.now == (4_096, 4_096)


def test_a_limit_that_cannot_be_raised_is_only_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may suffice, so the start goes on."""
    limits = Limits(monkeypatch, 1_024, 4_096)
    limits.refuses = True
    with capture_logs() as logged:
        descriptors.raise_limit()
    assert [(each["limit"], each["to"]) for each in logged] == [(1_024, 4_096)]
    assert limits.now == (1_024, 4_096)


def test_a_limit_that_is_too_low_is_said_once_for_each_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan can change every few seconds, and only a change of the need is news."""
    Limits(monkeypatch, 256, 256)
    watch = DescriptorWatch()
    with capture_logs() as logged:
        for listeners, share in ((1, 64), (20, 4), (20, 4), (40, 2), (1, 64), (1, 1_024)):
            watch.check(listeners, share)
    assert [(each["listeners"], each["needed"], each["limit"]) for each in logged] == [
        (20, 272, 256),
        (40, 352, 256),
        (1, 1_072, 256),
    ]
    assert all(each["log_level"] == "warning" for each in logged)
