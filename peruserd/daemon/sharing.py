"""Answers that are made once for all who ask at the same time, so that many clients cost no more than a few."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager


class Shared:
    """Makes an answer anew for whoever asks, one at a time.

    Whoever has to wait for another one's turn gets the next answer that is begun, and so never an older state than
    that of the question. `turn` can be common to several of these, so that together they make one answer at a time.
    """

    def __init__(self, make: Callable[[], bytes], turn: AbstractContextManager[object] | None = None) -> None:
        self._make = make
        self._turn = turn or threading.Lock()
        self._counting = threading.Lock()
        self._begun = 0
        self._made: tuple[int, bytes] = (0, b"")

    def get(self) -> bytes:
        """Return an answer that was begun after this call; raises what the making raises."""
        with self._counting:
            wanted = self._begun + 1
        with self._turn:
            number, answer = self._made
            if number >= wanted:
                return answer
            with self._counting:
                self._begun += 1
            answer = self._make()
            self._made = self._begun, answer
            return answer
