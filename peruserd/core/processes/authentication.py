"""The gate before the password: when it may be sent to CouchDB, so that CouchDB never locks the account because of us.

CouchDB 3.4 and later lock an account for the whole address after 5 refused passwords within 5 minutes, and take the
right one for wrong then. Only what carries the password can count: a login, or a request with Basic. So all that send
it share one gate, one after the other:

- at most `MAX_REFUSALS` times within a window the password is refused, whoever sent it: listeners' supervisor, the
  commands, and those that ran before a restart. They share the times of the refusals, on disk;
- a password that was refused is asked again after pauses that grow, and leaves a try for the one that replaces it;
- a try counts as refused from the moment before it is sent until its answer says something else, so an end of the
  process in between is on the safe side.

Times are of the wall clock, in seconds, because processes share them; a clock that was set back never holds the gate
shut for longer than a window.
"""

from collections.abc import Iterable
from enum import Enum
from typing import Final

import msgspec

from peruserd.core.common.backoff import Backoff

MAX_REFUSALS: Final = 3
"""How many refusals there may be within a window."""

_MAX_OF_SAME: Final = 2

# As long as CouchDB counts, and as long as the answer of one request can take.
WINDOW_SECONDS: Final = 300.0 + 40.0

# CouchDB 3.5 takes no password at all for as long as it derives the hash of a new one, some 0.8 s (measured). So the
# first pause is short; what is refused then is wrong.
_AFTER_REFUSAL: Final = (5.0, 300.0)
# A lock ends 5 minutes after the first refusal, and asking does not prolong it.
_AFTER_LOCK: Final = Backoff(initial_seconds=15.0, max_seconds=60.0)
_AFTER_FAILURE: Final = Backoff(initial_seconds=1.0, max_seconds=15.0)


class Verdict(Enum):
    """The fate of a password that was to be sent."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    LOCKED = "locked"  # the account is locked; whether the password is right was not looked at
    UNANSWERED = "unanswered"  # it was sent, and no answer came that says anything
    UNJUDGED = "unjudged"  # nobody looked at it: it was not sent, or the answer is of another trouble


class Gate(msgspec.Struct, frozen=True):
    """The gate as one process knows it. `refusals` is what all share: the times of what counts as refused, ascending.

    `refused` counts the refusals in a row of the password that this process has now; `locked` and `failed` what came in
    a row instead of an answer to it; `heard_at` is the time of the last of them.
    """

    refusals: tuple[float, ...] = ()
    refused: int = 0
    locked: int = 0
    failed: int = 0
    heard_at: float = 0.0

    def recall(self, refusals: Iterable[float], now: float) -> "Gate":
        """Return the gate with the refusals that all share: those within the window, the newest that matter."""
        # A time to come is one of a clock that was set back since: it can be of any moment up to now.
        known = sorted(min(each, now) for each in refusals if now - each < WINDOW_SECONDS)
        return _replace(self, refusals=tuple(known[-MAX_REFUSALS:]), heard_at=min(self.heard_at, now))

    def pause(self, now: float) -> float:
        """Return how many seconds to wait before the password may be sent; 0 where it may be sent now."""
        most = _MAX_OF_SAME if self.refused else MAX_REFUSALS
        recent = [each for each in self.refusals if now - each < WINDOW_SECONDS]
        full_until = recent[-most] + WINDOW_SECONDS if len(recent) >= most else now
        return max(0.0, full_until - now, self.heard_at + self._rest() - now)

    def ask(self, now: float) -> "Gate":
        """Return the gate as it is while the password is on its way: as if it were refused."""
        return _replace(self, refusals=(*self.refusals, now))

    def hear(self, verdict: Verdict, now: float) -> "Gate":
        """Return the gate after what became of the password that was asked about."""
        before = self.refusals[:-1]
        heard = _replace(self, refusals=before, locked=0, failed=0, heard_at=now)
        match verdict:
            case Verdict.ACCEPTED:
                return _replace(heard, refused=0)
            case Verdict.REFUSED:
                return _replace(heard, refusals=(*before, now), refused=self.refused + 1)
            case Verdict.LOCKED:
                return _replace(heard, locked=self.locked + 1)
            case Verdict.UNANSWERED:
                return _replace(heard, refusals=(*before, now), failed=self.failed + 1)
            case Verdict.UNJUDGED:
                return _replace(heard, failed=self.failed + 1)

    def renew(self) -> "Gate":
        """Return the gate for another password than the one before: nothing is known of it yet."""
        return _replace(self, refused=0)

    def _rest(self) -> float:
        refused = _AFTER_REFUSAL[min(self.refused, len(_AFTER_REFUSAL)) - 1] if self.refused else 0.0
        others = ((self.locked, _AFTER_LOCK), (self.failed, _AFTER_FAILURE))
        return max([refused, *(backoff.bound(count) for count, backoff in others if count)])


_replace = msgspec.structs.replace
