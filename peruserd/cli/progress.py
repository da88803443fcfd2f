"""Progress of longer work: a bar on a terminal, and elsewhere one line at the start."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

from peruserd.cli.output import say, say_as_it_is

# Shorter work than this shows no progress.
_QUIET_SECONDS: Final = 2.0

_BETWEEN_SECONDS: Final = 0.2
_WIDTH: Final = 30

# A terminal that cannot overwrite a line gets a new line each time, and fewer of them.
_BETWEEN_LINES_SECONDS: Final = 10.0

_USUAL_COLUMNS: Final = 80


def announce(words: str) -> None:
    """Print what begins, unless standard error is a terminal; there the bar says it."""
    if not sys.stderr.isatty():
        say(words)


@contextmanager
def announce_if_slow(words: str) -> Iterator[None]:
    """Print the words if the block takes longer than a moment."""
    timer = threading.Timer(_QUIET_SECONDS, say, (words,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Progress:
    """A bar on standard error, if that is a terminal; any thread may call. `total` is None while unknown."""

    def __init__(self, what: str, total: int | None = None, *, quiet_seconds: float = _QUIET_SECONDS) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._lock = threading.Lock()
        self._is_watched = sys.stderr.isatty()
        self._is_plain = os.environ.get("TERM", "dumb") in ("", "dumb")
        self._between = _BETWEEN_LINES_SECONDS if self._is_plain else _BETWEEN_SECONDS
        self._shown_at = time.monotonic() + quiet_seconds - self._between
        self._is_shown = False

    def advance(self, steps: int) -> None:
        """Note that so many more are done."""
        with self._lock:
            self._done += steps
            now = time.monotonic()
            if self._is_watched and now - self._shown_at >= self._between:
                self._shown_at = now
                self._show()

    def _show(self) -> None:
        if self._is_plain:
            say(self._counts())
            return
        self._is_shown = True
        # A line wider than the terminal could not be overwritten.
        line = self._line()[: max(_columns() - 1, 0)]
        say_as_it_is(f"\r{line}\x1b[K")

    def _line(self) -> str:
        if not self._total:
            return self._counts()
        filled = min(_WIDTH, self._done * _WIDTH // self._total)
        return f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {self._counts()}"

    def _counts(self) -> str:
        return f"{self._done:,} of {self._total:,} {self._what}" if self._total else f"{self._done:,} {self._what}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the bar."""
        if self._is_shown:
            say_as_it_is("\r\x1b[K")


def _columns() -> int:
    """Return the width of the terminal of standard error; `shutil` would return that of standard output."""
    given = os.environ.get("COLUMNS", "")
    if given.isascii() and given.isdecimal() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _USUAL_COLUMNS
    except (OSError, ValueError):
        return _USUAL_COLUMNS
