"""Answers that are made once for all who ask at the same time, so that many clients cost no more than a few."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """Makes an answer anew for whoever asks, one at a time.

    Whoever has to wait for another one's turn gets the next answer that is begun, and so never an older state than
    that of the question. `turn` can be common to several of these, so that together they make one answer at a time.
    """

    def __init__(self, make: Callable[[], T], turn: AbstractContextManager[object] | None = None) -> None:
        self._make = make
        self._turn = turn or threading.Lock()
        self._counting = threading.Lock()
        self._begun = 0
        self._made: tuple[int, T] | None = None

    def get(self) -> T:
        """Return an answer that was begun after this call; raises what the making raises."""
        with self._counting:
            wanted = self._begun + 1
        with self._turn:
            if self._made is not None and self._made[0] >= wanted:
                return self._made[1]
            with self._counting:
                self._begun += 1
            answer = self._make()
            self._made = self._begun, answer
            return answer
