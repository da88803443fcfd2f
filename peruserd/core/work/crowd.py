"""A crowd: more users than can be worked on at once, and the order in which it is served.

In strict order somebody who signs up behind a crowd would wait for all of it. So users who have just come go in between
those who have waited longest. Such a user waits for what is in flight, and the crowd loses no more than the time that
these few take. Anybody can sign up without end, so the newest are bounded:

- Three that are taken from the front earn a turn for one from the end. Turns are kept while nobody new comes, so that
  a user need not wait for one. The users who wait go on, whoever comes behind them.
- A quarter of the places is kept for the newest, because those who are worked on often end all at once, a second
  later. A quarter is the most that the newest have, in case each of them takes long. No more turns are kept.
- Work out of turn holds the checkpoint back: it follows the oldest change, and after a crash everything behind it is
  looked at again. So the newest go first only while they are new, and a crowd that waits is worked off in its order.
  The end of the crowd would also take the turns of those who come behind it.
"""

from typing import Final

OLDEST_BETWEEN: Final = 3
"""So many are taken from the front for each that is taken from the end."""

NEWEST_FRACTION: Final = 4
"""One of so many places is for the newest, and one in any case is the most that they have."""

# A turn comes sooner than this to a few who are new, unless serving one user takes many seconds.
NEW_SECONDS: Final = 10.0


class Crowd:
    """The turns in one queue. `newest` are the documents in flight that were taken from the end."""

    def __init__(self) -> None:
        self._earned = 0
        self.newest: set[str] = set()

    def newest_may_begin(self, share: int) -> bool:
        """Say whether who came last may be worked on next, of so many who are worked on at once."""
        return self._earned >= OLDEST_BETWEEN and len(self.newest) < places(share)

    def oldest_may_begin(self, share: int, active: int) -> bool:
        """Say whether another one may be worked on who has not just come, while so many are worked on."""
        return active - len(self.newest) < share - share // NEWEST_FRACTION

    def oldest_begun(self, share: int) -> None:
        """Note that work on who has waited longest began, of so many who are worked on at once."""
        self._earned = min(self._earned + 1, OLDEST_BETWEEN * places(share))

    def newest_begun(self, document_id: str) -> None:
        """Note that work on who came last began."""
        self.newest.add(document_id)
        self._earned -= OLDEST_BETWEEN


def places(share: int) -> int:
    """Return how many of so many who are worked on at once the newest may be."""
    return max(1, share // NEWEST_FRACTION)
