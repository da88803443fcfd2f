"""State files that belong to no listener any more: their doubts are taken over, and then they go.

A listener that runs gets this task from its supervisor, with the names of the files in use. It sees to one file at a
time, between its other work, because a thousand of them can have been left behind.
"""

import sqlite3
from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path
from typing import Final

import structlog

from peruserd.listener.state_file import (
    FAILURES,
    UnreadableError,
    UnusableError,
    connect,
    doubts_of,
    is_of_the_file,
    remove,
    set_aside,
)

SUFFIX: Final = ".sqlite"
"""The ending of the name of a state file."""

log = structlog.get_logger(__name__)


class RetiredFiles:
    """The retired state files that this listener still has to see to.

    `take_over` writes documents in doubt to the listener's own file. The main thread of a listener says what to look
    for, and has each file seen to by the thread that may wait for the disk.
    """

    def __init__(self, directory: Path, take_over: Callable[[Collection[str]], None]) -> None:
        self._directory = directory
        self._take_over = take_over
        self._pending: list[Path] = []
        # The names in use, from which the next list is made.
        self._in_use: Collection[str] | None = None

    @property
    def pending(self) -> bool:
        """Say whether there may be any such file."""
        return self._in_use is not None or bool(self._pending)

    def look_for(self, in_use: Collection[str]) -> None:
        """Look for retired files: those whose names are not in use. Earlier ones count no more. Returns at once."""
        self._in_use = in_use

    def see_to_next(self) -> None:
        """List the files if that is due, or else take over the doubts of one file, and remove it. Waits for the disk.

        - If the doubts cannot be kept, StoreError is raised, and the file comes next once more.
        - A file that cannot be opened now, or is in use after all, is left as it is.
        - A file that is damaged or of another version is set aside.
        """
        if (in_use := self._in_use) is not None:
            self._pending = self._listed(in_use)
            if self._in_use is in_use:
                self._in_use = None
            return
        path = self._pending[-1]
        if path.exists():
            self._see_to(path)
        self._pending.pop()

    def _listed(self, in_use: Collection[str]) -> list[Path]:
        try:
            found = [each for each in self._directory.iterdir() if each.suffix == SUFFIX and each.name not in in_use]
        except OSError as error:
            log.warning("retired state files cannot be listed", error=str(error))
            return []
        return sorted(found, reverse=True)

    def _see_to(self, path: Path) -> None:
        try:
            with closing(connect(path)) as connection:
                doubts = doubts_of(connection)
                # They are on this listener's disk before the other file goes.
                self._take_over(doubts)
                log.info("retired state file taken over", file=path.name, doubts=len(doubts))
                self._remove(path, connection)
        except (UnusableError, UnreadableError, *FAILURES) as error:
            if is_of_the_file(error):
                self._set_aside(path, error)
            else:
                log.warning("retired state file left alone", file=path.name, reason=str(error))

    def _remove(self, path: Path, connection: sqlite3.Connection) -> None:
        try:
            remove(path, connection)
        except (OSError, sqlite3.Error) as error:
            # It does no harm to take its doubts over twice.
            log.warning("retired state file cannot be removed", file=path.name, reason=str(error))

    def _set_aside(self, path: Path, reason: Exception) -> None:
        try:
            aside = set_aside(path)
        except OSError as error:
            log.warning("retired state file left alone", file=path.name, reason=f"{reason}; {error}")
        else:
            log.warning("retired state file set aside", file=path.name, aside=aside, reason=str(reason))
