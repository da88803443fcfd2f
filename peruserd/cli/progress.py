"""Progress of work that takes more than moments: a bar on a terminal, and a line at the start where nobody watches."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

from peruserd.cli.output import say

# Work that is over by then shows nothing.
_QUIET_SECONDS: Final = 2.0

_BETWEEN_SECONDS: Final = 0.2
_WIDTH: Final = 30

# A terminal that cannot write over a line gets a new one, and fewer of them.
_BETWEEN_LINES_SECONDS: Final = 10.0

_USUAL_COLUMNS: Final = 80


def announce(words: str) -> None:
    """Say what begins, where standard error is no terminal. There the bar says it, once it takes longer."""
    if not sys.stderr.isatty():
        say(words)


@contextmanager
def told(words: str) -> Iterator[None]:
    """Say what is waited for, if it takes longer than moments."""
    timer = threading.Timer(_QUIET_SECONDS, say, (words,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Progress:
    """A bar on standard error, where that is a terminal; for any thread. `total` is None while it is not known."""

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
        # A line that is wider than the terminal cannot be written over.
        line = self._line()[: max(_columns() - 1, 0)]
        print(f"\r{line}", end="\x1b[K", file=sys.stderr, flush=True)

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
        """Take the bar away."""
        if self._is_shown:
            print("\r", end="\x1b[K", file=sys.stderr, flush=True)


def _columns() -> int:
    """Return how wide the terminal is on which the bar is shown; `shutil` would ask that of standard output."""
    given = os.environ.get("COLUMNS", "")
    if given.isascii() and given.isdecimal() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _USUAL_COLUMNS
    except (OSError, ValueError):
        return _USUAL_COLUMNS
