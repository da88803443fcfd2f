"""Group commit: what several threads want written at the same time becomes one write.

Each write of its own would hold the file's lock once for each thread. With 64 threads at work, most of them would only
wait for that lock.
"""

import threading
from collections.abc import Callable, Sequence


class GroupCommit:
    """Collects items of all threads, and writes them in the order in which they came; for any thread."""

    def __init__(self, write: Callable[[Sequence[str]], None]) -> None:
        self._write = write
        self._turn = threading.Lock()
        # Only for these two, so nobody waits long for it.
        self._lock = threading.Lock()
        self._waiting: list[_Item] = []

    def write(self, text: str) -> None:
        """Return as soon as the text is written, by this thread or by another one; raises what `write` raises.

        After an error, each thread makes a try of its own. So none goes on with an item that is not written.
        """
        item = _Item(text)
        with self._lock:
            self._waiting.append(item)
        with self._turn:
            if item.is_written:
                return
            with self._lock:
                items, self._waiting = self._waiting, []
            try:
                self._write([each.text for each in items])
            except BaseException:
                with self._lock:
                    self._waiting = [each for each in items if each is not item] + self._waiting
                raise
            for each in items:
                each.is_written = True


class _Item:
    __slots__ = ("is_written", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.is_written = False
