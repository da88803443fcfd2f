"""Processes for system tests, each in a group of its own, so that the whole group can be ended after any test."""

import contextlib
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil

from tests.forking import CONTEXT
from tests.system import forked
from tests.waiting import PATIENCE_SECONDS, eventually

_POLL_SECONDS = 0.02


class Group(ABC):
    """A process and its descendants. The process is the leader of the group, and `pid` is its id."""

    pid: int

    @property
    @abstractmethod
    def exit_code(self) -> int | None:
        """Return the exit code, negative for a signal, or None while the process runs."""

    @abstractmethod
    def wait(self) -> int:
        """Return the exit code as soon as the process has ended."""

    def members(self) -> list[psutil.Process]:
        """Return the processes of the group that still run."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getpgid(process.pid) == self.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone."""
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def end(self) -> None:
        """End the whole group."""
        # This is repeated, because one of them may be starting another. Processes that init reaps late count as gone.
        while members := self.members():
            for process in members:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(_POLL_SECONDS)
        self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class Started(Group):
    """A command. Standard output and error go to `output`, which is appended to."""

    def __init__(
        self, command: Sequence[str | Path], *, output: Path, cwd: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        with output.open("ab") as file:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=environment,
                start_new_session=True,
                preexec_fn=forked.end_with_parent,  # noqa: PLW1509 - one system call, no lock taken
            )
        self.pid = self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Return the exit code, negative for a signal, or None while the process runs."""
        return self._process.poll()

    def wait(self) -> int:
        """Return the exit code as soon as the process has ended."""
        return self._process.wait(PATIENCE_SECONDS)


class Forked(Group):
    """`python -m peruserd` with these arguments, without the time of its imports, see `tests.system.forked`."""

    def __init__(self, arguments: Sequence[str], *, output: Path, cwd: Path, environment: Mapping[str, str]) -> None:
        # The file exists from now on, and the process opens it a moment later.
        output.touch()
        self._process = CONTEXT.Process(target=forked.run, args=(arguments, dict(environment), cwd, output))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        eventually(lambda: self.exit_code is not None or self._leads_a_group(), "the process has its group")

    @property
    def exit_code(self) -> int | None:
        """Return the exit code, negative for a signal, or None while the process runs."""
        return self._process.exitcode

    def wait(self) -> int:
        """Return the exit code as soon as the process has ended."""
        self._process.join(PATIENCE_SECONDS)
        assert self._process.exitcode is not None, f"process {self.pid} has not ended"
        return self._process.exitcode

    def _leads_a_group(self) -> bool:
        with contextlib.suppress(ProcessLookupError):
            return os.getpgid(self.pid) == self.pid
        return False
