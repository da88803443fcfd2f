"""Questions to listeners whether they keep a user in quarantine, and their answers.

Everybody who reaches the HTTP page can cause them, and a listener that takes nothing off its pipe is killed. So no
listener is asked again that owes too many answers.
"""

import threading
from collections.abc import Iterable
from typing import Final

from peruserd.core.hashing import document_hash
from peruserd.core.messages import Inquire, Kept
from peruserd.core.quarantine import Failure
from peruserd.supervisor.listener import SupervisedListener

# Few and short enough for any pipe; a listener that is well owes none for longer than a moment.
_MOST_OWED: Final = 8

# Longer than a listener needs that saves its progress on a busy disk; nobody learns more by a longer wait.
_PATIENCE_SECONDS: Final = 2.0


class Inquiry:
    """One question, to as many listeners as were asked."""

    def __init__(self) -> None:
        self._owing: set[int] = set()
        self._failure: Failure | None = None
        self._is_over = threading.Event()

    def asked(self, pid: int) -> None:
        """Note that this process owes an answer."""
        self._owing.add(pid)

    def take(self, pid: int, failure: Failure | None) -> None:
        """Take the answer of a process; the question is over with the first failure, or with the last answer."""
        self._failure = self._failure or failure
        self._owing.discard(pid)
        if self._failure is not None or not self._owing:
            self._is_over.set()

    def wait(self) -> Failure | None:
        """Return the failure that a listener keeps; None where none does, or none answers in time."""
        if self._owing:
            self._is_over.wait(_PATIENCE_SECONDS)
        return self._failure


class Inquiries:
    """The questions under way. Not thread-safe: its fleet has a lock."""

    def __init__(self) -> None:
        self._last = 0
        # By the process that owes the answer, and the number of the question.
        self._open: dict[int, dict[int, Inquiry]] = {}

    def ask(self, document_id: str, listeners: Iterable[SupervisedListener]) -> Inquiry:
        """Ask the listeners of the ranges that hold the document."""
        inquiry = Inquiry()
        self._last += 1
        hashed = document_hash(document_id)
        running = {each.process.pid: each for each in listeners if each.process is not None}
        # Those that are gone answer no more.
        self._open = {pid: self._open.get(pid, {}) for pid in running}
        for pid, listener in running.items():
            owed = self._open[pid]
            if hashed in listener.copy.range and len(owed) < _MOST_OWED and listener.process is not None:
                owed[self._last] = inquiry
                inquiry.asked(pid)
                listener.process.send(Inquire(self._last, document_id))
        return inquiry

    def answer(self, pid: int, kept: Kept) -> None:
        """Take an answer."""
        inquiry = self._open.get(pid, {}).pop(kept.number, None)
        if inquiry is not None:
            inquiry.take(pid, kept.failure)
