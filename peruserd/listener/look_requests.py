"""Looks that somebody else than the feed requests of a listener: a part of the tracker, with its lock."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager

from peruserd.core.feed.lanes import Lane
from peruserd.core.processes.messages import CompareNames, Look, LookAtAll
from peruserd.core.processes.open_looks import Message
from peruserd.core.scheduling.listener_state import ListenerState
from peruserd.listener.work_condition import WorkCondition


class LookRequests(ABC):
    """The part of the tracker for requests for looks, and for counting the drops that other parts report."""

    _state: ListenerState
    _changed: WorkCondition
    _wake: Callable[[], None]

    @abstractmethod
    def _now(self) -> float:
        """Return the time by the tracker's monotonic clock, in seconds."""

    @abstractmethod
    def _changing(self) -> AbstractContextManager[None]:
        """Hold the lock for a large change, and wake every thread afterwards."""

    @abstractmethod
    def _pass_on(self) -> None:
        """Pass on what follows from a change, with the lock held."""

    def on_request(self, message: Message) -> None:
        """Take in a request of the supervisor."""
        match message:
            case Look(number, lane, document_ids, made):
                self.look(document_ids, lane, number, made=made)
            case LookAtAll(number, request):
                self.look_at_all(number, request)
            case CompareNames(number):
                self.compare_names(number)

    def look_again(self, document_id: str) -> None:
        """Look at a user again after a drop or a drop given up: the document may have come back meanwhile."""
        with self._changed:
            self._state.review(document_id, deleted=True, now=self._now())
            self._pass_on()

    def look(self, document_ids: Collection[str], lane: Lane, number: int | None = None, *, made: bool = False) -> None:
        """Look at users for a reason other than a row of the feed.

        The other arguments are those of `core.processes.messages.Look`.
        """
        with self._changed:
            self._state.look(document_ids, lane, self._now(), number, made=made)
            self._pass_on()
            self._wake()

    def look_at_all(self, number: int, request: str) -> None:
        """Look at every user."""
        with self._changing():
            self._state.look_at_all(number, request)

    def compare_names(self, number: int) -> None:
        """Find the users whose database is missing or was made again."""
        with self._changing():
            self._state.compare_names(number)

    def count_drop(self) -> None:
        """Count a database that was dropped."""
        with self._changed:
            self._state.counters.databases_dropped += 1
            self._wake()

    def count_deletion_failure(self, kind: str) -> None:
        """Count a look at a deletion that failed."""
        with self._changed:
            self._state.counters.failed(kind)
            self._wake()
