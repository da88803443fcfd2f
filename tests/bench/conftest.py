"""Instances of benchmarks are forks in tests, because a fork takes a tenth of the time of a new interpreter."""

import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from peruserd.demo import instances
from tests.system.processes import Forked


class _Program:
    """A fork with the methods of `subprocess.Popen` that an instance calls."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._forked = Forked(["run"], output=log, cwd=Path.cwd(), environment=environment)
        self.pid = self._forked.pid

    @property
    def returncode(self) -> int | None:
        return self._forked.exit_code

    def poll(self) -> int | None:
        return self._forked.exit_code

    def send_signal(self, number: signal.Signals) -> None:
        self._forked.signal(number)

    def kill(self) -> None:
        self._forked.signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:  # noqa: ARG002 - tests are patient
        return self._forked.wait()


@pytest.fixture(autouse=True)
def _instances_are_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "start_program", _Program)
