"""The samples of the benchmark `crowd`: what became of the crowd, and of the single users by phase."""

from collections.abc import Sequence
from typing import Final

import msgspec

from bench.harness.open_loop import SignUp

BEFORE: Final = "before"
COMING: Final = "while it comes"
AMIDST: Final = "amidst"
AFTER: Final = "after"
PHASES: Final = (BEFORE, COMING, AMIDST, AFTER)


class Single(msgspec.Struct, frozen=True):
    """One single user: when the document was answered, in seconds since the crowd came, and how long it took."""

    at: float
    milliseconds: float


class Crowd(msgspec.Struct, frozen=True):
    """The times of a crowd, by a monotonic clock.

    - `came`: the crowd began to sign up.
    - `written`: the last of its sign-ups was answered.
    - `went`: the last of its users was served.
    """

    came: float
    written: float
    went: float

    def phase(self, at: float) -> str:
        """Return the name of the phase at a time."""
        if at < self.came:
            return BEFORE
        # The last of a small crowd can be served before the answer to the last sign-up is there.
        return COMING if at < min(self.written, self.went) else AMIDST if at < self.went else AFTER


class Sample(msgspec.Struct, frozen=True):
    """One contender's round.

    `course` is how many of the crowd had a database some seconds after it came, and `seconds` is when all had one.
    `memory_mib` is the largest memory that a listener had for itself. `unserved` single users waited in vain, and
    `refused` single users could not sign up.
    """

    contender: str
    round: int
    crowd: int
    seconds: float
    course: list[tuple[float, int]]
    memory_mib: float
    singles: dict[str, list[Single]]
    unserved: int
    refused: int

    @property
    def rate(self) -> float:
        """Return how many of the crowd were served a second."""
        return self.crowd / self.seconds

    def latencies(self, phase: str) -> list[float]:
        """Return the latencies of the single users of a phase, in milliseconds."""
        return [each.milliseconds for each in self.singles[phase]]


def by_phase(signed_up: Sequence[SignUp], served: dict[str, float], crowd: Crowd) -> dict[str, list[Single]]:
    """Return the single users who were served, by the phase in which they signed up."""
    found: dict[str, list[Single]] = {phase: [] for phase in PHASES}
    for each in signed_up:
        if each.answered is not None and each.name in served:
            milliseconds = 1000 * max(0.0, served[each.name] - each.answered)
            found[crowd.phase(each.answered)].append(Single(each.answered - crowd.came, milliseconds))
    return found


def pooled(samples: Sequence[Sample], contender: str, phase: str) -> list[float]:
    """Return the latencies of all rounds of a contender in a phase, in milliseconds."""
    return [ms for each in samples if each.contender == contender for ms in each.latencies(phase)]
