"""The programs that benchmarks and the demo start, as forks.

A fork with all imports takes a tenth of the time of a new interpreter.
"""

import io
import itertools
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import pytest

from peruserd.demo import instances
from peruserd.simcluster import process
from peruserd.simcluster.runner import READY_LINE
from tests.system.processes import Forked
from tests.waiting import eventually


class _Program:
    """A fork with the methods of `subprocess.Popen` that an instance or a cluster calls."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        self._forked = Forked(arguments, output=log, cwd=Path.cwd(), environment=environment)
        self.pid = self._forked.pid

    @property
    def stdout(self) -> TextIO:
        """Return what a cluster has written once it is ready, or has ended; it writes nothing after that."""
        eventually(lambda: self.returncode is not None or READY_LINE in self._lines(), "the cluster is ready")
        return io.StringIO("\n".join(self._lines()))

    @property
    def returncode(self) -> int | None:
        return self._forked.exit_code

    def poll(self) -> int | None:
        return self._forked.exit_code

    def send_signal(self, number: signal.Signals) -> None:
        self._forked.signal(number)

    def terminate(self) -> None:
        self._forked.signal(signal.SIGTERM)

    def kill(self) -> None:
        self._forked.signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:  # noqa: ARG002 - tests are patient
        return self._forked.wait()

    def _lines(self) -> list[str]:
        return self._log.read_text(encoding="utf-8").splitlines()


@contextmanager
def forked_programs(directory: Path) -> Iterator[None]:
    """Let instances and clusters be forks while the context lasts; the outputs of clusters are in a directory."""
    numbers = itertools.count(1)

    def start_instance(environment: Mapping[str, str], log: Path) -> _Program:
        return _Program(["run"], environment, log)

    def start_cluster(arguments: Sequence[str]) -> _Program:
        return _Program(["simcluster", *arguments], os.environ, directory / f"cluster-{next(numbers)}.log")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(instances, "start_program", start_instance)
        patch.setattr(process, "start_program", start_cluster)
        yield
