"""The documents whose work failed: set aside until it is known who is to blame, or kept in quarantine.

A part of `core.work.documents`, which has their records and lanes.
"""

import heapq
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import deque
from collections.abc import Collection
from itertools import islice

from peruserd.core.feed.changes import Change
from peruserd.core.feed.lanes import Lane
from peruserd.core.users.quarantine import Failure
from peruserd.core.work import aftermath, records
from peruserd.core.work.records import EMPTY, Held, Record


class Kept(ABC):
    """The part of the documents whose work failed. Times are of the caller's monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self._lanes: tuple[deque[str], ...] = tuple(deque() for _ in Lane)
        # Users who were set aside until it is known who is to blame: when, and how they failed.
        self._aside: dict[str, tuple[float, Failure]] = {}
        # The ids of those in quarantine when their first page was asked for last, sorted, until the last page is given.
        self._listed: list[str] | None = None
        self.on_hold = False

    @abstractmethod
    def _put(self, document_id: str, before: Record, step: records.Step) -> None:
        """Put another record in the place of one, and do what follows."""

    @abstractmethod
    def free(self, why: Held) -> None:
        """Let everything go on that was held for a reason."""

    def record(self, document_id: str) -> Record:
        """Return the record of a document; an empty one where it is at rest."""
        return self._records.get(document_id, EMPTY)

    def set_aside(self, change: Change, failure: Failure, now: float, *, held: bool) -> None:
        """End work that failed, perhaps for the cluster's reason: the change waits again, with its ticket.

        With `held` it is left alone until `free` or `blamed`.
        """
        document_id = change.document_id
        before = self._records[document_id]
        step = aftermath.set_aside(before, held=held, unconfirmed=failure.is_unconfirmed)
        self._put(document_id, before, step)
        if step[0].held is Held.CLUSTER:
            self._aside[document_id] = now, failure

    def blamed(self, before: float) -> list[tuple[Change, Failure]]:
        """Take users back to work who were set aside before then; each is to `fail` and to `end`."""
        taken = []
        for document_id in [each for each, (at, _) in self._aside.items() if at < before]:
            _, failure = self._aside.pop(document_id)
            record = self.record(document_id)
            # One that was lost, or that changed since, is another case by now.
            if record.held is not Held.CLUSTER or record.waiting is None:
                continue
            if record.active is not None:
                # A review is with a worker, and whatever ends then must not be taken for it: the user tries again.
                self._put(document_id, record, records.freed(record))
            else:
                change = record.waiting
                record = records.replace(record, held=None)
                self._put(document_id, self.record(document_id), (records.taken(record, change.lane), ()))
                taken.append((change, failure))
        return taken

    def none_blamed(self) -> None:
        """Let all who were set aside wait with the others: the cluster is to blame."""
        self._aside.clear()
        self.free(Held.CLUSTER)

    def recover(self, now: float) -> tuple[int, int]:
        """Let those wait for a worker who failed for a reason that can have been the cluster's, the newest first.

        Return how many retries and how many reviews. A change that has waited on hold stays marked as that.
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
        """Turn the order of those who wait in the live lane."""
        queue = self._lanes[Lane.LIVE]
        changes = [self.record(each).next_of(Lane.LIVE) for each in dict.fromkeys(queue)]
        waiting = [each for each in changes if each is not None]
        waiting.sort(key=lambda each: (each.read_at, each.ticket), reverse=True)
        queue.clear()
        queue.extend(each.document_id for each in waiting)

    # For the operator

    def kept_after(
        self, document_id: str, most: int, *, among: Collection[str] = (), kind: str | None = None
    ) -> list[str]:
        """Return the ids of users in quarantine that come after an id, in their order, at most so many.

        Of those that are named `among`, where any are, and whose failure is of the `kind`, where one is given.
        """
        if among:
            named = (each for each in among if each > document_id and self._is_kept(each, kind))
            return heapq.nsmallest(most, named)
        if not document_id or self._listed is None:
            # Once for all pages: to go through a hundred thousand for each would hold up everybody else.
            self._listed = sorted(each for each, record in self._records.items() if record.kept is not None)
        listed = self._listed
        following = (listed[place] for place in range(bisect_right(listed, document_id), len(listed)))
        found = list(islice((each for each in following if self._is_kept(each, kind)), most))
        if len(found) < most:
            self._listed = None
        return found

    def _is_kept(self, document_id: str, kind: str | None) -> bool:
        kept = self.record(document_id).kept
        return kept is not None and (kind is None or kept.failure.kind == kind)

    def retry(self, document_id: str, now: float) -> bool:
        """Let a user in quarantine wait for a worker now; say whether that is anything new."""
        before = self.record(document_id)
        if before.kept is None or before.active is not None or before.waiting is not None:
            # A change that waits looks at everything.
            return False
        self._put(document_id, before, records.retried(records.replace(before, due=now), document_id, now))
        return True

    def release(self, document_id: str) -> None:
        """Take a user out of quarantine, who was not served; what waits for another reason goes on."""
        before = self.record(document_id)
        self._put(document_id, before, aftermath.released(before))


def _failed_since(entry: tuple[str, Record]) -> float:
    record = entry[1]
    return max(each.since for each in (record.kept, record.failed_review) if each is not None)
