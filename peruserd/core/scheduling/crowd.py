"""The order of work in a crowd. There is a crowd while more users wait than can be worked on at once.

In strict order a new user behind a crowd would wait for the whole crowd. So the newest users are served between those
who have waited longest. A new user then waits only for the work in flight, and the crowd loses only the time for these
few users. Anybody can sign up without end, so there are limits for the newest:

- Three users from the front of the queue earn one turn for a user from the end. Turns are saved while nobody new comes,
  so that the next new user need not wait for a turn. Users at the front are always served, whoever comes behind them.
- A quarter of the places is reserved for the newest users. Work in flight often ends all at once, a second later, and
  without the reserve a new user would wait for that. The newest users never have more than a quarter of the places,
  in case each of them takes long. They never save more turns than that either.
- Work out of order holds the checkpoint back, because the checkpoint follows the oldest change. After a crash
  everything behind it is looked at again. So a user counts as new only for some seconds, and then waits in the order
  of the crowd. Otherwise users who have waited at the end for long would take the turns of users who have just come.
"""

from typing import Final

OLDEST_BETWEEN: Final = 3
"""How many users are taken from the front for each user from the end."""

NEWEST_FRACTION: Final = 4
"""The newest users have one place out of this many, and at least one place."""

# How long a user counts as new. A few new users get a turn sooner, unless serving one user takes many seconds.
NEW_SECONDS: Final = 10.0


class Crowd:
    """The turns in one queue. `newest` are the documents in flight that were taken from the end of the queue."""

    def __init__(self) -> None:
        self._earned = 0
        self.newest: set[str] = set()

    def newest_may_begin(self, share: int) -> bool:
        """Say whether the newest user may be served next. `share` is how many users may be in flight."""
        return self._earned >= OLDEST_BETWEEN and len(self.newest) < places(share)

    def oldest_may_begin(self, share: int, active: int) -> bool:
        """Say whether a user who is not new may be served next, while `active` users are in flight."""
        return active - len(self.newest) < share - share // NEWEST_FRACTION

    def oldest_begun(self, share: int) -> None:
        """Note that work on the user with the longest wait began. `share` is how many users may be in flight."""
        self._earned = min(self._earned + 1, OLDEST_BETWEEN * places(share))

    def newest_begun(self, document_id: str) -> None:
        """Note that work on the newest user began."""
        self.newest.add(document_id)
        self._earned -= OLDEST_BETWEEN


def places(share: int) -> int:
    """Return how many of `share` places the newest users may have."""
    return max(1, share // NEWEST_FRACTION)
