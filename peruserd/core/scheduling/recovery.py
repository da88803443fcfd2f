"""Users in quarantine for the same cause: after one of them is served, others are tried early.

Some causes keep everybody from being served, but no probe shows them. Examples are a server that creates no new
databases, or a node whose copies cannot be read. When such a cause ends, the users' next tries are spread over minutes.
The first success shows the end. So a few other users with the same failure are tried at once, and each success lets a
few more try, until all have had their turn. A user who alternately fails and succeeds causes only those few tries.

A success of a new user shows the end as well, if earlier new users have failed.
"""

from collections import OrderedDict
from itertools import islice
from typing import Final

from peruserd.core.scheduling.records import Record
from peruserd.core.users.quarantine import Failure, Quarantined

_AT_ONCE: Final = 2

Cause = tuple[str, tuple[str, ...]]
"""The kind of a failure, and the nodes whose return the user waits for."""


class Recovery:
    """The users whose next try waits for its time, by cause. Not thread-safe, because the owner has a lock.

    It contains only failures that the cluster may have caused. `awaited` is how many users wait for copies on nodes.
    """

    def __init__(self) -> None:
        # In the order of the failures. A plain dict gets slow at its front after many removals there.
        self._waiting: dict[Cause, OrderedDict[str, None]] = {}
        # The cause of the newest failure of a new user, unless a new user was served after that.
        self._newest: Cause | None = None
        self.awaited = 0

    def note_failed(self, failure: Failure) -> None:
        """Note that a new user goes to quarantine for this failure."""
        if (cause := _cause_of(failure)) is not None:
            self._newest = cause

    def note_served(self, kept: Quarantined | None, *, created: bool) -> list[str]:
        """Note that a user was served; return the users who are to try now.

        `kept` is the user's earlier entry in the quarantine, if any. `created` says that a new user was served
        completely.
        """
        new = self._newest if created else None
        cause = new if kept is None else _cause_of(kept.failure)
        if created:
            self._newest = None
        return [] if cause is None else self._taken(cause)

    def note(self, document_id: str, before: Record, after: Record) -> None:
        """Note that the record of a document was replaced."""
        self.awaited += _waits(after) - _waits(before)
        was, now = _cause(before), _cause(after)
        if was is not None:
            self._remove(was, document_id)
        if now is not None:
            self._waiting.setdefault(now, OrderedDict())[document_id] = None

    def _taken(self, cause: Cause) -> list[str]:
        """Return a few users with this cause, the oldest failures first, so that all have their turn."""
        taken = list(islice(self._waiting.get(cause, {}), _AT_ONCE))
        for each in taken:
            self._remove(cause, each)
        return taken

    def _remove(self, cause: Cause, document_id: str) -> None:
        waiting = self._waiting.get(cause)
        if waiting is None:
            return
        waiting.pop(document_id, None)
        if not waiting:
            self._waiting.pop(cause, None)


def _cause(record: Record) -> Cause | None:
    """Return the cause of a user who waits for a try; None if there is no such user, or the cause is the user's own."""
    return None if record.kept is None or record.due is None else _cause_of(record.kept.failure)


def _cause_of(failure: Failure) -> Cause | None:
    return (failure.kind, failure.waits_for) if failure.can_be_of_the_cluster else None


def _waits(record: Record) -> bool:
    return record.kept is not None and bool(record.kept.waits_for)
