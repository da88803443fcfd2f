"""The counts of the users in quarantine: by the kind of their failure, and who has been there longest."""

import heapq
from collections.abc import Callable
from typing import Final

from peruserd.core.users.quarantine import Quarantined

# A user who has left stays in the order until everybody before has left, or until there are this many too many.
_SPARE: Final = 1_000


class KeptUsers:
    """The counts of the quarantine. Not thread-safe, because the owner has a lock.

    `kept_of` returns the present entry of a document, None if it has none.
    """

    def __init__(self, kept_of: Callable[[str], Quarantined | None]) -> None:
        self._kept_of = kept_of
        # The times of first failures, the earliest first.
        self._since: list[tuple[float, str]] = []
        self.total = self.permanent = 0
        self.by_kind: dict[str, int] = {}

    def note(self, before: Quarantined | None, after: Quarantined | None) -> None:
        """Note that a user's entry was replaced. An entry stays in the order of the first failures."""
        if before is not None:
            self._count(before, -1)
        if after is not None:
            self._count(after, 1)
            if before is None or before.since != after.since:
                self._put_in_order(after)

    @property
    def oldest_since(self) -> float | None:
        """Return the first failure of the user who has been there longest, by the wall clock; None if there is none."""
        while self._since and not self._is_current(*self._since[0]):
            heapq.heappop(self._since)
        return self._since[0][0] if self._since else None

    def _count(self, entry: Quarantined, step: int) -> None:
        kind = entry.failure.kind
        self.total += step
        self.permanent += 0 if entry.failure.is_passing else step
        self.by_kind[kind] = self.by_kind.get(kind, 0) + step
        if not self.by_kind[kind]:
            del self.by_kind[kind]

    def _put_in_order(self, entry: Quarantined) -> None:
        if len(self._since) > 2 * self.total + _SPARE:
            self._since = [each for each in self._since if self._is_current(*each)]
            heapq.heapify(self._since)
        heapq.heappush(self._since, (entry.since, entry.document_id))

    def _is_current(self, since: float, document_id: str) -> bool:
        kept = self._kept_of(document_id)
        return kept is not None and kept.since == since
