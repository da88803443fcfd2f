"""A task that a thread repeats: after a pause, or at once on request."""

import time
from collections.abc import Callable
from threading import Event
from typing import Final

import structlog

from peruserd import ending, threads
from peruserd.core.common.backoff import Backoff
from peruserd.threads import REGISTER, LastingThread, Register

# The pauses after turns that failed. A turn handles the failures of servers itself, so these are rare.
_BACKOFF: Final = Backoff(initial_seconds=1.0, max_seconds=30.0)

log = structlog.get_logger(__name__)


class EndedUnaskedError(Exception):
    """A turn wanted to end the thread, and nobody had asked for that."""


class RepeatedTask:
    """Calls `turn` again and again in its own daemon thread.

    - `turn` returns the pause before the next call, in seconds. A negative one is no pause.
    - None ends the thread. That is a failure unless the task was stopped or `may_end`.
    - `at_end` is called in the thread after the last turn.
    - A request by `soon` shortens the pause, but not below `min_pause_seconds`. Requests during a turn count as one.

    A turn that raises any exception is repeated with growing pauses. The log has a traceback for the first of several
    failures of one kind in a row. `register` shows a thread that hangs, or has failed in every turn for a long time.
    """

    def __init__(
        self,
        name: str,
        turn: Callable[[], float | None],
        *,
        min_pause_seconds: float = 0.0,
        at_end: Callable[[], None] = lambda: None,
        may_end: bool = False,
        register: Register = REGISTER,
    ) -> None:
        self._turn = turn
        self._min_pause_seconds = min_pause_seconds
        self._at_end = at_end
        self._may_end = may_end
        self._stopping = False
        self._wanted = Event()
        self._logged: type[BaseException] | None = None
        self._thread = LastingThread(name, self._run, register=register)

    @property
    def is_wanted(self) -> bool:
        """Say whether the next turn was requested, so that the pause is shortened."""
        return self._wanted.is_set()

    @property
    def is_running(self) -> bool:
        """Say whether the thread was started and has not ended."""
        return self._thread.is_running

    @property
    def is_stopping(self) -> bool:
        """Say whether the task was stopped, so that no turn follows the current one."""
        return self._stopping

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
        return self._thread.join(seconds)

    def ends_within(self, seconds: float) -> bool:
        """Wait for the end of the thread, and return whether it ended in time."""
        return self._thread.ends_within(seconds)

    def _run(self) -> None:
        pause: float | None = None
        while not self._stopping:
            try:
                if pause is not None:
                    self._rest(pause)
                pause = self._take_turn()
                if pause is None:
                    break
            except BaseException as error:  # noqa: BLE001 - nothing may end this thread unnoticed
                pause = self._failed(error)
        self._end()

    def _take_turn(self) -> float | None:
        """Take a turn, unless the task was stopped; return the pause after it, or None if the thread is to end."""
        if self._stopping:
            return None
        pause = self._turn()
        if pause is None and not (self._stopping or self._may_end):
            raise EndedUnaskedError(f"a turn of {self._thread.name!r} has ended the thread")
        self._recovered()
        return pause

    def _rest(self, pause: float) -> None:
        threads.beat(max(0.0, pause))
        time.sleep(max(0.0, min(pause, self._min_pause_seconds)))
        threads.pause(self._wanted, max(0.0, pause - self._min_pause_seconds))
        self._wanted.clear()

    def _failed(self, error: BaseException) -> float:
        """Note and log a failure; return the pause before the next turn, in seconds."""
        failures = self._thread.failed(error)
        pause = _BACKOFF.bound(failures)
        if not self._stopping and type(error) is not self._logged:
            self._logged = type(error)
            log.error(
                "a part of the instance has failed and is tried again",
                part=self._thread.name,
                again_in_seconds=pause,
                exc_info=error,
            )
        return pause

    def _recovered(self) -> None:
        failures = self._thread.recovered()
        if self._logged is not None:
            self._logged = None
            log.info("a part of the instance works again", part=self._thread.name, failures=failures)

    def _end(self) -> None:
        try:
            self._at_end()
        except BaseException as error:
            log.exception("a part of the instance has ended with an error", part=self._thread.name, exc_info=error)
