"""A task that a thread repeats: after a pause, or at once on request."""

import threading
import time
from collections.abc import Callable

from peruserd import ending


class RepeatedTask:
    """Calls `turn` again and again in its own daemon thread.

    - `turn` returns the pause before the next call, in seconds. A negative one is no pause, and None ends the thread.
    - `at_end` is called in the thread after the last turn.
    - A request by `soon` shortens the pause, but not below `min_pause_seconds`. Requests during a turn count as one.

    An exception from `turn` ends the thread, so `turn` has to handle its own failures.
    """

    def __init__(
        self,
        name: str,
        turn: Callable[[], float | None],
        *,
        min_pause_seconds: float = 0.0,
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._turn = turn
        self._min_pause_seconds = min_pause_seconds
        self._at_end = at_end
        self._stopping = False
        self._wanted = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def is_wanted(self) -> bool:
        """Say whether the next turn was requested, so that the pause is shortened."""
        return self._wanted.is_set()

    @property
    def is_running(self) -> bool:
        """Say whether the thread was started and has not ended."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def soon(self) -> None:
        """Request the next turn at once; for any thread."""
        self._wanted.set()

    def stop(self) -> None:
        """Let no turn follow the current one; returns at once. For any thread."""
        self._stopping = True
        self._wanted.set()

    def join(self, seconds: float = ending.PART_SECONDS) -> bool:
        """Wait for the end of the thread, if it was started; return whether it ended in time, and log if not."""
        return self._thread.ident is None or ending.join(self._thread, seconds)

    def ends_within(self, seconds: float) -> bool:
        """Wait for the end of the thread, and return whether it ended in time."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping and (pause := self._turn()) is not None:
            time.sleep(max(0.0, min(pause, self._min_pause_seconds)))
            self._wanted.wait(max(0.0, pause - self._min_pause_seconds))
            self._wanted.clear()
        self._at_end()
