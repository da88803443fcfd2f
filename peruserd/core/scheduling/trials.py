"""The trials: a few users who are tried while a listener is on hold, to see whether the cluster serves again.

A failed trial proves nothing. Users can make their own work fail, and can change their documents again after each look.
So nobody tries twice before all other waiting users have tried once.
"""

from typing import Final

from peruserd.core.feed.changes import Change
from peruserd.core.scheduling.documents import Documents
from peruserd.core.scheduling.records import Parked

# Memory is bounded. Past this number some users may try again before others have tried.
_MAX_TRIED: Final = 10_000


class Trials:
    """The work that is given out on hold. Not thread-safe, because the owner has a lock."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self.on_hold = False
        # While it is closed, no work is given out at all, because the state cannot be written.
        self.closed = False
        # How many more trials may begin, which are under way, and which documents have tried in this round.
        self._places = 0
        self._under_way: dict[str, Change] = {}
        self._tried: set[str] = set()

    def hold(self) -> None:
        """Give out only trials until `go_on`."""
        self.on_hold = True

    def go_on(self) -> None:
        """Give out work again."""
        self.on_hold = False
        self._places = 0
        self._under_way.clear()
        self._begin_round()

    @property
    def may_begin(self) -> bool:
        """Say whether work may be given out."""
        return not self.closed and (not self.on_hold or self._places > 0)

    @property
    def holds_back(self) -> bool:
        """Say whether no work is given out but trials, or none at all."""
        return self.on_hold or self.closed

    def let_some_try(self, users: int) -> None:
        """Let this many users try. If the last trials found no user, begin a new round."""
        if self._places or len(self._tried) > _MAX_TRIED:
            # Nobody was left who had not tried in this round.
            self._begin_round()
        self._places = users

    def let_another_try(self) -> None:
        """Let one more user try, because a trial has shown nothing of the cluster."""
        self._places += 1

    def is_trial(self, change: Change) -> bool:
        """Say whether work under way is a trial."""
        return self._under_way.get(change.document_id) is change

    def has_tried(self, document_id: str) -> bool:
        """Say whether a document is to be left alone, because others have not tried in this round."""
        return document_id in self._tried

    def begun(self, change: Change) -> None:
        """Note that work on a change began."""
        if self.on_hold:
            self._places -= 1
            self._under_way[change.document_id] = change
            self._tried.add(change.document_id)

    def ended(self, change: Change) -> None:
        """Note that work on a change ended."""
        self._under_way.pop(change.document_id, None)

    def _begin_round(self) -> None:
        if self._tried:
            self._tried.clear()
            self._documents.free(Parked.TRIED)
