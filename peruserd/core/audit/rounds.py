"""The rounds of the audit: their progress, their findings so far, and their pace.

A round has three parts, the cheapest first:

- The ids of one other copy of the range, because the followed copy may be behind. Each round takes another copy.
- The databases with the prefix, because a database can exist without a user.
- Every user of the range, by the followed copy.

The progress of a round is written to disk, so an interrupted round continues where it was. Its times are of the wall
clock, because they outlive the process. If somebody sets the clock, a round gets shorter or longer, and nothing else.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import msgspec

from peruserd.core.audit.findings import Finding

replace = msgspec.structs.replace

# The part of the interval for one round. The rest is a reserve, so that a round ends before the next one is due.
_SPREAD: Final = 0.9

MAX_LOGGED: Final = 20
"""The limit of users that the log names for one kind of finding in one round. All are counted."""


class Part(StrEnum):
    """The parts of a round."""

    OTHER_COPY = "other_copy"
    DATABASES = "databases"
    USERS = "users"


class Round(msgspec.Struct, frozen=True):
    """A round under way. `begun` is in seconds of the wall clock.

    - `copy`: the identity of the copy that the sequence in `position` belongs to.
    - `position`: where the part continues, a sequence or a database's name; None at its beginning.
    - `rows`: how many rows of the followed copy were read. `users`: how many of them were looked at.
    """

    number: int
    begun: float
    copy: str
    part: Part = Part.OTHER_COPY
    position: int | str | None = None
    rows: int = 0
    users: int = 0
    findings: dict[Finding, int] = {}

    def found(self, findings: Iterable[Finding]) -> "Round":
        """Return the round with these findings counted."""
        counted = dict(self.findings)
        for each in findings:
            counted[each] = counted.get(each, 0) + 1
        return replace(self, findings=counted)

    def at(self, position: int | str | None, *, rows: int = 0, users: int = 0) -> "Round":
        """Return the round with its part advanced to `position`, after `rows` more rows and `users` more users."""
        return replace(self, position=position, rows=self.rows + rows, users=self.users + users)

    def onwards(self) -> "Round":
        """Return the round at the beginning of its next part; raises ValueError in the last part."""
        parts = list(Part)
        place = parts.index(self.part) + 1
        if place == len(parts):
            raise ValueError("the round is at its last part")
        return replace(self, part=parts[place], position=None)


class Summary(msgspec.Struct, frozen=True):
    """A round, for people. `ended` is None while it is under way."""

    begun: float
    ended: float | None
    users: int
    findings: dict[Finding, int]


class Rounds(msgspec.Struct, frozen=True):
    """All that is kept of the audit of one copy: the round under way, and the last complete one."""

    running: Round | None = None
    last: Summary | None = None
    number: int = 0

    def going_on(self, copy: str, now: float) -> "Rounds":
        """Return the rounds with one under way: the saved round if it is of this copy, or else a new one."""
        if self.running is not None and self.running.copy == copy and self.running.begun <= now:
            return self
        number = self.number + 1
        return Rounds(Round(number, now, copy), self.last, number)

    def ended(self, now: float) -> "Rounds":
        """Return the rounds after the end of the one under way; raises ValueError if there is none."""
        if self.running is None:
            raise ValueError("no round goes on")
        return Rounds(None, summary(self.running, now), self.number)

    def next_begin(self, now: float, interval_seconds: float) -> float:
        """Return when the next round is due to begin."""
        if self.last is None:
            return now
        # Never later than one interval from now, even if somebody has set the clock.
        return min(max(now, self.last.begun + interval_seconds), now + interval_seconds)

    @property
    def status(self) -> "AuditStatus":
        """Return the state of the audit, for people."""
        return AuditStatus(None if self.running is None else summary(self.running, None), self.last)


class AuditStatus(msgspec.Struct, frozen=True):
    """The state of one listener's audit: the round under way, and the last complete one."""

    running: Summary | None = None
    last: Summary | None = None


def summary(running: Round, ended: float | None) -> Summary:
    """Return a round, for people."""
    return Summary(running.begun, ended, running.users, running.findings)


class Pace:
    """The pace of requests and of users, in seconds. Not thread-safe.

    `rate` is in requests a second, and is never exceeded. If a round cannot end within the interval at that rate, it
    takes longer than the interval.
    """

    def __init__(self, interval_seconds: float, rate: float) -> None:
        self.interval_seconds = interval_seconds
        self._whole = self.rate = rate
        self._next_request = float("-inf")

    def change(self, interval_seconds: float, rate: float) -> None:
        """Take another interval, and another rate of the whole instance. `divide` must follow."""
        self.interval_seconds = interval_seconds
        self._whole = rate

    def divide(self, share: int, total: int) -> None:
        """Take the part of the rate of a listener that works on `share` users at once, of `total` in all."""
        self.rate = self._whole * min(1.0, share / total)

    def request(self, now: float) -> float:
        """Reserve the next request; return in how many seconds it may be sent. `now` is of a monotonic clock."""
        due = max(now, self._next_request)
        self._next_request = due + 1.0 / self.rate
        return due - now

    def rest(self, elapsed: float, rows: int, passed: int, total: int) -> float:
        """Return how long to wait after the last `passed` rows, so that the round takes the whole interval.

        `rows` is how many were read in all, and `total` how many there are, as far as is known. `elapsed` is the time
        since the round began. The wait is at most the time for the `passed` rows, so a changed clock stops no round.
        """
        each = self.interval_seconds * _SPREAD / max(total, rows, 1)
        return max(0.0, min(each * rows - elapsed, each * passed))
