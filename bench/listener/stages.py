"""The stages of the pipeline alone, each on one page, in the processes of pyperf.

A stage takes microseconds a row. The hash seed and the memory layout of a process make it faster or slower by some per
cent, as long as the process lives. So there are many processes, and each of them measures one stage only.
"""

import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pyperf  # type: ignore[import-untyped]
import structlog

import bench
from bench.listener.recording import ME, OWNERSHIP, record
from bench.listener.server import UUID, RecordedServer, RecordedSession
from peruserd.core.configuration.config import DatabasesConfig, DeletionConfig
from peruserd.core.feed.changes import Change
from peruserd.core.feed.lanes import Lane
from peruserd.core.feed.progress import Identity, OnDisk, SavedProgress
from peruserd.core.feed.rows import PAGE_ROWS, Page
from peruserd.core.scheduling.listener_state import ListenerState
from peruserd.couch.answers import Answer
from peruserd.couch.client import Client
from peruserd.couch.copies import Copies, ShardLayout
from peruserd.listener.change_tracker import ChangeTracker
from peruserd.listener.outcome import Outcome
from peruserd.listener.provisioner import Provisioner
from peruserd.listener.store import Store

DECODE: Final = "decode a page"
OWN: Final = "find the owners of the rows of a page"
ENTER_OTHERS: Final = "enter a page, no row owned"
ENTER_OWN: Final = "enter a page, every row owned"
EXCHANGE: Final = "take and give back the rows of a page"
ACT: Final = "act on the users of a page, all right"
SAVE: Final = "save the checkpoint"

STAGES: Final = (DECODE, OWN, ENTER_OTHERS, ENTER_OWN, EXCHANGE, ACT, SAVE)

_PROGRAM: Final = "bench.listener"

_DONE: Final = Outcome(provisioned=True)


class _NoDeletions:
    """The deletions of users, of which there are none here."""

    def note(self, document_id: str, database: str, revision: str, sequence: int | str | None) -> None:
        """Note nothing."""

    def admits(self, document_id: str, database: str) -> bool:  # noqa: ARG002 - an interface
        """Let every user in."""
        return True

    def let_drop_end(self, document_id: str) -> None:
        """Wait for nothing: nothing is dropped here."""

    def knows_end(self, database: str, life: str) -> bool:  # noqa: ARG002 - an interface
        """Know of no end, because no database is made again here."""
        return False

    def note_end(self, database: str, life: str) -> None:
        """Leave it to the owner of the user."""

    def knows(self, document_id: str) -> bool:  # noqa: ARG002 - an interface
        """Say that no user was ever deleted."""
        return False

    def served(self, document_id: str) -> None:
        """Note nothing."""


class Listener:
    """The parts of a listener that the stages call, with its state on a disk, and one page of either kind."""

    def __init__(self, directory: Path) -> None:
        recordings = {owned: record(PAGE_ROWS, owned=owned) for owned in (True, False)}
        self.answers = {owned: Answer("GET page", 200, each.pages[0]) for owned, each in recordings.items()}
        self.pages = {owned: each.decode(Page) for owned, each in self.answers.items()}
        self.mine = OWNERSHIP.belongs_to(ME)
        store = Store.open(directory / "copy.sqlite")
        store.save(SavedProgress(UUID, 0, OWNERSHIP, covered=(OWNERSHIP,)))
        state = ListenerState(
            ME,
            OWNERSHIP,
            OnDisk(*store.load()),
            upcoming=None,
            share=1,
            new_per_minute=0,
            nodes=(),
            cut_off=False,
            resume_near=None,
            recall_seconds=30.0,
            digest="",
            now=time.monotonic(),
        )
        self.tracker = ChangeTracker(state, store, lambda: None)
        self.tracker.open(Identity(UUID, PAGE_ROWS))
        client = Client(RecordedSession(RecordedServer(recordings[True])))  # type: ignore[arg-type]
        self.provisioner = Provisioner(
            client,
            Copies(client, ShardLayout(client, ME, OWNERSHIP.database)),
            databases=DatabasesConfig(),
            deletion=DeletionConfig(),
            deletions=_NoDeletions(),
            intents=self.tracker.intents,
        )
        self._last_seq = PAGE_ROWS
        self.changes = [Change(row.id, row.deleted, Lane.LIVE, 0.0) for row in self.pages[True].results]

    def decode(self) -> None:
        """Decode the bytes of a page."""
        self.answers[True].expect(200).decode(Page)

    def own(self) -> None:
        """Find the owner of each row."""
        mine = self.mine
        for row in self.pages[True].results:
            mine(row.id)

    def enter(self, *, owned: bool) -> None:
        """Enter a page."""
        self.tracker.enter_live(self.pages[owned])

    def exchange(self) -> None:
        """Take and give back what was entered."""
        change = self.tracker.take()
        for _ in range(PAGE_ROWS - 1):
            if change is not None:
                change = self.tracker.exchange(change, _DONE)
        if change is not None:
            self.tracker.give_back(change, _DONE)

    def act(self) -> None:
        """Check each user. Nothing is to be done after that, because every user is right."""
        for change in self.changes:
            self.provisioner.act(change)

    def advance(self) -> None:
        """Go on by one change, because progress that is the same is not written again."""
        self._last_seq += 1
        self.tracker.enter_live(Page([], self._last_seq))

    def save(self) -> None:
        """Write the progress to disk."""
        self.tracker.save()


def measure(pyperf_options: Sequence[str]) -> dict[str, list[float]]:
    """Return by stage the values of every process of pyperf, in seconds; each is a mean over some loops."""
    with tempfile.TemporaryDirectory(prefix="peruserd-bench-") as directory:
        file = Path(directory) / "stages.json"
        subprocess.run(  # noqa: S603 - this very package
            [sys.executable, "-m", _PROGRAM, "--quiet", "--output", str(file), *pyperf_options],
            cwd=Path(bench.__file__).parents[1],
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return {each.get_name(): list(each.get_values()) for each in pyperf.BenchmarkSuite.load(str(file))}


def main() -> None:
    """Measure all stages, each in processes of its own; the arguments are pyperf's."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    runner = pyperf.Runner(program_args=("-m", _PROGRAM))
    with tempfile.TemporaryDirectory(prefix="peruserd-bench-") as directory:
        listener = Listener(Path(directory))
        runner.bench_func(DECODE, listener.decode)
        runner.bench_func(OWN, listener.own)
        runner.bench_func(ENTER_OTHERS, lambda: listener.enter(owned=False))
        runner.bench_time_func(ENTER_OWN, _timed(lambda: listener.enter(owned=True), after=listener.exchange))
        runner.bench_time_func(EXCHANGE, _timed(listener.exchange, before=lambda: listener.enter(owned=True)))
        runner.bench_func(ACT, listener.act)
        runner.bench_time_func(SAVE, _timed(listener.save, before=listener.advance))


def _timed(
    step: Callable[[], None], *, before: Callable[[], None] = lambda: None, after: Callable[[], None] = lambda: None
) -> Callable[[int], float]:
    """Return a function from a number of loops to the seconds of a step, without the time before and after it."""

    def seconds(loops: int) -> float:
        total = 0.0
        for _ in range(loops):
            before()
            begin = time.perf_counter()
            step()
            total += time.perf_counter() - begin
            after()
        return total

    return seconds
