"""The inbox of the supervisor's loop: what other threads and signal handlers hand to it."""

import os
import signal
from collections import deque
from collections.abc import Callable, Hashable

import msgspec

from peruserd.core.cluster.views import View
from peruserd.core.processes.messages import JournalNews
from peruserd.core.processes.outbox import Outbox


class GivingUp(msgspec.Struct, frozen=True):
    """A reason to end that only another configuration can take away."""

    why: str


class Asking(msgspec.Struct, frozen=True):
    """An order to ask something of the listeners."""

    ask: Callable[[Outbox], None]


class Answered(msgspec.Struct, frozen=True):
    """An order to tell listeners what their requests carry: those that have these checks, or all where it is None."""

    checks: dict[Hashable, int] | None


class Seen(msgspec.Struct, frozen=True):
    """A view, and when the look ended that showed it, by the monotonic clock: the loop may take it in later."""

    view: View
    at: float


Item = Seen | signal.Signals | Answered | GivingUp | JournalNews | Asking
"""The things that can be handed to the loop."""


class Inbox:
    """Things that other threads and signal handlers hand to the loop; `fileno` is readable when there is one."""

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._items: deque[Item] = deque()

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._descriptor

    def put(self, item: "Item") -> None:
        """Hand something over; safe in a signal handler, because a deque's append takes no lock that it could hold."""
        self._items.append(item)
        os.eventfd_write(self._descriptor, 1)

    def take_all(self) -> list["Item"]:
        """Return what has come, in its order."""
        try:
            os.eventfd_read(self._descriptor)
        except BlockingIOError:
            return []
        items = []
        while self._items:
            items.append(self._items.popleft())
        return items
