"""Where a user goes whose action fails, and when it is tried again.

One user's failure never holds up another's: the checkpoint passes it once it is kept here (and on disk). A newer change
of the same document takes its place.
"""

import heapq
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final

import msgspec

from peruserd.core.backoff import Backoff


class Advice(StrEnum):
    """What helps against a failure."""

    RETRY = "retry"  # the same again, later
    ASK_OPERATOR = "ask_operator"  # the same again, once somebody changed something
    GIVE_UP = "give_up"  # nothing but another change of the document


_BACKOFF: Final = {
    Advice.RETRY: Backoff(first_seconds=1.0, most_seconds=600.0),
    # Nobody mends a permission within seconds.
    Advice.ASK_OPERATOR: Backoff(first_seconds=60.0, most_seconds=3_600.0),
}


class Failure(msgspec.Struct, frozen=True):
    """Why a user was not served, and what can be done about it. `kind` is a metric's label.

    `waits_for` are the nodes without which another try can do no more than this one.
    """

    kind: str
    message: str
    advice: Advice = Advice.RETRY
    waits_for: tuple[str, ...] = ()


class Quarantined(msgspec.Struct, frozen=True):
    """A user that could not be served. `since` is the wall clock at the first failure, in seconds, for people.

    `met_in_scan` is the failed change's own: a tombstone that a scan found is not dropped for, however often retried.
    `contested` is the failed change's own, too: rows of both kinds were seen of the document.
    """

    document_id: str
    deleted: bool
    failure: Failure
    failures: int
    since: float
    met_in_scan: bool = False
    contested: bool = False

    def contradicts(self, *, deleted: bool) -> bool:
        """Say whether a row that is live, or `deleted`, makes the document contested."""
        return self.contested or self.deleted != deleted


class Quarantine:
    """The users kept aside, each with the moment of its next try by the caller's monotonic clock."""

    def __init__(self, kept: Iterable[Quarantined], now: float) -> None:
        self._entries: dict[str, Quarantined] = {}
        self._due: list[tuple[float, str]] = []
        self._dates: dict[str, float] = {}
        for entry in kept:
            # After a restart everything is due at once: the cause may be gone, and the limit on work in flight holds.
            self._schedule(entry, now)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, document_id: str) -> bool:
        return document_id in self._entries

    def get(self, document_id: str) -> Quarantined | None:
        """Return the entry of a document; None where it is not here."""
        return self._entries.get(document_id)

    def admit(
        self,
        document_id: str,
        failure: Failure,
        *,
        deleted: bool,
        now: float,
        wall: float,
        chance: float,
        met_in_scan: bool = False,
        contested: bool = False,
    ) -> Quarantined:
        """Keep a user aside after a failed try; `chance`, a random number of [0, 1), spreads the next one."""
        known = self._entries.get(document_id)
        again = known is not None and known.deleted == deleted
        entry = Quarantined(
            document_id,
            deleted,
            failure,
            failures=known.failures + 1 if known is not None and again else 1,
            since=known.since if known is not None and again else wall,
            met_in_scan=met_in_scan,
            contested=contested,
        )
        backoff = _BACKOFF.get(failure.advice)
        self._schedule(entry, None if backoff is None else now + backoff.delay(entry.failures, chance))
        return entry

    def release(self, document_id: str) -> bool:
        """Forget a user that was served, or has another owner; False where it was not here."""
        self._dates.pop(document_id, None)
        return self._entries.pop(document_id, None) is not None

    def release_unless(self, wanted: Callable[[str], bool]) -> list[Quarantined]:
        """Forget every user whose document is not `wanted` any more; return what was kept of them."""
        gone = [entry for document_id, entry in self._entries.items() if not wanted(document_id)]
        for entry in gone:
            self.release(entry.document_id)
        return gone

    def take_due(self, now: float) -> list[Quarantined]:
        """Return those whose next try is due; each is scheduled again by `admit` if it fails."""
        due = []
        while self._due and self._due[0][0] <= now:
            date, document_id = heapq.heappop(self._due)
            # An entry released, or admitted again with another date, leaves its old date behind.
            if self._dates.get(document_id) == date:
                del self._dates[document_id]
                due.append(self._entries[document_id])
        return due

    def next_due(self) -> float | None:
        """Return when `take_due` is worth asking next; None while nothing is to be tried again."""
        return self._due[0][0] if self._due else None

    def _schedule(self, entry: Quarantined, due: float | None) -> None:
        self._entries[entry.document_id] = entry
        self._dates.pop(entry.document_id, None)
        if due is not None and entry.failure.advice is not Advice.GIVE_UP:
            self._dates[entry.document_id] = due
            heapq.heappush(self._due, (due, entry.document_id))
