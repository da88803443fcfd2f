"""Waiting for other threads and processes: tests check again and again, and never wait for a fixed time."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, TypeVar

S = TypeVar("S")
T = TypeVar("T")

# No test needs nearly as long. The limit is generous, because a busy machine is slow.
PATIENCE_SECONDS: Final = 60.0

_POLL_SECONDS: Final = 0.01
# A check that takes time itself, such as a scrape, takes it from what it waits for. With pauses of four times its own
# time, checks were a quarter of the processor time of tests with several instances.
_REST: Final = 16.0
_MAX_PAUSE_SECONDS: Final = 0.5
# Most waits are short, and would be over long before the end of a long pause. So pauses are short at first.
_FIRST_PAUSES_SECONDS: Final = 0.1
_SHARE_OF_WAIT: Final = 0.2


def eventually(
    check: Callable[[], T | None], what: str = "what was waited for", *, within_seconds: float = PATIENCE_SECONDS
) -> T:
    """Return the first true value of `check`, called again and again; fail with `what` after the limit."""
    begin = time.monotonic()
    while True:
        asked = time.monotonic()
        if value := check():
            return value
        now = time.monotonic()
        assert now < begin + within_seconds, f"not within {within_seconds:g} s: {what} (last seen: {value!r})"
        most = min(_FIRST_PAUSES_SECONDS + _SHARE_OF_WAIT * (now - begin), _MAX_PAUSE_SECONDS)
        time.sleep(min(max(_POLL_SECONDS, _REST * (now - asked)), most))


def eventually_each(subjects: Iterable[S], check: Callable[[S], object], what: str) -> None:
    """Wait until `check` is true of one subject after the other."""
    for subject in subjects:
        eventually(partial(check, subject), f"{what}: {subject!r}")


def eventually_at_least(number: int, count: Callable[[], int], what: str = "as many as were waited for") -> None:
    """Wait until `count` gives that number or more."""

    def reached() -> bool:
        return count() >= number

    eventually(reached, what)
