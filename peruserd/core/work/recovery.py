"""Users in quarantine for one cause: where one of them is served, others are tried before their time.

A cause can keep everybody from being served and still be one that no probe shows, such as a server that makes no new
databases, or a node whose copies cannot be read. When it ends, the next tries are spread over minutes. The first one
that succeeds shows the end, so a few others who failed in the same way are tried as well, and each of those that
succeeds lets a few more try: all have had their turn within some rounds. A user who fails and is served in turns causes
that many tries each time, and no more.

The end shows as well where a new user is served after others had come and failed.
"""

from collections import OrderedDict
from itertools import islice
from typing import Final

from peruserd.core.users.quarantine import Failure, Quarantined
from peruserd.core.work.records import Record

_AT_ONCE: Final = 2

Cause = tuple[str, tuple[str, ...]]
"""The kind of a failure, and the nodes that are waited for."""


class Recovery:
    """The users whose next try waits for its time, by cause. Not thread-safe: its owner has a lock.

    Only failures that can be the cluster's. `awaited` is how many users wait for copies on nodes.
    """

    def __init__(self) -> None:
        # In the order in which they failed. A plain dict would be slow at its front, where others were taken before.
        self._waiting: dict[Cause, OrderedDict[str, None]] = {}
        # Why the last one failed who came and failed, unless somebody was served after that.
        self._newest: Cause | None = None
        self.awaited = 0

    def has_failed(self, failure: Failure) -> None:
        """Note that somebody who came newly goes to quarantine for it."""
        if (cause := _cause_of(failure)) is not None:
            self._newest = cause

    def has_served(self, kept: Quarantined | None, *, created: bool) -> list[str]:
        """Note that a user was served, who was `kept` in quarantine before or not; return who is to try now.

        `created` says that everything was done which a new user needs.
        """
        new = self._newest if created else None
        cause = new if kept is None else _cause_of(kept.failure)
        if created:
            self._newest = None
        return [] if cause is None else self._taken(cause)

    def note(self, document_id: str, before: Record, after: Record) -> None:
        """Note that the record of a document is another one now."""
        self.awaited += _waits(after) - _waits(before)
        was, now = _cause(before), _cause(after)
        if was is not None:
            self._remove(was, document_id)
        if now is not None:
            self._waiting.setdefault(now, OrderedDict())[document_id] = None

    def _taken(self, cause: Cause) -> list[str]:
        """Return a few who failed for it, those whose failure is the oldest: so all have their turn."""
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
    """Return why a try is due at its time; None where there is none, or the cause is the user's own."""
    return None if record.kept is None or record.due is None else _cause_of(record.kept.failure)


def _cause_of(failure: Failure) -> Cause | None:
    return (failure.kind, failure.waits_for) if failure.can_be_of_the_cluster else None


def _waits(record: Record) -> bool:
    return record.kept is not None and bool(record.kept.waits_for)
