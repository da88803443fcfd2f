"""The main thread's work on the disk, in a thread of its own: a listener goes on to report while its disk hangs.

A write to a hung disk, such as one over a network, can last for ever, and nothing can interrupt it. The main thread
waits for a while, and goes on without it.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from peruserd import threads
from peruserd.threads import LastingThread

T = TypeVar("T")

# A write takes milliseconds. With this limit, a disk that is only busy seldom counts as one that hangs.
_PATIENCE_SECONDS: Final = 5.0


class Disk:
    """Does one piece of work at a time. Only the main thread calls `do`.

    `on_error` gets an exception of the thread itself; those of the work go to the caller of `do`.
    """

    def __init__(self, on_error: Callable[[BaseException], None]) -> None:
        self.on_error = on_error
        self._changed = threading.Condition()
        self._given: tuple[Callable[[], object], Future[Any]] | None = None
        # The work whose end the main thread has not seen.
        self._under_way: Future[Any] | None = None
        self._thread = LastingThread("disk", self._run, on_error=self._fail)

    def start(self) -> None:
        """Start the thread; raises RuntimeError if no thread can be started now."""
        self._thread.start()

    @property
    def hangs(self) -> bool:
        """Say whether earlier work was not seen to end."""
        return self._under_way is not None

    def do(self, work: Callable[[], T], patience_seconds: float | None = None) -> T | None:
        """Do a piece of work, and return its result; raises what it raises. None means that it was not done.

        If it does not end in time, it goes on. Until it has ended, each call returns None at once. The first call after
        its end raises what it has raised, or returns None, and later ones do their own work.
        """
        if self._under_way is not None:
            if self._under_way.done():
                self._taken().result()
            return None
        self._under_way = given = Future[Any]()
        with self._changed:
            self._given = work, given
            self._changed.notify()
        ended = threading.Event()
        given.add_done_callback(lambda _: ended.set())
        if not ended.wait(_PATIENCE_SECONDS if patience_seconds is None else patience_seconds):
            return None
        result: T = self._taken().result()
        return result

    def _fail(self, error: BaseException) -> None:
        # The one who is told can change.
        self.on_error(error)

    def _taken(self) -> Future[Any]:
        ended, self._under_way = self._under_way, None
        if ended is None:
            raise RuntimeError("no work was under way")
        return ended

    def _run(self) -> None:
        # The disk decides how long work takes, and the main thread how long there is none.
        with threads.WAITING:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._given is not None)
                    given, self._given = self._given, None
                if given is not None:
                    _carry_out(*given)


def _carry_out(work: Callable[[], object], given: Future[Any]) -> None:
    try:
        result = work()
    except Exception as error:  # noqa: BLE001 - the main thread decides what follows
        given.set_exception(error)
    else:
        given.set_result(result)
