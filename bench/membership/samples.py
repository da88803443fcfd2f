"""The samples of the benchmark `membership`: the users of a round, by phase and by group."""

from collections.abc import Sequence
from typing import Final

import msgspec

BEFORE: Final = "before"
DURING: Final = "during"
AFTER: Final = "after"

KEPT: Final = "keep their owner"
LOST: Final = "lose their owner"


class User(msgspec.Struct, frozen=True):
    """One user, in seconds since the instance was killed. `lost` says that this instance owned the user's document."""

    name: str
    lost: bool
    due: float
    begun: float
    answered: float
    served: float

    @property
    def milliseconds(self) -> float:
        """Return the latency."""
        return (self.served - self.answered) * 1e3


class Run(msgspec.Struct, frozen=True):
    """The events of a round; times are seconds since the instance was killed.

    The round began at `begun`, and the instance was started again at `restarted`.
    """

    users: list[User]
    begun: float
    restarted: float

    def latencies(self, phases: Sequence[str], group: str) -> list[float]:
        """Return the latencies of a group in these phases, in milliseconds, in the order of the sign-ups."""
        return [
            user.milliseconds
            for user in self.users
            if self.phase(user) in phases and group == (LOST if user.lost else KEPT)
        ]

    def phase(self, user: User) -> str | None:
        """Return the phase in which a user counts, None in the warm-up.

        A user who was still waiting when the instance was killed counts as "during".
        """
        if user.due < self.begun:
            return None
        if user.due >= self.restarted:
            return AFTER
        return BEFORE if user.served < 0 else DURING


def latencies(rounds: Sequence[Run], phases: Sequence[str], group: str) -> list[float]:
    """Return the latencies of a group in these phases of all rounds, in milliseconds."""
    return [milliseconds for each in rounds for milliseconds in each.latencies(phases, group)]
