"""Progress of work that takes more than moments: a bar on a terminal, and nothing where nobody watches."""

import sys
import threading
import time
from types import TracebackType
from typing import Final, Self

# Work that is over by then shows nothing.
_QUIET_SECONDS: Final = 2.0

_BETWEEN_SECONDS: Final = 0.2
_WIDTH: Final = 30


class Progress:
    """A bar on standard error, where that is a terminal; for any thread. `total` is None while it is not known."""

    def __init__(self, what: str, total: int | None = None, *, quiet_seconds: float = _QUIET_SECONDS) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._lock = threading.Lock()
        self._is_watched = sys.stderr.isatty()
        self._shown_at = time.monotonic() + quiet_seconds - _BETWEEN_SECONDS
        self._is_shown = False

    def advance(self, steps: int) -> None:
        """Note that so many more are done."""
        with self._lock:
            self._done += steps
            now = time.monotonic()
            if self._is_watched and now - self._shown_at >= _BETWEEN_SECONDS:
                self._shown_at = now
                self._is_shown = True
                print(f"\r{self._line()}", end="\x1b[K", file=sys.stderr, flush=True)

    def _line(self) -> str:
        if not self._total:
            return f"{self._done:,} {self._what}"
        filled = min(_WIDTH, self._done * _WIDTH // self._total)
        return f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {self._done:,} of {self._total:,} {self._what}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        if self._is_shown:
            print("\r", end="\x1b[K", file=sys.stderr, flush=True)
