"""The looks that listeners were asked for. They are kept until they are done, even if a listener's process ends.

This is pure state of the supervisor's loop. Looks are numbered in the order in which they were asked for. They are kept
by range, so an unreadable range does not delay the others.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from peruserd.core.cluster.directory import Mark
from peruserd.core.cluster.views import Copy
from peruserd.core.feed.lanes import Lane
from peruserd.core.ownership.hashing import document_hash
from peruserd.core.ownership.ranges import WHOLE_SPACE, Range
from peruserd.core.processes.open_looks import Message, OpenLooks, part_of

# The limit of open looks, some megabytes. Past it, all users of a range are looked at instead.
_MAX_OPEN: Final = 100_000

# The limit of places that are remembered while earlier looks are open. Up to one a second comes.
_MAX_MARKS: Final = 1_000

# The limit of ids in one message: some half a megabyte of the longest ids.
_MAX_IN_A_MESSAGE: Final = 500


class Outbox:
    """The open looks of all ranges. Not thread-safe, because the owner has a lock.

    `incarnation` is different for each process.
    """

    def __init__(self, incarnation: str) -> None:
        self._incarnation = incarnation
        # Before the first plan all looks are in one range, because the instance's ranges are not known yet.
        self._by_range: dict[Range, OpenLooks] = {WHOLE_SPACE: OpenLooks(incarnation)}
        self._copies: frozenset[Copy] = frozenset()
        # The number of the comparison of names that replaces all looks from the time without a range.
        self._compares_next: int | None = None
        self._marks: deque[tuple[int, Mark]] = deque()
        self._seen_to: Mark | None = None
        self._last = 0

    def __len__(self) -> int:
        return sum(len(each.looks) for each in self._by_range.values())

    # Asking

    def ask(self, lane: Lane, document_ids: Iterable[str], *, made: bool = False) -> None:
        """Open looks at these documents. `made` says that the only news is the creation of their databases."""
        if not self.has_ranges:
            self.compare_names()
        for place, (document_id, parts) in enumerate(self._followed(document_ids)):
            self._last += place % _MAX_IN_A_MESSAGE == 0
            if lane is Lane.OTHERS and sum(each.others for each in self._by_range.values()) >= _MAX_OPEN:
                self._make_room()
            for part in parts:
                part.ask(document_id, self._last, lane, made=made)

    def _followed(self, document_ids: Iterable[str]) -> Iterator[tuple[str, list[OpenLooks]]]:
        """Return each document in a range of this instance, with the open looks of its ranges."""
        for document_id in document_ids:
            hashed = document_hash(document_id)
            if parts := [part for each, part in self._by_range.items() if hashed in each]:
                yield document_id, parts

    def _make_room(self) -> None:
        """Replace the looks of the range with the most open ones by a look at all its users."""
        self._last += 1
        max(self._by_range.values(), key=lambda each: each.others).look_at_all(self._last)
        self._last += 1

    @property
    def has_ranges(self) -> bool:
        """Say whether looks can be kept. A standby instance has no range; before the first plan it has all of them."""
        return bool(self._by_range)

    def compare_names(self) -> None:
        """Open the order to compare names in all ranges. Without a range the next plan's listeners get it."""
        if not self.has_ranges and self._compares_next is not None:
            return
        self._last += 1
        for part in self._by_range.values():
            part.compare(self._last)
        self._compares_next = None if self.has_ranges else self._last

    def mark(self, mark: Mark) -> None:
        """Note a place in the list of databases. It is done once everything that was asked for so far is done."""
        if len(self._marks) >= _MAX_MARKS:
            # A listener on hold for days finishes nothing. A place in between is worth less than the memory.
            self._marks.pop()
        self._marks.append((self._last, mark))

    def follow(self, copies: Collection[Copy], unreadable: Iterable[Range] = ()) -> None:
        """Take in a plan that listens to these copies. Looks outside their ranges are another instance's, and dropped.

        Looks in `unreadable` ranges stay open until the range can be read, so that no scan is needed then. A range that
        lies in none of the earlier plan's ranges has its names compared. Its listener may continue from an old
        checkpoint, and the news of its users was dropped meanwhile.
        """
        before = self._by_range
        self._copies = frozenset(copies)
        ranges = {*(each.range for each in copies), *unreadable}
        self._by_range = {each: before.get(each) or self._inherited(each, before) for each in sorted(ranges)}
        if new := [each for each in self._by_range if not any(known.holds(each) for known in before)]:
            self._last += 1
            for each in new:
                self._by_range[each].compare(self._last if self._compares_next is None else self._compares_next)
            self._compares_next = None

    def _inherited(self, covered: Range, parts: dict[Range, OpenLooks]) -> OpenLooks:
        around = [part for each, part in parts.items() if each.overlaps(covered)]
        return part_of(covered, around, self._incarnation)

    # Passing on

    @property
    def number(self) -> int:
        """Return the newest number."""
        return self._last

    def messages(self, copy: Copy, after: int = 0) -> Iterator[Message]:
        """Return the messages to the listener of a copy with a number above `after`, in their order."""
        part = self._by_range.get(copy.range)
        return iter(()) if part is None else part.messages(after)

    def acknowledge(self, copy: Copy, number: int, scanned: int = 0) -> None:
        """Close what a copy's listener has done: looks up to `number`, and a scan of all users up to `scanned`."""
        part = self._by_range.get(copy.range)
        if part is None:
            return
        part.close(number)
        # A leaving listener has received orders for its own copy only, and another copy of the range may be followed
        # now.
        if copy in self._copies:
            part.close_orders(number, scanned)

    @property
    def seen_to(self) -> Mark | None:
        """Return the newest mark up to which everything is done."""
        while self._marks and self._marks[0][0] <= self.finished:
            self._seen_to = self._marks.popleft()[1]
        return self._seen_to

    @property
    def finished(self) -> int:
        """Return the number up to which everything is done."""
        oldest = [self._compares_next, *(each.oldest for each in self._by_range.values())]
        return min((each for each in oldest if each is not None), default=self._last + 1) - 1
