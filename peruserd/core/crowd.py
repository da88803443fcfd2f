"""A crowd: more users than can be worked on at once, and the order in which it is served.

In strict order somebody who signs up behind a crowd would wait for all of it. So in between who has waited longest
goes who has just come. Such a user waits for what is in flight, and the crowd loses no more than the time that these
few take. Anybody can sign up without end, so the newest are bounded:

- Between two of the newest go at least three of the oldest. Those who wait go on, whoever comes behind them.
- A quarter of the places at most is taken by the newest, in case each of them takes long.
- Work out of turn holds the checkpoint back: it follows the oldest change, and after a crash everything behind it is
  looked at again. So the newest go first only while they are new, and a crowd that waits is worked off in its order.
"""

from typing import Final

OLDEST_BETWEEN: Final = 3
"""At least so many are taken from the front between two that are taken from the end."""

LEAST_PART: Final = 4
"""One of so many places is the most that the newest have; one in any case."""

# As long as serving somebody may take at most, by the promise of the README.
NEW_SECONDS: Final = 30.0


class Crowd:
    """Whose turn it is in one queue: `oldest` were taken from the front since one was taken from the end.

    `newest` are those in flight who were taken from the end.
    """

    def __init__(self) -> None:
        self.oldest = 0
        self.newest: set[str] = set()

    def newest_may_begin(self, share: int) -> bool:
        """Say whether who came last may be worked on next, of so many who are worked on at once."""
        return self.oldest >= OLDEST_BETWEEN and len(self.newest) < max(1, share // LEAST_PART)

    def newest_begun(self, document_id: str) -> None:
        """Note that work on who came last began."""
        self.newest.add(document_id)
        self.oldest = 0
