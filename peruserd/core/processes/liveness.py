"""Whether the long-lived threads of a process live, judged by their signs of life.

Each thread says by when its next sign is due: a pause, or one request, explains a silence of known length. A thread
that waits for others says so, and needs no other explanation. There are three reasons why a thread does not live:

- It was not heard of when it should have been.
- It has failed in every turn for a long time.
- It has ended, and nobody asked it to.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

# A thread that fails tries again, so a failure that passes costs no restart.
_FAILING_SECONDS: Final = 300.0
_FAILING_TURNS: Final = 5

# The main loop of each process asks every ten seconds. A much longer time between two questions shows that the whole
# process stood still, as in a container that was paused. It is less than the grace of a thread.
_STANDSTILL_SECONDS: Final = 25.0

# After a standstill all threads have this long for a sign of life.
_RECOVERY_SECONDS: Final = 60.0


class Life(msgspec.Struct, frozen=True):
    """The signs of life of one thread. Times are of one monotonic clock, in seconds.

    - `due`: by when the next sign must come; never while the thread waits for others.
    - `failures`: how many turns in a row have failed. `failing_since`: when the first of them did.
    - `error`: how the last one failed, or how the thread ended.
    - `ended`: whether it has ended unasked.
    """

    name: str
    due: float = float("inf")
    failures: int = 0
    failing_since: float = 0.0
    error: str = ""
    ended: bool = False


class Attention(msgspec.Struct, frozen=True):
    """When somebody last asked for the signs of life, and until when a silent thread is excused.

    Before the first question there was no standstill. A listener is forked from a process that is older than itself.
    """

    asked_at: float = float("inf")
    excused_until: float = 0.0

    def asked(self, now: float) -> "Attention":
        """Return the state after a question. After a standstill of the whole process silence is excused for a while."""
        if now - self.asked_at <= _STANDSTILL_SECONDS:
            return Attention(now, self.excused_until)
        return Attention(now, now + _RECOVERY_SECONDS)


def why_not_alive(lives: Iterable[Life], now: float, attention: Attention) -> str | None:
    """Return in words which thread does not live, and why; None while all do."""
    for each in lives:
        if each.ended:
            return f"the thread {each.name!r} has ended: {each.error}"
        if each.failures >= _FAILING_TURNS and now - each.failing_since >= _FAILING_SECONDS:
            return (
                f"the thread {each.name!r} has failed {each.failures} times in a row, for "
                f"{now - each.failing_since:.0f} s: {each.error}"
            )
        if now > max(each.due, attention.excused_until):
            return f"the thread {each.name!r} hangs: a sign of life is overdue by {now - each.due:.0f} s"
    return None
