"""Looks that other threads ask the listeners for, through the supervisor's loop."""

from collections.abc import Iterable

from peruserd.core.cluster.directory import Mark, News
from peruserd.core.feed.lanes import Lane
from peruserd.core.processes.outbox import Outbox
from peruserd.supervisor.fleet import Fleet
from peruserd.supervisor.inbox import Inbox, LookRequest


class LookRequests:
    """Hands requests for looks to the loop of `inbox`, and says how far they are done."""

    def __init__(self, fleet: Fleet, inbox: Inbox) -> None:
        self._fleet = fleet
        self._inbox = inbox

    def on_look(self, document_ids: Iterable[str], lane: Lane) -> None:
        """Ask the listeners for looks at these user documents; for any thread."""
        asked = tuple(document_ids)
        self._inbox.put(LookRequest(lambda outbox: outbox.ask(lane, asked)))

    def on_news(self, news: News, mark: Mark) -> None:
        """Ask the listeners for looks at the users whose databases have changed; for any thread."""

        def ask(outbox: Outbox) -> None:
            outbox.ask(Lane.OTHERS, news.changed)
            outbox.ask(Lane.OTHERS, news.made, made=True)
            outbox.mark(mark)

        self._inbox.put(LookRequest(ask))

    def look_on_return(self, node: str, document_ids: Iterable[str]) -> int | None:
        """Ask for looks because a node is back; return their number. For any thread.

        Returns None if the listeners have not heard yet that the node is back, or if there is no listener.
        """
        connected = self._fleet.connected
        if connected and node not in connected:
            return None
        with self._fleet.asking() as outbox:
            if not outbox.has_ranges:
                return None
            outbox.ask(Lane.OTHERS, document_ids)
            return outbox.number

    @property
    def has_ranges(self) -> bool:
        """Say whether this instance has listeners, or may soon have some; for any thread."""
        with self._fleet.asking() as outbox:
            return outbox.has_ranges

    @property
    def looked_to(self) -> int:
        """Return the number up to which all looks are over; for any thread."""
        with self._fleet.asking() as outbox:
            return outbox.finished

    def compare_names(self) -> None:
        """Let the listeners compare the names of all users' databases with those that exist; for any thread."""
        self._inbox.put(LookRequest(Outbox.compare_names))

    @property
    def seen_to(self) -> Mark | None:
        """Return the newest mark of `on_news` up to which all looks are over; for any thread."""
        with self._fleet.asking() as outbox:
            return outbox.seen_to
