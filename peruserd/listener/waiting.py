"""A condition on which workers wait for work, and others for something they name; nobody is woken for nothing."""

import threading
from collections.abc import Callable


class WorkCondition(threading.Condition):
    """A condition whose lock guards what is waited for.

    Workers `wait_for_work`, and of those as many are woken as there is new work: waking all of them for each document
    read takes longer than the work, also in instances that do not own it. Callers of `wait_until` are woken by `tell`,
    too, if their condition is there. It costs next to nothing otherwise, so it may be called thousands of times a
    second. `notify_all` wakes everybody.
    """

    def __init__(self) -> None:
        lock = threading.RLock()
        super().__init__(lock)
        self.awaited: list[Callable[[], bool]] = []
        self._workers = threading.Condition(lock)

    def wait_for_work(self, timeout_seconds: float | None = None) -> None:
        """Wait, with the lock held, until work is offered, everybody is woken, or the time is over."""
        self._workers.wait(timeout_seconds)

    def notify_workers(self, count: int) -> None:
        """Wake a worker for each of so many things to do, as far as there are any, with the lock held."""
        self._workers.notify(count)

    def wait_until(self, is_there: Callable[[], bool], timeout_seconds: float | None = None) -> bool:
        """Wait, with the lock held, until something is there; say whether it is."""
        self.awaited.append(is_there)
        try:
            return self.wait_for(is_there, timeout_seconds)
        finally:
            self.awaited.remove(is_there)

    def notify_if_ready(self) -> None:
        """Wake those who wait for something they name, with the lock held, if it is there for one of them."""
        if any(is_there() for is_there in self.awaited):
            super().notify_all()

    def notify_all(self) -> None:
        """Wake everybody, with the lock held."""
        super().notify_all()
        self._workers.notify_all()
