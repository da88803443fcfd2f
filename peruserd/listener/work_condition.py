"""A condition for two groups of threads.

Workers wait for work, and are woken one by one. Other threads wait for a state, and all of them are woken once one such
state is there.
"""

import threading
from collections.abc import Callable

from peruserd import threads


class WorkCondition(threading.Condition):
    """A condition whose lock guards the state that threads wait for.

    - Workers call `wait_for_work`. `notify_workers` wakes as many of them as there are new things to do. Waking all of
      them for each document read would take longer than the work, also in instances that do not own it.
    - Other threads call `wait_until` with a condition. `notify_if_ready` wakes them only if one of their conditions
      holds, so it is cheap enough to call thousands of times a second.
    - `notify_all` wakes everybody.
    """

    def __init__(self) -> None:
        lock = threading.RLock()
        super().__init__(lock)
        self.awaited: list[Callable[[], bool]] = []
        self._workers = threading.Condition(lock)

    def wait_for_work(self, timeout_seconds: float | None = None) -> None:
        """Wait, with the lock held, until work is offered, everybody is woken, or the time is over."""
        with threads.WAITING:
            self._workers.wait(timeout_seconds)

    def notify_workers(self, count: int) -> None:
        """Wake up to so many waiting workers, with the lock held."""
        self._workers.notify(count)

    def wait_until(self, is_there: Callable[[], bool], timeout_seconds: float | None = None) -> bool:
        """Wait, with the lock held, until the condition holds; say whether it does."""
        self.awaited.append(is_there)
        try:
            with threads.WAITING:
                return self.wait_for(is_there, timeout_seconds)
        finally:
            self.awaited.remove(is_there)

    def notify_if_ready(self) -> None:
        """Wake the callers of `wait_until`, with the lock held, if the condition of one of them holds."""
        if any(is_there() for is_there in self.awaited):
            super().notify_all()

    def notify_all(self) -> None:
        """Wake everybody, with the lock held."""
        super().notify_all()
        self._workers.notify_all()
