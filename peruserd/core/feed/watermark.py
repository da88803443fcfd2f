"""The low-water mark of a feed: the sequence up to which all its rows are finished.

Rows finish in any order, and the mark follows the oldest unfinished row. Rows that need no work are never entered, so
to skip a million of them costs one assignment.
"""

from collections import OrderedDict

from peruserd.core.feed.rows import Row, Sequence


class Watermark:
    """Tickets for the rows under way, in the order in which they were read.

    A `row` is the newest row at or before its sequence, if it is known. `read_at` is when the feed was last read.
    """

    def __init__(self, position: Sequence, row: Row | None = None) -> None:
        self._read = position
        self._read_row = row
        # An OrderedDict, because it takes quadratic time to find the oldest entry of a plain dict with a deleted front.
        self._open: OrderedDict[int, tuple[Sequence, Row | None, int, float | None]] = OrderedDict()
        self._next_ticket = 0
        self._size = 0
        self.read_at: float | None = None

    @property
    def read(self) -> Sequence:
        """Return the sequence up to which rows were read."""
        return self._read

    @property
    def read_row(self) -> Row | None:
        """Return the newest row that was read."""
        return self._read_row

    @property
    def finished(self) -> Sequence:
        """Return the sequence up to which every row is finished."""
        return next(iter(self._open.values()))[0] if self._open else self._read

    @property
    def finished_row(self) -> Row | None:
        """Return the newest row at or before `finished`."""
        return next(iter(self._open.values()))[1] if self._open else self._read_row

    @property
    def under_way(self) -> int:
        """Return how many rows are not finished."""
        return len(self._open)

    @property
    def size(self) -> int:
        """Return the sum of the sizes of all unfinished rows."""
        return self._size

    @property
    def oldest_ticket(self) -> int:
        """Return the oldest unfinished ticket; the next ticket if all are finished."""
        return next(iter(self._open), self._next_ticket)

    @property
    def oldest_at(self) -> float | None:
        """Return when the oldest unfinished row was read, of those whose time counts; None without such a row."""
        return next((at for _, _, _, at in self._open.values() if at is not None), None)

    @property
    def next_ticket(self) -> int:
        """Return the ticket that will be given next."""
        return self._next_ticket

    def enter(self, before: Sequence, row_before: Row | None = None, size: int = 0, at: float | None = None) -> int:
        """Take a ticket for a row. Until it is finished, the mark stays at `before`, the sequence of the row before it.

        Tickets are taken in the order of the rows. `size` is how many bytes are kept in memory for the row, and `at` is
        when it was read.
        """
        ticket = self._next_ticket
        self._next_ticket += 1
        self._open[ticket] = (before, row_before, size, at)
        self._size += size
        return ticket

    def excuse(self, ticket: int) -> None:
        """Let the time of a row not count any more, because it waits for a reason of its own."""
        before, row, size, _ = self._open[ticket]
        self._open[ticket] = (before, row, size, None)

    def advance(self, sequence: Sequence, row: Row | None = None) -> None:
        """Note that rows were read up to and including `sequence`."""
        self._read = sequence
        self._read_row = row

    def finish(self, ticket: int) -> None:
        """Give a ticket back; raises KeyError if it was given back before."""
        self._size -= self._open.pop(ticket)[2]
