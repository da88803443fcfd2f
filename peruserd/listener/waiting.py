"""A condition on which some wait for something they name, and are woken when it is there, not at every change."""

import threading
from collections.abc import Callable


class Waiting(threading.Condition):
    """A condition whose lock guards what is waited for.

    Who calls `wait` is woken by `notify_all` alone. Who calls `wait_until` is woken by `tell`, too, which costs next to
    nothing while what they wait for is not there: for what can happen thousands of times a second.
    """

    def __init__(self) -> None:
        super().__init__()
        self.awaited: list[Callable[[], bool]] = []

    def wait_until(self, is_there: Callable[[], bool], timeout_seconds: float | None = None) -> bool:
        """Wait, with the lock held, until something is there; say whether it is."""
        self.awaited.append(is_there)
        try:
            return self.wait_for(is_there, timeout_seconds)
        finally:
            self.awaited.remove(is_there)

    def tell(self) -> None:
        """Wake everybody, with the lock held, if something is there that somebody waits for."""
        if any(is_there() for is_there in self.awaited):
            self.notify_all()
