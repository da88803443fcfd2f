"""Processes as system tests run them: in a group of their own, so that all of it can be ended, however a test ends."""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil

from tests.waiting import PATIENCE_SECONDS

_POLL_SECONDS = 0.02
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class Started:
    """A process and all that it starts. Standard output and error go to `output`, which is appended to."""

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
                # Should pytest itself be killed, nobody else would end it.
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - one system call, no lock taken
            )
        self.pid = self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Return the exit code, negative for a signal, or None while the process runs."""
        return self._process.poll()

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
        self._process.send_signal(number)

    def wait(self) -> int:
        """Return the exit code as soon as the process has ended."""
        return self._process.wait(PATIENCE_SECONDS)

    def end(self) -> None:
        """End the whole group."""
        # Again and again, because one of them may be starting another. Processes that init reaps late count as gone.
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


def _end_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
