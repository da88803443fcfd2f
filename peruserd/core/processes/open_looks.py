"""The open looks of one range. Orders replace single looks if these are too many to remember."""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from itertools import groupby, takewhile
from typing import NamedTuple

from peruserd.core.feed.lanes import Lane
from peruserd.core.ownership.hashing import document_hash
from peruserd.core.ownership.ranges import Range
from peruserd.core.processes.messages import CompareNames, Look, LookAtAll

Asked = tuple[int, Lane, bool]
"""The number, the reason, and whether the reason is only the first creation of a database."""

Message = Look | LookAtAll | CompareNames
"""The messages that ask a listener for looks."""


class Order(NamedTuple):
    """An order, by its number. It replaces earlier looks.

    `since` is the oldest number among these, and stays open until the order is done.
    """

    number: int
    since: int


class OpenLooks:
    """The open looks of one range: `looks` by document, the oldest number first, and two orders.

    The order `scanning` is to look at all users of the range. The order `comparing` is to compare the names of their
    databases. `incarnation` identifies the requests of this process.
    """

    def __init__(self, incarnation: str) -> None:
        # An OrderedDict, because it takes quadratic time to find the oldest entry of a plain dict with a deleted front.
        self.looks: OrderedDict[str, Asked] = OrderedDict()
        self.scanning: Order | None = None
        self.comparing: Order | None = None
        # How many of the looks a scan can replace.
        self.others = 0
        self._incarnation = incarnation

    @property
    def oldest(self) -> int | None:
        """Return the oldest open number; None if nothing is open."""
        orders = [each.since for each in (self.scanning, self.comparing) if each is not None]
        return min([*orders, next(iter(self.looks.values()))[0]] if self.looks else orders, default=None)

    def ask(self, document_id: str, number: int, lane: Lane, *, made: bool) -> None:
        """Open a look. If the document has one already, it gets the new number and the stronger reason."""
        before = self.looks.pop(document_id, None)
        if before is not None:
            self.others -= before[1] is Lane.OTHERS
            lane, made = _stronger(lane, before[1]), made and before[2]
        self.others += lane is Lane.OTHERS
        self.looks[document_id] = number, lane, made

    def compare(self, number: int) -> None:
        """Open the order to compare names."""
        self.comparing = Order(number, number if self.comparing is None else self.comparing.since)

    def look_at_all(self, number: int) -> None:
        """Open the order to look at all users. It replaces the looks at databases that others created or deleted."""
        dropped = (asked[0] for asked in self.looks.values() if asked[1] is Lane.OTHERS)
        since = next(dropped, number) if self.scanning is None else self.scanning.since
        self.scanning = Order(number, since)
        self.others = 0
        self.looks = OrderedDict((each, asked) for each, asked in self.looks.items() if asked[1] is not Lane.OTHERS)

    def messages(self, after: int) -> Iterator[Message]:
        """Return the open messages with a number above `after`, in the order of the numbers."""
        orders: list[tuple[int, Message]] = []
        if self.scanning is not None and self.scanning.number > after:
            number = self.scanning.number
            orders.append((number, LookAtAll(number, f"{self._incarnation} {number}")))
        if self.comparing is not None and self.comparing.number > after:
            orders.append((self.comparing.number, CompareNames(self.comparing.number)))
        orders.sort(reverse=True, key=lambda each: each[0])
        for number, look in self._looks(after):
            while orders and orders[-1][0] < number:
                yield orders.pop()[1]
            yield look
        yield from (message for _, message in reversed(orders))

    def _looks(self, after: int) -> Iterator[tuple[int, Look]]:
        inside = list(takewhile(lambda each: each[1][0] > after, reversed(self.looks.items())))
        groups = [(asked, tuple(each for each, _ in group)) for asked, group in groupby(reversed(inside), key=_asked)]
        last_places = {asked[0]: place for place, (asked, _) in enumerate(groups)}
        for place, ((number, lane, made), document_ids) in enumerate(groups):
            # Several messages can share one number. All but the last one carry the number minus 1, because a reported
            # number means that everything up to it is done.
            yield number, Look(number - (place < last_places[number]), lane, document_ids, made)

    def close(self, number: int) -> None:
        """Close the looks with a number up to this one."""
        while self.looks and self.looks[oldest := next(iter(self.looks))][0] <= number:
            self.others -= self.looks.pop(oldest)[1] is Lane.OTHERS

    def close_orders(self, taken_in: int, scanned: int) -> None:
        """Close a comparison with a number up to `taken_in`, and a scan of all users with one up to `scanned`."""
        if self.comparing is not None and self.comparing.number <= taken_in:
            self.comparing = None
        if self.scanning is not None and self.scanning.number <= scanned:
            self.scanning = None


def part_of(covered: Range, parts: Collection[OpenLooks], incarnation: str) -> OpenLooks:
    """Return the open looks of a range, taken from those of ranges that overlap it, for example after a split."""
    made = OpenLooks(incarnation)
    looks = {each: asked for part in parts for each, asked in part.looks.items() if document_hash(each) in covered}
    for document_id, (number, lane, is_new) in sorted(looks.items(), key=lambda each: each[1][0]):
        made.ask(document_id, number, lane, made=is_new)
    made.comparing = _joined(each.comparing for each in parts)
    made.scanning = _joined(each.scanning for each in parts)
    return made


def _joined(orders: Iterable[Order | None]) -> Order | None:
    """Return the oldest of the orders; None if there is none.

    A listener that receives this order later also finishes it later. So nothing is reported too early.
    """
    given = [each for each in orders if each is not None]
    return Order(min(each.number for each in given), min(each.since for each in given)) if given else None


def _stronger(one: Lane, other: Lane) -> Lane:
    """Return the reason that is to count of two.

    An operator asks the instance on the spot, whoever owns the document. For all other reasons only the owner looks, so
    they must not take the place of the operator's.
    """
    return Lane.OPERATOR if Lane.OPERATOR in (one, other) else min(one, other)


def _asked(entry: tuple[str, Asked]) -> Asked:
    return entry[1]
