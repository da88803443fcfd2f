"""The looks that are asked of a listener by others than its feed: a part of the tracker, with its lock."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager

from peruserd.core.feed.lanes import Lane
from peruserd.core.processes.messages import CompareNames, Look, LookAtAll
from peruserd.core.processes.open_looks import Message
from peruserd.core.work.listener_state import ListenerState
from peruserd.listener.waiting import WorkCondition


class Asked(ABC):
    """The part of the tracker that others ask for looks, and tell of what they did by themselves."""

    _state: ListenerState
    _changed: WorkCondition
    _wake: Callable[[], None]

    @abstractmethod
    def _now(self) -> float:
        """Return the time by the tracker's monotonic clock, in seconds."""

    @abstractmethod
    def _changing(self) -> AbstractContextManager[None]:
        """Change so much that everybody is to look: with the lock held."""

    @abstractmethod
    def _pass_on(self) -> None:
        """Pass on what follows from a change, with the lock held."""

    def asked(self, message: Message) -> None:
        """Take in what the supervisor asks for."""
        match message:
            case Look(number, lane, document_ids, made):
                self.look(document_ids, lane, number, made=made)
            case LookAtAll(number, request):
                self.look_at_all(number, request)
            case CompareNames(number):
                self.compare_names(number)

    def look_again(self, document_id: str) -> None:
        """Let a user be served whose database was dropped, or not dropped, while the document may have come back."""
        with self._changed:
            self._state.review(document_id, deleted=True, now=self._now())
            self._pass_on()

    def look(self, document_ids: Collection[str], lane: Lane, number: int | None = None, *, made: bool = False) -> None:
        """Let users be looked at for a reason behind which there is no row.

        The other arguments are those of `core.processes.messages.Look`.
        """
        with self._changed:
            self._state.look(document_ids, lane, self._now(), number, made=made)
            self._pass_on()
            self._wake()

    def look_at_all(self, number: int, request: str) -> None:
        """Let every user be looked at."""
        with self._changing():
            self._state.look_at_all(number, request)

    def compare_names(self, number: int) -> None:
        """Let users be found whose database is not there or was made again."""
        with self._changing():
            self._state.compare_names(number)

    def dropped(self) -> None:
        """Count a database that was dropped."""
        with self._changed:
            self._state.counters.databases_dropped += 1
            self._wake()

    def deletion_failed(self, kind: str) -> None:
        """Count a look at a deletion that failed."""
        with self._changed:
            self._state.counters.failed(kind)
            self._wake()
