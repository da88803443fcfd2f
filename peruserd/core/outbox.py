"""Looks that listeners were asked for and have not finished: kept until they have, whatever becomes of a process.

Everything here is pure state of the supervisor's loop. Looks are numbered in the order in which they were asked for.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from itertools import groupby
from typing import Final

from peruserd.core.directory import Mark
from peruserd.core.hashing import document_hash
from peruserd.core.lanes import Lane
from peruserd.core.messages import CompareNames, Look
from peruserd.core.ranges import Range
from peruserd.core.views import Copy

# Documents that may be open at once, some megabytes. Past that many, the names of all users' databases are compared.
_MOST_OPEN: Final = 100_000

# Places that are remembered while looks before them are open: one a second comes where many users sign up.
_MOST_MARKS: Final = 1_000

# How many ids go into one message: some half a megabyte of the longest ones.
_MOST_IN_A_MESSAGE: Final = 500

Asked = tuple[int, Lane, bool]
"""The number, the reason, and whether the reason is only that a database was made for the first time."""


class Outbox:
    """The looks that are open, of all ranges together. Not thread-safe: its owner has a lock."""

    def __init__(self) -> None:
        # By document; the oldest number is always first.
        self._open: dict[str, Asked] = {}
        # The listeners that have not taken in that they are to compare names, by the number of that.
        self._comparing: dict[Copy, int] = {}
        self._copies: frozenset[Copy] = frozenset()
        # None before the first plan, when it is not known yet what is another instance's.
        self._ranges: frozenset[Range] | None = None
        # The number of a comparison that was asked for before there was a listener.
        self._compares_next: int | None = None
        self._marks: deque[tuple[int, Mark]] = deque()
        self._seen_to: Mark | None = None
        self._last = 0

    def __len__(self) -> int:
        return len(self._open)

    # Asking

    def ask(self, lane: Lane, document_ids: Iterable[str], *, made: bool = False) -> None:
        """Open looks at these documents; `made` says that nothing is known but that their database was made."""
        for place, document_id in enumerate(each for each in document_ids if self._is_followed(each)):
            self._last += place % _MOST_IN_A_MESSAGE == 0
            if document_id not in self._open and len(self._open) >= _MOST_OPEN:
                self.compare_names()
                return
            _, lane_before, made_before = self._open.pop(document_id, (0, lane, made))
            self._open[document_id] = (self._last, min(lane, lane_before), made and made_before)

    def compare_names(self) -> None:
        """Let every listener compare names: those of the plan, or of the first one there is."""
        self._last += 1
        self._comparing = dict.fromkeys(self._copies, self._last)
        self._compares_next = None if self._copies else self._last

    def mark(self, mark: Mark) -> None:
        """Note a place in the list of databases, which is seen to once all that was asked for so far is done."""
        if len(self._marks) >= _MOST_MARKS:
            # A listener that is on hold for days finishes nothing: a place in between is worth less than the memory.
            self._marks.pop()
        self._marks.append((self._last, mark))

    def follow(self, copies: Collection[Copy], unreadable: Iterable[Range] = ()) -> None:
        """Go by a plan that listens to these copies; looks at what is in none of them are another instance's.

        Looks in the ranges that nobody can read now stay open until somebody can, who need not scan them then.
        """
        self._copies = frozenset(copies)
        if self._copies and self._compares_next is not None:
            self._comparing, self._compares_next = dict.fromkeys(self._copies, self._compares_next), None
        self._comparing = {copy: number for copy, number in self._comparing.items() if copy in self._copies}
        self._ranges = frozenset((*(each.range for each in copies), *unreadable))
        for document_id in [each for each in self._open if not self._is_followed(each)]:
            del self._open[document_id]

    def _is_followed(self, document_id: str) -> bool:
        if self._ranges is None:
            return True
        hashed = document_hash(document_id)
        return any(hashed in each for each in self._ranges)

    # Passing on

    @property
    def number(self) -> int:
        """Return the newest number."""
        return self._last

    def messages(self, copy: Copy, after: int = 0) -> Iterator[Look | CompareNames]:
        """Return what the listener of a copy is to be told with a number above `after`, in their order."""
        compares_at = self._comparing.get(copy, 0)
        inside = [
            (asked, document_id)
            for document_id, asked in self._open.items()
            if asked[0] > after and document_hash(document_id) in copy.range
        ]
        # A listener takes each number for the end of all that came before it.
        for (number, lane, made), group in groupby(inside, key=lambda each: each[0]):
            if after < compares_at < number:
                yield CompareNames(compares_at)
                after = compares_at
            yield Look(number, lane, tuple(document_id for _, document_id in group), made)
        if compares_at > after:
            yield CompareNames(compares_at)

    def acknowledge(self, copy: Copy, number: int) -> None:
        """Close what was asked of the listener of a copy up to this number."""
        if self._comparing.get(copy, number + 1) <= number:
            del self._comparing[copy]
        done = []
        for document_id, (asked, _, _) in self._open.items():
            if asked > number:
                break
            if document_hash(document_id) in copy.range:
                done.append(document_id)
        for document_id in done:
            del self._open[document_id]

    @property
    def seen_to(self) -> Mark | None:
        """Return the newest mark up to which everything is done."""
        while self._marks and self._marks[0][0] <= self._finished:
            self._seen_to = self._marks.popleft()[1]
        return self._seen_to

    @property
    def _finished(self) -> int:
        oldest = [next(iter(self._open.values()))[0]] if self._open else []
        waiting = [] if self._compares_next is None else [self._compares_next]
        return min([*oldest, *waiting, *self._comparing.values(), self._last + 1]) - 1
