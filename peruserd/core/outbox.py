"""Looks that listeners were asked for and have not finished: kept until they have, whatever becomes of a process.

Everything here is pure state of the supervisor's loop. Looks are numbered in the order in which they were asked for,
and kept by range, so a range that nobody can read costs the others nothing.
"""

from collections import OrderedDict, deque
from collections.abc import Collection, Iterable, Iterator
from itertools import groupby, takewhile
from typing import Final

from peruserd.core.directory import Mark
from peruserd.core.hashing import document_hash
from peruserd.core.lanes import Lane
from peruserd.core.messages import CompareNames, Look
from peruserd.core.ranges import WHOLE_SPACE, Range
from peruserd.core.views import Copy

# Documents that may be open at once, some megabytes. Past that many, the names of a range's databases are compared.
_MOST_OPEN: Final = 100_000

# Places that are remembered while looks before them are open: one a second comes where many users sign up.
_MOST_MARKS: Final = 1_000

# How many ids go into one message: some half a megabyte of the longest ones.
_MOST_IN_A_MESSAGE: Final = 500

Asked = tuple[int, Lane, bool]
"""The number, the reason, and whether the reason is only that a database was made for the first time."""


class _Tray:
    """The open looks of one range: `looks` by document, the oldest number first, and the number of a comparison."""

    def __init__(self) -> None:
        # Ordered, because finding the oldest entry of a plain dict whose front is deleted over and over is quadratic.
        self.looks: OrderedDict[str, Asked] = OrderedDict()
        self.comparing: int | None = None
        # How many of the looks a comparison makes up for.
        self.others = 0

    @property
    def oldest(self) -> int | None:
        """Return the oldest number that is open; None where nothing is."""
        numbers = [next(iter(self.looks.values()))[0]] if self.looks else []
        return min(numbers if self.comparing is None else [*numbers, self.comparing], default=None)

    def ask(self, document_id: str, number: int, lane: Lane, *, made: bool) -> None:
        """Open a look, or open it anew, for the more urgent reason."""
        before = self.looks.pop(document_id, None)
        if before is not None:
            self.others -= before[1] is Lane.OTHERS
            lane, made = min(lane, before[1]), made and before[2]
        self.others += lane is Lane.OTHERS
        self.looks[document_id] = number, lane, made

    def compare(self, number: int) -> None:
        """Let names be compared instead of looking at each database that somebody has made or deleted."""
        self.comparing = number
        self.others = 0
        self.looks = OrderedDict((each, asked) for each, asked in self.looks.items() if asked[1] is not Lane.OTHERS)

    def messages(self, after: int) -> Iterator[Look | CompareNames]:
        """Return what is open with a number above `after`, in the order of the numbers."""
        inside = list(takewhile(lambda each: each[1][0] > after, reversed(self.looks.items())))
        groups = [(asked, tuple(each for each, _ in group)) for asked, group in groupby(reversed(inside), key=_asked)]
        last_places = {asked[0]: place for place, (asked, _) in enumerate(groups)}
        for place, ((number, lane, made), document_ids) in enumerate(groups):
            if self.comparing is not None and after < self.comparing < number:
                yield CompareNames(self.comparing)
                after = self.comparing
            # A listener takes each number for the end of all that came before it.
            yield Look(number - (place < last_places[number]), lane, document_ids, made)
        if self.comparing is not None and self.comparing > after:
            yield CompareNames(self.comparing)

    def close(self, number: int) -> None:
        """Close the looks that have a number up to this one."""
        while self.looks and self.looks[oldest := next(iter(self.looks))][0] <= number:
            self.others -= self.looks.pop(oldest)[1] is Lane.OTHERS


def _asked(entry: tuple[str, Asked]) -> Asked:
    return entry[1]


class Outbox:
    """The looks that are open, of all ranges together. Not thread-safe: its owner has a lock."""

    def __init__(self) -> None:
        # Before the first plan, when it is not known yet what is another instance's, of all ranges together.
        self._trays: dict[Range, _Tray] = {WHOLE_SPACE: _Tray()}
        self._copies: frozenset[Copy] = frozenset()
        # The number of a comparison that was asked for while this instance had no range.
        self._compares_next: int | None = None
        self._marks: deque[tuple[int, Mark]] = deque()
        self._seen_to: Mark | None = None
        self._last = 0

    def __len__(self) -> int:
        return sum(len(each.looks) for each in self._trays.values())

    # Asking

    def ask(self, lane: Lane, document_ids: Iterable[str], *, made: bool = False) -> None:
        """Open looks at these documents; `made` says that nothing is known but that their database was made."""
        for place, (document_id, trays) in enumerate(self._followed(document_ids)):
            self._last += place % _MOST_IN_A_MESSAGE == 0
            if lane is Lane.OTHERS and sum(each.others for each in self._trays.values()) >= _MOST_OPEN:
                self._make_room()
            for tray in trays:
                tray.ask(document_id, self._last, lane, made=made)

    def _followed(self, document_ids: Iterable[str]) -> Iterator[tuple[str, list[_Tray]]]:
        """Return each document that is not only another instance's, with the trays of its ranges."""
        for document_id in document_ids:
            hashed = document_hash(document_id)
            if trays := [tray for each, tray in self._trays.items() if hashed in each]:
                yield document_id, trays

    def _make_room(self) -> None:
        """Let names be compared in the range in which most is open, such as one that nobody can read."""
        self._last += 1
        max(self._trays.values(), key=lambda each: each.others).compare(self._last)
        self._last += 1

    def compare_names(self) -> None:
        """Let names be compared in all ranges, by the listeners of the plan, or by the next ones there are."""
        self._last += 1
        for tray in self._trays.values():
            tray.comparing = self._last
        self._compares_next = None if self._trays else self._last

    def mark(self, mark: Mark) -> None:
        """Note a place in the list of databases, which is seen to once all that was asked for so far is done."""
        if len(self._marks) >= _MOST_MARKS:
            # A listener that is on hold for days finishes nothing: a place in between is worth less than the memory.
            self._marks.pop()
        self._marks.append((self._last, mark))

    def follow(self, copies: Collection[Copy], unreadable: Iterable[Range] = ()) -> None:
        """Go by a plan that listens to these copies; looks at what is in none of them are another instance's.

        What is open in the ranges that nobody can read now stays so until somebody can, who need not scan them then.
        """
        before = self._trays
        self._copies = frozenset(copies)
        ranges = {*(each.range for each in copies), *unreadable}
        self._trays = {each: before.get(each) or _inherited(each, before) for each in sorted(ranges)}
        if ranges and self._compares_next is not None:
            for tray in self._trays.values():
                tray.comparing = self._compares_next
            self._compares_next = None

    # Passing on

    @property
    def number(self) -> int:
        """Return the newest number."""
        return self._last

    def messages(self, copy: Copy, after: int = 0) -> Iterator[Look | CompareNames]:
        """Return what the listener of a copy is to be told with a number above `after`, in their order."""
        tray = self._trays.get(copy.range)
        return iter(()) if tray is None else tray.messages(after)

    def acknowledge(self, copy: Copy, number: int) -> None:
        """Close what was asked of the listener of a copy up to this number."""
        tray = self._trays.get(copy.range)
        if tray is None:
            return
        tray.close(number)
        # A listener that leaves has taken it in for its own copy alone.
        if copy in self._copies and tray.comparing is not None and tray.comparing <= number:
            tray.comparing = None

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


def _inherited(covered: Range, trays: dict[Range, _Tray]) -> _Tray:
    """Return what is open of a range that is new in the plan, such as a part of one that was split."""
    made = _Tray()
    around = [tray for each, tray in trays.items() if each.overlaps(covered)]
    looks = {each: asked for tray in around for each, asked in tray.looks.items() if document_hash(each) in covered}
    for document_id, (number, lane, is_new) in sorted(looks.items(), key=lambda each: each[1][0]):
        made.ask(document_id, number, lane, made=is_new)
    # The oldest: whoever is told of it later compares later.
    made.comparing = min((each.comparing for each in around if each.comparing is not None), default=None)
    return made
