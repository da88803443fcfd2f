"""The gate for the password: when it may be sent to CouchDB, so that CouchDB never locks the account because of us.

After 5 refused passwords within 5 minutes, CouchDB 3.4 and later lock the account for the whole address. Then even the
right password is refused. Only requests with the password count: a login, or a request with Basic authentication. So
all senders of the password share one gate, one after the other:

- The password is refused at most `MAX_REFUSALS` times within a window. This counts all senders: the supervisor, the
  commands, and processes from before a restart. They share the times of the refusals on disk.
- A refused password is tried again, after growing pauses. Two tries in each window are kept for other passwords. A
  command with the same wrong password takes one, and the next is for the right one.
- A try counts as refused from before it is sent until its answer says otherwise. So a process that dies in between errs
  on the safe side.

Times are of the wall clock, in seconds, because processes share them. A clock that was set back never closes the gate
for longer than a window.
"""

from collections.abc import Iterable
from enum import Enum
from typing import Final

import msgspec

from peruserd.core.common.backoff import Backoff

MAX_REFUSALS: Final = 4
"""The limit of refusals within a window: one less than CouchDB allows. A lock costs no more than the wait here."""

_MAX_OF_SAME: Final = 2

# The time for which CouchDB counts refusals, and the longest time for the answer of one request.
WINDOW_SECONDS: Final = 300.0 + 40.0

# CouchDB 3.5 accepts no password at all while it derives the hash of a new one, for some 0.8 s (measured). So the first
# pause is short. A password that is refused again after this pause is wrong.
_AFTER_REFUSAL: Final = (5.0, 300.0)
# A lock ends 5 minutes after the first refusal, and further tries do not prolong it.
_AFTER_LOCK: Final = Backoff(initial_seconds=15.0, max_seconds=60.0)
_AFTER_FAILURE: Final = Backoff(initial_seconds=1.0, max_seconds=15.0)
# The server is away most likely. At its return all users wait for the login, and this request is cheap.
_WHILE_UNSENT: Final = Backoff(initial_seconds=1.0, max_seconds=2.0)


class Verdict(Enum):
    """The result of a try to send the password."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    LOCKED = "locked"  # the account is locked, so CouchDB did not check the password
    UNANSWERED = "unanswered"  # the password was sent, but no answer said whether it is right
    UNJUDGED = "unjudged"  # the password was sent, but not checked: the answer shows another problem
    UNSENT = "unsent"  # the password was not sent, because the server did not answer properly before


class Gate(msgspec.Struct, frozen=True):
    """The gate as one process knows it.

    - `refusals`: the shared times of all tries that count as refused, ascending.
    - `refused`: how often this process's current password was refused in a row.
    - `locked`, `failed`: how many tries in a row met a lock, or brought no answer about the password.
    - `unsent`: how many tries in a row ended before the password was sent.
    - `answered_at`: the time of the last result.
    """

    refusals: tuple[float, ...] = ()
    refused: int = 0
    locked: int = 0
    failed: int = 0
    unsent: int = 0
    answered_at: float = 0.0

    def recall(self, refusals: Iterable[float], now: float) -> "Gate":
        """Return the gate with the shared refusals: the newest ones within the window."""
        # A time in the future comes from a clock that was set back since. It may stand for any moment up to now.
        known = sorted(min(each, now) for each in refusals if now - each < WINDOW_SECONDS)
        return _replace(self, refusals=tuple(known[-MAX_REFUSALS:]), answered_at=min(self.answered_at, now))

    def pause(self, now: float) -> float:
        """Return how many seconds to wait before the password may be sent; 0 if it may be sent now."""
        most = _MAX_OF_SAME if self.refused else MAX_REFUSALS
        recent = [each for each in self.refusals if now - each < WINDOW_SECONDS]
        # The age is subtracted last, because a sum with a time of day is rounded and could be above the window.
        full_for = WINDOW_SECONDS - (now - recent[-most]) if len(recent) >= most else 0.0
        return max(0.0, full_for, self.answered_at + self._rest() - now)

    def ask(self, now: float) -> "Gate":
        """Return the gate while a try is under way. The try counts as refused until `answered`."""
        return _replace(self, refusals=(*self.refusals, now))

    def answered(self, verdict: Verdict, now: float) -> "Gate":
        """Return the gate after the result of the try that `ask` began."""
        before = self.refusals[:-1]
        answered = _replace(self, refusals=before, locked=0, failed=0, unsent=0, answered_at=now)
        match verdict:
            case Verdict.ACCEPTED:
                return _replace(answered, refused=0)
            case Verdict.REFUSED:
                return _replace(answered, refusals=(*before, now), refused=self.refused + 1)
            case Verdict.LOCKED:
                return _replace(answered, locked=self.locked + 1)
            case Verdict.UNANSWERED:
                return _replace(answered, refusals=(*before, now), failed=self.failed + 1)
            case Verdict.UNJUDGED:
                return _replace(answered, failed=self.failed + 1)
            case Verdict.UNSENT:
                return _replace(answered, unsent=self.unsent + 1)

    def renew(self) -> "Gate":
        """Return the gate for a new password, of which nothing is known yet."""
        return _replace(self, refused=0)

    def _rest(self) -> float:
        refused = _AFTER_REFUSAL[min(self.refused, len(_AFTER_REFUSAL)) - 1] if self.refused else 0.0
        others = ((self.locked, _AFTER_LOCK), (self.failed, _AFTER_FAILURE), (self.unsent, _WHILE_UNSENT))
        return max([refused, *(backoff.bound(count) for count, backoff in others if count)])


_replace = msgspec.structs.replace
