"""Actions that stop before each of their requests, so that a test decides what happens between any two steps.

The code under test is the real provisioner, and it makes its requests one after the other. An action that stops runs in
a thread of its own. The thread continues only on demand, so every run is repeatable. An action without a stop runs in
the thread of the test, because most actions have none, and a thread costs more than what they do.
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


class Act:
    """One action, not begun yet; it acts on `change`, and `node` is the node whose copy showed that."""

    def __init__(self, change: Change, act: Callable[[Change], Outcome], node: str) -> None:
        self.change = change
        self.node = node
        self.outcome: Outcome | None = None
        self.finished = False
        # The request that is about to be made.
        self.asks = ""
        self._act = act
        self._thread: threading.Thread | None = None
        self._fate: Fate | None = Fate.DONE
        self._runs_on = False
        self._error: BaseException | None = None
        self._go = threading.Semaphore(0)
        self._stopped = threading.Semaphore(0)

    def begin(self) -> None:
        """Run it in a thread of its own, up to its first request."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._stopped.acquire()
        self._check()

    def step(self, fate: Fate) -> None:
        """Let it make its next request, and run on to the one after."""
        self._resume(fate)

    def finish(self) -> None:
        """Let it make all its requests, wherever it has stopped; each of them is done."""
        self._runs_on = True
        if self._thread is None:
            self._run()
            self._check()
        else:
            self._resume(Fate.DONE)

    def crash(self) -> None:
        """End it at the request where it has stopped."""
        if self._thread is not None and not self.finished:
            self._resume(None)
            self._thread.join()

    def before_request(self, what: str) -> Fate:
        """Wait for the fate of the next request; this is called by the action."""
        self.asks = what
        if self._runs_on:
            return Fate.DONE
        self._stopped.release()
        self._go.acquire()
        if self._fate is None:
            raise CrashedError
        return self._fate

    def _run(self) -> None:
        _here.act = self
        try:
            self.outcome = self._act(self.change)
        except CrashedError:
            self.outcome = None
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - raised by whoever lets it go on
            self._error = error
        finally:
            _here.act = None
        self.finished = True
        self._stopped.release()

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


class _Here(threading.local):
    act: Act | None = None


_here = _Here()


def act_here() -> Act | None:
    """Return the action that makes the request of this moment, or None if another part of the program makes it."""
    return _here.act


def fate_of_request(what: str) -> Fate:
    """Return the fate of a request made now: drawn for a request of an action, `DONE` for any other."""
    act = act_here()
    return Fate.DONE if act is None else act.before_request(what)
