"""Bars on the terminal that say what a benchmark is doing; lines where there is no terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Steps(Protocol):
    """A piece of work of so many steps."""

    def step(self, what: str) -> None:
        """Note that one more step begins, and what it is."""


class _Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task
        self._begun = 0

    def step(self, what: str) -> None:
        self._progress.update(self._task, completed=self._begun, what=what)
        self._begun += 1


class _Lines:
    def __init__(self, name: str, total: int) -> None:
        self._name = name
        self._total = total
        self._begun = 0

    def step(self, what: str) -> None:
        self._begun += 1
        print(f"{self._name}: {self._begun}/{self._total} {what}", file=sys.stderr, flush=True)


@contextmanager
def steps(name: str, total: int) -> Iterator[Steps]:
    """Show the progress of a benchmark whose steps take about as long as each other."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(name, total)
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
        task = progress.add_task(name, total=total, what="")
        yield _Bar(progress, task)
        progress.update(task, completed=total, what="done")
