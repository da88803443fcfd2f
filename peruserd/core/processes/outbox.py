"""Looks that listeners were asked for and have not finished: kept until they have, whatever becomes of a process.

Everything here is pure state of the supervisor's loop. Looks are numbered in the order in which they were asked for,
and kept by range, so a range that nobody can read costs the others nothing.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from peruserd.core.cluster.directory import Mark
from peruserd.core.cluster.views import Copy
from peruserd.core.feed.lanes import Lane
from peruserd.core.ownership.hashing import document_hash
from peruserd.core.ownership.ranges import WHOLE_SPACE, Range
from peruserd.core.processes.open_looks import Message, Tray, part_of

# Documents that may be open at once, some megabytes. Past that many, all users of a range are looked at.
_MAX_OPEN: Final = 100_000

# Places that are remembered while looks before them are open: one a second comes where many users sign up.
_MAX_MARKS: Final = 1_000

# How many ids go into one message: some half a megabyte of the longest ones.
_MAX_IN_A_MESSAGE: Final = 500


class Outbox:
    """The looks that are open, of all ranges together. Not thread-safe: its owner has a lock.

    `incarnation` is a word that no other process has for itself.
    """

    def __init__(self, incarnation: str) -> None:
        self._incarnation = incarnation
        # Before the first plan, when it is not known yet what is another instance's, of all ranges together.
        self._trays: dict[Range, Tray] = {WHOLE_SPACE: Tray(incarnation)}
        self._copies: frozenset[Copy] = frozenset()
        # The number of the comparison that is to make up for all that was asked for while this instance had no range.
        self._compares_next: int | None = None
        self._marks: deque[tuple[int, Mark]] = deque()
        self._seen_to: Mark | None = None
        self._last = 0

    def __len__(self) -> int:
        return sum(len(each.looks) for each in self._trays.values())

    # Asking

    def ask(self, lane: Lane, document_ids: Iterable[str], *, made: bool = False) -> None:
        """Open looks at these documents; `made` says that nothing is known but that their database was made."""
        if not self.has_ranges:
            self.compare_names()
        for place, (document_id, trays) in enumerate(self._followed(document_ids)):
            self._last += place % _MAX_IN_A_MESSAGE == 0
            if lane is Lane.OTHERS and sum(each.others for each in self._trays.values()) >= _MAX_OPEN:
                self._make_room()
            for tray in trays:
                tray.ask(document_id, self._last, lane, made=made)

    def _followed(self, document_ids: Iterable[str]) -> Iterator[tuple[str, list[Tray]]]:
        """Return each document that is not only another instance's, with the trays of its ranges."""
        for document_id in document_ids:
            hashed = document_hash(document_id)
            if trays := [tray for each, tray in self._trays.items() if hashed in each]:
                yield document_id, trays

    def _make_room(self) -> None:
        """Let all users be looked at in the range in which most is open, such as one that nobody can read."""
        self._last += 1
        max(self._trays.values(), key=lambda each: each.others).look_at_all(self._last)
        self._last += 1

    @property
    def has_ranges(self) -> bool:
        """Say whether looks can be kept: an instance that stands by has no range, and one before its first plan all."""
        return bool(self._trays)

    def compare_names(self) -> None:
        """Let names be compared in all ranges, by the listeners of the plan, or by the next ones there are."""
        if not self.has_ranges and self._compares_next is not None:
            return
        self._last += 1
        for tray in self._trays.values():
            tray.compare(self._last)
        self._compares_next = None if self.has_ranges else self._last

    def mark(self, mark: Mark) -> None:
        """Note a place in the list of databases, which is seen to once all that was asked for so far is done."""
        if len(self._marks) >= _MAX_MARKS:
            # A listener that is on hold for days finishes nothing: a place in between is worth less than the memory.
            self._marks.pop()
        self._marks.append((self._last, mark))

    def follow(self, copies: Collection[Copy], unreadable: Iterable[Range] = ()) -> None:
        """Go by a plan that listens to these copies; looks at what is in none of them are another instance's.

        What is open in the ranges that nobody can read now stays so until somebody can, who need not scan them then.
        A range that was in none of the earlier plan's has its names compared: its listener can go on from a checkpoint
        of before, and what the list of databases told of its users meanwhile was passed over.
        """
        before = self._trays
        self._copies = frozenset(copies)
        ranges = {*(each.range for each in copies), *unreadable}
        self._trays = {each: before.get(each) or self._inherited(each, before) for each in sorted(ranges)}
        if new := [each for each in self._trays if not any(known.holds(each) for known in before)]:
            self._last += 1
            for each in new:
                self._trays[each].compare(self._last if self._compares_next is None else self._compares_next)
            self._compares_next = None

    def _inherited(self, covered: Range, trays: dict[Range, Tray]) -> Tray:
        around = [tray for each, tray in trays.items() if each.overlaps(covered)]
        return part_of(covered, around, self._incarnation)

    # Passing on

    @property
    def number(self) -> int:
        """Return the newest number."""
        return self._last

    def messages(self, copy: Copy, after: int = 0) -> Iterator[Message]:
        """Return what the listener of a copy is to be told with a number above `after`, in their order."""
        tray = self._trays.get(copy.range)
        return iter(()) if tray is None else tray.messages(after)

    def acknowledge(self, copy: Copy, number: int, scanned: int = 0) -> None:
        """Close what was asked of the listener of a copy up to this number, and a scan of all users up to the other."""
        tray = self._trays.get(copy.range)
        if tray is None:
            return
        tray.close(number)
        # A listener that leaves has taken orders in for its own copy alone.
        if copy in self._copies:
            tray.close_orders(number, scanned)

    @property
    def seen_to(self) -> Mark | None:
        """Return the newest mark up to which everything is done."""
        while self._marks and self._marks[0][0] <= self.finished:
            self._seen_to = self._marks.popleft()[1]
        return self._seen_to

    @property
    def finished(self) -> int:
        """Return the number up to which everything is done."""
        oldest = [self._compares_next, *(each.oldest for each in self._trays.values())]
        return min((each for each in oldest if each is not None), default=self._last + 1) - 1
