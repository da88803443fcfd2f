"""Group commit: what several threads want written at the same time becomes one write.

Each write of its own would hold the file's lock once for each thread. With 64 threads at work, most of them would only
wait for that lock. No thread waits for a lock that another one holds while it computes. Otherwise all of them would
queue for it for good, because Python lets a thread run on while those that wait for it cannot.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence


class GroupCommit:
    """Collects the texts of all threads, and writes them together; for any thread."""

    def __init__(self, write: Callable[[Sequence[str]], None]) -> None:
        self._write = write
        # Whoever holds this writes all that wait.
        self._turn = threading.Lock()
        # Appending and popping are each one step for all threads.
        self._waiting: deque[_Item] = deque()

    def write(self, text: str) -> None:
        """Return as soon as the text is written, by this thread or by another one; raises what `write` raises.

        After an error, each thread makes a try of its own. So none goes on with an item that is not written.
        """
        is_written = False
        while not is_written:
            item = _Item(text)
            self._waiting.append(item)
            if self._turn.acquire(blocking=False):
                try:
                    self._write_all(item)
                finally:
                    self._turn.release()
                    # A thread that looked for the turn meanwhile waits to be woken.
                    for each in self._first():
                        each.ended.release()
            else:
                item.ended.acquire()
            is_written = item.is_written

    def _write_all(self, own: "_Item") -> None:
        """Write all that wait. The caller holds the turn."""
        if own.is_written:
            # The one before has done it. An error with the others' items is not for this thread.
            return
        items = list(self._popped())
        try:
            self._write([each.text for each in items])
            for each in items:
                each.is_written = True
        finally:
            for each in items:
                each.ended.release()

    def _popped(self) -> Iterator["_Item"]:
        while first := self._first():
            yield from first

    def _first(self) -> tuple["_Item", ...]:
        try:
            return (self._waiting.popleft(),)
        except IndexError:
            return ()


class _Item:
    """A text, and a lock that is held until somebody has tried to write it."""

    __slots__ = ("ended", "is_written", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.is_written = False
        self.ended = threading.Lock()
        self.ended.acquire()
