"""The inbox of the supervisor's loop, for other threads and signal handlers."""

import os
import signal
from collections import deque
from collections.abc import Callable, Hashable

import msgspec

from peruserd.core.cluster.views import Copy, View
from peruserd.core.processes.messages import JournalNews
from peruserd.core.processes.outbox import Outbox
from peruserd.supervisor.start_request import FleetSettings


class EndRequest(msgspec.Struct, frozen=True):
    """A reason to end, in words, and the exit code."""

    why: str
    code: int


class LookRequest(msgspec.Struct, frozen=True):
    """An order to ask the listeners for looks."""

    ask: Callable[[Outbox], None]


class TokenNews(msgspec.Struct, frozen=True):
    """An order to send the token to the listeners that have these checks, or to all if `checks` is None."""

    checks: dict[Hashable, int] | None


class NewView(msgspec.Struct, frozen=True):
    """A view, and the monotonic time at which it was read: the loop may handle it later."""

    view: View
    at: float


class NewSettings(msgspec.Struct, frozen=True):
    """The settings of the supervisor after a reload of the configuration; the times are in seconds."""

    quiet_seconds: float
    newcomer_seconds: float
    fleet: FleetSettings


class RestartRequest(msgspec.Struct, frozen=True):
    """An order to start the listener of a copy again."""

    copy: Copy


Item = NewView | signal.Signals | TokenNews | EndRequest | JournalNews | LookRequest | NewSettings | RestartRequest
"""The types of items that the loop takes."""


class Inbox:
    """A queue to the loop, from other threads and signal handlers. The descriptor is readable while it has an item."""

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._items: deque[Item] = deque()

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._descriptor

    def put(self, item: "Item") -> None:
        """Add an item. A signal handler may do this too, because a deque's `append` takes no lock."""
        self._items.append(item)
        os.eventfd_write(self._descriptor, 1)

    def take_all(self) -> list["Item"]:
        """Return the waiting items in the order of their arrival."""
        try:
            os.eventfd_read(self._descriptor)
        except BlockingIOError:
            return []
        items = []
        while self._items:
            items.append(self._items.popleft())
        return items
