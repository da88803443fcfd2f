"""The rounds of the audit: where one is, what it has found so far, and when the next step of it is due.

A round has three parts, the cheapest first:

- the ids of one other copy of the range, another copy each round, because the copy that is followed may be behind;
- the databases with the prefix, because one can be there without a user;
- every user of the range, by the copy that is followed.

The round is written to disk as it goes, so that one that is interrupted goes on where it was. Its times are of the wall
clock, because they outlive the process; a clock that is set makes a round shorter or longer, and nothing else.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import msgspec

from peruserd.core.audit.findings import Finding

replace = msgspec.structs.replace

# Of the interval: the rest is for what cannot be foreseen, so that a round ends before the next one should begin.
_SPREAD: Final = 0.9

MAX_LOGGED: Final = 20
"""Users of one kind of finding that the log names in one round; all are counted."""


class Part(StrEnum):
    """The part that a round is at."""

    OTHER_COPY = "other_copy"
    DATABASES = "databases"
    USERS = "users"


class Round(msgspec.Struct, frozen=True):
    """A round that goes on. `begun` is in seconds of the wall clock.

    `copy` names the life of the copy whose sequences the position is of. `position` is where the part goes on, None at
    its beginning: a sequence, or a database's name. `rows` are those of the followed copy that were passed, and `users`
    those of them that were looked at.
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
        """Return the round with its part as far as `position`, so many rows and users later."""
        return replace(self, position=position, rows=self.rows + rows, users=self.users + users)

    def onwards(self) -> "Round":
        """Return the round at the beginning of its next part; raises ValueError where this is the last one."""
        parts = list(Part)
        place = parts.index(self.part) + 1
        if place == len(parts):
            raise ValueError("the round is at its last part")
        return replace(self, part=parts[place], position=None)


class Summary(msgspec.Struct, frozen=True):
    """A round as it is told: `ended` is None of one that goes on."""

    begun: float
    ended: float | None
    users: int
    findings: dict[Finding, int]


class Rounds(msgspec.Struct, frozen=True):
    """All that is kept of the audit of one copy: the round that goes on, and the last whole one."""

    running: Round | None = None
    last: Summary | None = None
    number: int = 0

    def going_on(self, copy: str, now: float) -> "Rounds":
        """Return the rounds with one that goes on: that of the disk if it is of this copy, or else a new one."""
        if self.running is not None and self.running.copy == copy and self.running.begun <= now:
            return self
        number = self.number + 1
        return Rounds(Round(number, now, copy), self.last, number)

    def ended(self, now: float) -> "Rounds":
        """Return the rounds after the end of the one that goes on; raises ValueError where none does."""
        if self.running is None:
            raise ValueError("no round goes on")
        return Rounds(None, summary(self.running, now), self.number)

    def next_begin(self, now: float, interval_seconds: float) -> float:
        """Return when the next round is due to begin."""
        if self.last is None:
            return now
        # Not later than an interval from now, whatever became of the clock.
        return min(max(now, self.last.begun + interval_seconds), now + interval_seconds)

    @property
    def standing(self) -> "AuditStanding":
        """Return how the audit stands, for people."""
        return AuditStanding(None if self.running is None else summary(self.running, None), self.last)


class AuditStanding(msgspec.Struct, frozen=True):
    """The audit of one listener: the round that goes on, and the last whole one."""

    running: Summary | None = None
    last: Summary | None = None


def summary(running: Round, ended: float | None) -> Summary:
    """Return a round as it is told."""
    return Summary(running.begun, ended, running.users, running.findings)


class Pace:
    """The pace of requests and of users, in seconds; the rate wins over the interval. Not thread-safe.

    `rate` is in requests a second. A round that would take longer than the interval at that rate takes longer.
    """

    def __init__(self, interval_seconds: float, rate: float) -> None:
        self.interval_seconds = interval_seconds
        self._whole = self.rate = rate
        self._next_request = float("-inf")

    def divide(self, share: int, most: int) -> None:
        """Take the part of the rate that a listener has who may work on `share` users of `most` at once."""
        self.rate = self._whole * min(1.0, share / most)

    def request(self, now: float) -> float:
        """Take the next place for a request; return in how many seconds it may be sent. Of a monotonic clock."""
        due = max(now, self._next_request)
        self._next_request = due + 1.0 / self.rate
        return due - now

    def rest(self, elapsed: float, rows: int, passed: int, total: int) -> float:
        """Return how long to wait after `passed` rows, the last of `rows` in all, so that the round takes its time.

        `elapsed` is the time since the round began, `total` how many rows there are, as far as is known. The wait is
        never longer than what these rows are due, so that a clock that is set keeps no round standing.
        """
        each = self.interval_seconds * _SPREAD / max(total, rows, 1)
        return max(0.0, min(each * rows - elapsed, each * passed))
