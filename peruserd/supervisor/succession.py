"""The succession of listeners whose copies have left the plan: one that runs takes over what they have left on disk."""

from collections.abc import Callable, Mapping
from pathlib import Path

from peruserd.core.cluster.views import Copy
from peruserd.core.processes.lifecycle import State
from peruserd.core.processes.messages import TakeOverDoubts
from peruserd.supervisor.listener import SupervisedListener


class Succession:
    """Tells one listener which state files are in use, so that it takes over all others.

    The supervisor itself looks at no file, because its loop must not wait for a disk. `state_file` returns the state
    file of a copy. Not thread-safe: its fleet has a lock.
    """

    def __init__(self, state_file: Callable[[Copy], Path]) -> None:
        self._state_file = state_file
        self._has_begun = False
        # The process that was told last, and the copies that were in use then.
        self._told: tuple[int, frozenset[Copy]] | None = None

    def begin(self, listeners: Mapping[Copy, SupervisedListener]) -> None:
        """Begin with it. At the start of an instance the copies that it will follow are not all known."""
        if not self._has_begun:
            self._has_begun = True
            self.send(listeners)

    def send(self, listeners: Mapping[Copy, SupervisedListener]) -> None:
        """Tell a listener that runs, if the copies in use or the listener that was told have changed."""
        running = {
            each.process.pid: each.process
            for each in listeners.values()
            if each.child.state is State.RUNNING and each.process is not None
        }
        if not self._has_begun or not running:
            return
        # The one that was told before may still be at it, and two would be in each other's way.
        before = None if self._told is None else self._told[0]
        pid = before if before in running else min(running)
        if (told := (pid, frozenset(listeners))) != self._told:
            self._told = told
            running[pid].send(TakeOverDoubts(tuple(sorted(self._state_file(copy).name for copy in listeners))))
