"""Actions that stop before each of their requests, so that a test decides what happens between any two steps.

The code under test is the real provisioner, and it makes its requests one after the other. It runs in a thread that
continues only on demand, so every run is repeatable.
"""

import threading
from collections.abc import Callable
from enum import Enum

from peruserd.core.feed.changes import Change
from peruserd.listener.outcome import Outcome


class Fate(Enum):
    """The outcome of a request."""

    DONE = "done"
    REFUSED = "refused"  # an error, and nothing was done
    LOST = "lost"  # it was done, and the answer got lost


class CrashedError(BaseException):
    """The process died here. No handler of the code under test may catch it."""


class Act(threading.Thread):
    """One action under way: `step` lets it make its next request."""

    def __init__(self, change: Change, act: Callable[[Change], Outcome], node: str) -> None:
        super().__init__(daemon=True)
        self.change = change
        # The node whose copy showed the change.
        self.node = node
        self.outcome: Outcome | None = None
        self.finished = False
        # The request that is about to be made.
        self.asks = ""
        self._act = act
        self._fate: Fate | None = Fate.DONE
        self._error: BaseException | None = None
        self._go = threading.Semaphore(0)
        self._stopped = threading.Semaphore(0)
        self.start()
        self._stopped.acquire()
        self._check()

    def run(self) -> None:
        try:
            self.outcome = self._act(self.change)
        except CrashedError:
            self.outcome = None
        except BaseException as error:  # noqa: BLE001 - raised in the test's own thread
            self._error = error
        self.finished = True
        self._stopped.release()

    def step(self, fate: Fate) -> None:
        """Let the act make its next request, and run on to the one after."""
        self._resume(fate)

    def crash(self) -> None:
        """End the act at this request."""
        if not self.finished:
            self._resume(None)
            self.join()

    def before_request(self, what: str) -> Fate:
        """Wait for the fate of the next request; this runs in the action's own thread."""
        self.asks = what
        self._stopped.release()
        self._go.acquire()
        if self._fate is None:
            raise CrashedError
        return self._fate

    def _resume(self, fate: Fate | None) -> None:
        if not self.finished:
            self._fate = fate
            self._go.release()
            self._stopped.acquire()
        # After a broken rule an act raises the error again at every later step.
        self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise AssertionError(f"{type(self._error).__name__}: {self._error}") from self._error


def fate_of_request(what: str) -> Fate:
    """Return the fate of a request made now: drawn for a request of an action, `DONE` for any other."""
    thread = threading.current_thread()
    return thread.before_request(what) if isinstance(thread, Act) else Fate.DONE
