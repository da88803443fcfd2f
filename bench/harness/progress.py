"""The progress of a benchmark: a bar on a terminal, and one line for each step elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Steps(Protocol):
    """The steps of a benchmark, which take about as long as each other."""

    def expect(self, count: int) -> None:
        """Say how many steps the measurement of one cluster has."""

    def step(self, what: str) -> None:
        """Say that the next step begins, and what it does."""


class _Counted:
    """A count of the steps that have begun, of those on all clusters."""

    def __init__(self, clusters: int) -> None:
        self._clusters = clusters
        self.begun = 0
        self.total = 0

    def expect(self, count: int) -> None:
        self.total = count * self._clusters


class _Bar(_Counted):
    def __init__(self, progress: Progress, task: TaskID, clusters: int) -> None:
        super().__init__(clusters)
        self._progress = progress
        self._task = task

    def step(self, what: str) -> None:
        self._progress.update(self._task, completed=self.begun, total=self.total, what=what)
        self.begun += 1


class _Lines(_Counted):
    def __init__(self, name: str, clusters: int) -> None:
        super().__init__(clusters)
        self._name = name

    def step(self, what: str) -> None:
        self.begun += 1
        print(f"{self._name}: {self.begun}/{self.total} {what}", file=sys.stderr, flush=True)


@contextmanager
def steps(name: str, clusters: int = 1) -> Iterator[Steps]:
    """Show the progress of a benchmark that measures so many clusters, each in as many steps."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(name, clusters)
        return
    columns = (
        TextColumn(name),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[what]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(name, total=None, what="")
        bar = _Bar(progress, task, clusters)
        yield bar
        progress.update(task, completed=bar.total, what="done")
