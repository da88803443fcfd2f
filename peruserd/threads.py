"""The long-lived threads of a process: all of them are registered, so that none can end or hang unnoticed.

Every thread that lasts is a `LastingThread`. Functions that take long by design, such as a request, announce how long
with `beat`. Functions that wait for other threads wait within `WAITING`. In any other thread, both do
nothing. `core.processes.liveness` judges the signs of life.
"""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final

import structlog

from peruserd import ending
from peruserd.core.common.escaping import harmless
from peruserd.core.processes.liveness import Attention, Life, why_not_alive

# A sign of life may be this late. On a busy machine, in a large process, other threads can keep one from running.
_GRACE_SECONDS: Final = 60.0

# An error can quote a server's whole answer.
_MAX_WORDS: Final = 300

log = structlog.get_logger(__name__)


class Register:
    """The registered threads of a process; for any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._threads: dict[LastingThread, None] = {}
        self._attention = Attention()

    def add(self, thread: "LastingThread") -> None:
        """Add a thread."""
        with self._lock:
            self._threads[thread] = None

    def remove(self, thread: "LastingThread") -> None:
        """Remove a thread, because it has ended as it should."""
        with self._lock:
            self._threads.pop(thread, None)

    def names(self) -> list[str]:
        """Return the names of the threads."""
        with self._lock:
            return [each.name for each in self._threads]

    def lives(self) -> list[Life]:
        """Return the signs of life of the threads."""
        with self._lock:
            return [each.life for each in self._threads]

    def failing(self) -> tuple[str, ...]:
        """Return the names of the threads whose last turn has failed; they try again by themselves."""
        return tuple(sorted(each.name for each in self.lives() if each.failures))

    def trouble(self) -> str | None:
        """Return in words which thread does not live, and why; None while all do."""
        now = self._clock()
        with self._lock:
            self._attention = self._attention.asked(now)
            return why_not_alive([each.life for each in self._threads], now, self._attention)


REGISTER: Final = Register()
"""The threads of this process."""


class LastingThread:
    """A daemon thread that runs `run` once, and is registered until that returns.

    - Any exception of `run` goes to `on_error`. Without it, the register keeps the thread as one that has ended.
    - The first sign of life is the start. The thread gives others by `beat`, and waits for others within `WAITING`.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[], None],
        *,
        on_error: Callable[[BaseException], None] | None = None,
        register: Register = REGISTER,
    ) -> None:
        self.name = name
        self.life = Life(name)
        self._body = run
        self._on_error = on_error
        self._register = register
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def was_started(self) -> bool:
        """Say whether the thread was started."""
        return self._thread.ident is not None

    @property
    def is_running(self) -> bool:
        """Say whether the thread was started and has not ended."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread; raises RuntimeError if no thread can be started now."""
        self.beat()
        self._register.add(self)
        try:
            self._thread.start()
        except BaseException:
            self._register.remove(self)
            raise

    def ends_within(self, seconds: float) -> bool:
        """Wait for the end of the thread, and return whether it ended in time."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def join(self, seconds: float = ending.PART_SECONDS) -> bool:
        """Wait for the end of the thread, if it was started; return whether it ended in time, and log if not."""
        return not self.was_started or ending.join(self._thread, seconds)

    # For the thread itself. Each change is one assignment, so no lock is needed.

    def beat(self, seconds: float = 0.0) -> None:
        """Give a sign of life; the next one comes within so many seconds, or at no fixed time (`inf`)."""
        life = self.life
        self.life = Life(
            life.name, time.monotonic() + seconds + _GRACE_SECONDS, life.failures, life.failing_since, life.error
        )

    def failed(self, error: BaseException) -> int:
        """Note that a turn has failed; return how many have failed in a row."""
        life, now = self.life, time.monotonic()
        since = life.failing_since if life.failures else now
        self.life = Life(life.name, life.due, life.failures + 1, since, _words(error))
        return self.life.failures

    def recovered(self) -> int:
        """Note that a turn has succeeded; return how many had failed before it."""
        life = self.life
        if life.failures:
            self.life = Life(life.name, life.due)
        return life.failures

    def _run(self) -> None:
        _current.thread = self
        try:
            self.beat()
            self._body()
        except BaseException as error:
            if self._on_error is None:
                self.life = Life(self.name, ended=True, error=_words(error))
                log.exception("a thread has ended and will not come back", thread=self.name, exc_info=error)
                return
            self._on_error(error)
        self._register.remove(self)


class _Current(threading.local):
    thread: LastingThread | None = None


_current: Final = _Current()


def beat(seconds: float = 0.0) -> None:
    """Give a sign of life of the current thread; the next one comes within so many seconds.

    Give `inf` before a wait for others, however long that takes.
    """
    if (thread := _current.thread) is not None:
        thread.beat(seconds)


def pause(event: threading.Event, seconds: float) -> bool:
    """Wait for an event, at most so many seconds, and say whether it is set; no sign is due meanwhile."""
    beat(seconds)
    is_set = event.wait(seconds)
    beat()
    return is_set


class _Waiting:
    """A context in which the current thread waits for others, however long that takes."""

    def __enter__(self) -> None:
        beat(float("inf"))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        beat()


WAITING: Final = _Waiting()
"""A context in which the current thread waits for others, however long that takes."""


def _words(error: BaseException) -> str:
    return harmless(repr(error)[:_MAX_WORDS])


def log_uncaught() -> None:
    """Log each exception that ends a short-lived thread, in the form of the log; call this once in each process."""
    threading.excepthook = _log_uncaught


def _log_uncaught(ended: threading.ExceptHookArgs) -> None:
    name = None if ended.thread is None else ended.thread.name
    log.error("a thread has ended with an error", thread=name, exc_info=ended.exc_value)
