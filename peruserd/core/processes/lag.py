"""How far a listener is behind, in seconds, as its users feel it. Pure: times are of one monotonic clock."""

from collections.abc import Iterable

import msgspec

from peruserd.core.common.escaping import span


class Standing(msgspec.Struct, frozen=True):
    """What one listener has left to do.

    - `waiting_since`: when the oldest live change was read that is not finished; None if all are. Changes of users who
      change too often do not count, because these users alone would decide.
    - `read_at`: when the live feed was last read; None before the first time.
    """

    name: str
    waiting_since: float | None
    read_at: float | None


def why_behind(standings: Iterable[Standing], now: float, *, ready_lag: float, poll_seconds: float) -> str | None:
    """Return which listeners are behind by more than `ready_lag`, and how; None if none is.

    A long poll without news ends after `poll_seconds`, so a feed that is read later than that is behind by the rest.
    """
    words = []
    for each in standings:
        waits = 0.0 if each.waiting_since is None else now - each.waiting_since
        unread = 0.0 if each.read_at is None else now - each.read_at
        if waits > ready_lag:
            words.append(f"{each.name} (a change has waited for {span(waits)})")
        elif unread > poll_seconds + ready_lag:
            words.append(f"{each.name} (its feed was last read {span(unread)} ago)")
    return f"behind by more than {span(ready_lag)}: {', '.join(words)}" if words else None
