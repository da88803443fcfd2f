"""The documents whose work failed: set aside until the cause is known, or kept in quarantine.

`core.scheduling.documents` completes this class with the other events of a document.
"""

import heapq
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import deque
from collections.abc import Collection
from itertools import islice

from peruserd.core.feed.changes import Change
from peruserd.core.feed.lanes import Lane
from peruserd.core.scheduling import aftermath, arrivals, records
from peruserd.core.scheduling.records import EMPTY, Parked, Record
from peruserd.core.users.quarantine import Failure


class FailedDocuments(ABC):
    """The documents whose work failed. Times are of the caller's monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self._lanes: tuple[deque[str], ...] = tuple(deque() for _ in Lane)
        # The users who are set aside until the cause is known: when they failed, and how.
        self._aside: dict[str, tuple[float, Failure]] = {}
        # The sorted ids of the users in quarantine, from the request for the first page until the last page is
        # returned.
        self._listed: list[str] | None = None
        self.on_hold = False

    @abstractmethod
    def _put(self, document_id: str, before: Record, step: records.Step) -> None:
        """Replace the record of a document, and carry out the effects of the step."""

    @abstractmethod
    def free(self, why: Parked) -> None:
        """Free all documents that are parked for a reason."""

    def record(self, document_id: str) -> Record:
        """Return the record of a document; an empty record for a document at rest."""
        return self._records.get(document_id, EMPTY)

    def set_aside(self, change: Change, failure: Failure, now: float, *, parked: bool) -> None:
        """End work that failed, perhaps because of the cluster. The change waits again, with its ticket.

        With `parked` the change is left alone until `free` or `take_set_aside`.
        """
        document_id = change.document_id
        before = self._records[document_id]
        step = aftermath.set_aside(before, parked=parked, unconfirmed=failure.is_unconfirmed)
        self._put(document_id, before, step)
        if step[0].parked is Parked.CLUSTER:
            self._aside[document_id] = now, failure

    def take_set_aside(self, before: float) -> list[tuple[Change, Failure]]:
        """Take users who were set aside before a time under way again. The caller must `fail` and `end` each change."""
        taken = []
        for document_id in [each for each, (at, _) in self._aside.items() if at < before]:
            _, failure = self._aside.pop(document_id)
            record = self.record(document_id)
            # A document that was lost or has changed since is no longer set aside.
            if record.parked is not Parked.CLUSTER or record.waiting is None:
                continue
            if record.active is not None:
                # A worker is at a review of the document. The change cannot fail while that goes on, so the user tries
                # again.
                self._put(document_id, record, records.freed(record))
            else:
                change = record.waiting
                record = records.replace(record, parked=None)
                self._put(document_id, self.record(document_id), (records.taken(record, change.lane), ()))
                taken.append((change, failure))
        return taken

    def free_set_aside(self) -> None:
        """The cluster is to blame: let all users who were set aside wait with the others."""
        self._aside.clear()
        self.free(Parked.CLUSTER)

    def recover(self, now: float) -> tuple[int, int]:
        """Put users back into their lanes if the cluster may have caused their failure, the newest failure first.

        Return how many retries and how many reviews. A deletion that has waited on hold is marked as unconfirmed.
        """
        self.on_hold = False
        for document_id, before in self._records.items():
            if before.waiting is not None and before.waiting.deleted:
                self._records[document_id] = records.replace(before, unconfirmed=True)
        failed = [(each, record) for each, record in self._records.items() if record.kept or record.failed_review]
        failed.sort(key=_failed_since, reverse=True)
        retries = reviews = 0
        for document_id, before in failed:
            record, effects = aftermath.recovered(before, document_id, now)
            self._put(document_id, before, (record, effects))
            retries += record.due is None and before.due is not None
            reviews += record.review_due is None and before.review_due is not None
        return retries, reviews

    def newest_first(self) -> None:
        """Sort the live lane so that the newest changes come first."""
        queue = self._lanes[Lane.LIVE]
        changes = [self.record(each).next_of(Lane.LIVE) for each in dict.fromkeys(queue)]
        waiting = [each for each in changes if each is not None]
        waiting.sort(key=lambda each: (each.read_at, each.ticket), reverse=True)
        queue.clear()
        queue.extend(each.document_id for each in waiting)

    # For the operator

    def quarantined_after(
        self, document_id: str, limit: int, *, among: Collection[str] = (), kind: str | None = None
    ) -> list[str]:
        """Return at most `limit` ids of users in quarantine after an id, in their order.

        If `among` is not empty, only ids in it are returned. If a `kind` is given, only users with such a failure are.
        """
        if among:
            named = (each for each in among if each > document_id and self._is_kept(each, kind))
            return heapq.nsmallest(limit, named)
        if not document_id or self._listed is None:
            # Sorted once for all pages. To go through a hundred thousand entries for each page would delay all other
            # work.
            self._listed = sorted(each for each, record in self._records.items() if record.kept is not None)
        listed = self._listed
        following = (listed[place] for place in range(bisect_right(listed, document_id), len(listed)))
        found = list(islice((each for each in following if self._is_kept(each, kind)), limit))
        if len(found) < limit:
            self._listed = None
        return found

    def _is_kept(self, document_id: str, kind: str | None) -> bool:
        kept = self.record(document_id).kept
        return kept is not None and (kind is None or kept.failure.kind == kind)

    def retry(self, document_id: str, now: float) -> bool:
        """Let a user in quarantine wait for a worker now; say whether the user did not wait already."""
        before = self.record(document_id)
        if before.kept is None or before.active is not None or before.waiting is not None:
            # A waiting change does the same work.
            return False
        self._put(document_id, before, arrivals.retried(records.replace(before, due=now), document_id, now))
        return True

    def release(self, document_id: str) -> None:
        """Take a user out of quarantine without service. A change that waits for another reason keeps waiting."""
        before = self.record(document_id)
        self._put(document_id, before, aftermath.released(before))


def _failed_since(entry: tuple[str, Record]) -> float:
    record = entry[1]
    return max(each.since for each in (record.kept, record.failed_review) if each is not None)
