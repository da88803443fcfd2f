"""Waking a listener's main thread from other threads, and ending its process together with its parent."""

import os

from multiprocess import parent_process

from peruserd import threads
from peruserd.threads import LastingThread


def die_with_parent(code: int) -> None:
    """End this process as soon as the supervisor's process ends, because nobody would restart or stop it then.

    `code` is its exit code.
    """
    parent = parent_process()

    def follow() -> None:
        with threads.WAITING:
            parent.join()
        os._exit(code)

    # Without this thread the process could outlive its parent, so it must not outlive this thread either.
    LastingThread("parent-watch", follow, on_error=lambda _error: os._exit(code)).start()


class Wakeup:
    """A descriptor that any thread, and a signal handler, can make readable."""

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._descriptor

    def set(self) -> None:
        """Make it readable."""
        os.eventfd_write(self._descriptor, 1)

    def clear(self) -> None:
        """Make it unreadable again; only while it is readable."""
        os.eventfd_read(self._descriptor)
