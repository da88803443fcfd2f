"""The reason why a user was not served, and the time of the next try.

One user's failure never holds up another's: the checkpoint passes it once it is on disk. The entry is a part of its
document's record (`core.records`).
"""

from enum import StrEnum
from typing import Final

import msgspec

from peruserd.core.backoff import Backoff


class Advice(StrEnum):
    """The remedies against a failure."""

    RETRY = "retry"  # the same again, later
    ASK_OPERATOR = "ask_operator"  # the same again, once somebody changed something
    GIVE_UP = "give_up"  # nothing but another change of the document


UNSERVABLE_NAME: Final = "unservable_name"
"""The kind of failure of a user whose name can have no database."""

UNCONFIRMED: Final = "unconfirmed"
"""The kind of failure of a user whose document the copies could not confirm to be there or deleted."""

_BACKOFF: Final = {
    Advice.RETRY: Backoff(first_seconds=1.0, most_seconds=600.0),
    # Nobody mends a permission within seconds.
    Advice.ASK_OPERATOR: Backoff(first_seconds=60.0, most_seconds=3_600.0),
}


# While a node is away that is waited for, a try only finds out whether it is not needed any more.
_AWAY: Final = Backoff(first_seconds=60.0, most_seconds=3_600.0)


class Failure(msgspec.Struct, frozen=True):
    """The reason why a user was not served, and what can be done about it. `kind` is a metric's label.

    `waits_for` names nodes that were away: nothing else than their return helps.
    """

    kind: str
    message: str
    advice: Advice = Advice.RETRY
    waits_for: tuple[str, ...] = ()

    @property
    def follows_from_name(self) -> bool:
        """Say whether the user's name alone is to blame: then there is nothing to keep, and nothing to try again."""
        return self.kind == UNSERVABLE_NAME

    @property
    def is_unconfirmed(self) -> bool:
        """Say whether the copies could not confirm the user's document to be there or deleted."""
        return self.kind == UNCONFIRMED


class Quarantined(msgspec.Struct, frozen=True):
    """A user that could not be served. `since` is the wall clock at the first failure, in seconds, for people.

    `contested` is the failed change's own: rows of both kinds were seen of the document.
    """

    document_id: str
    deleted: bool
    failure: Failure
    failures: int
    since: float
    contested: bool = False

    def contradicts(self, *, deleted: bool) -> bool:
        """Say whether a row that is live, or `deleted`, makes the document contested."""
        return self.contested or self.deleted != deleted

    @property
    def waits_for(self) -> tuple[str, ...]:
        """Return the nodes whose return it waits for."""
        return self.failure.waits_for

    def next_try(self, now: float, chance: float, nodes: frozenset[str]) -> float | None:
        """Return when it is to be tried again, while `nodes` are connected; None where nothing but a change helps.

        `chance`, a random number of [0, 1), spreads those that failed together.
        """
        backoff = _BACKOFF.get(self.failure.advice)
        if backoff is None:
            return None
        if nodes.issuperset(self.waits_for):
            return now + backoff.delay(self.failures, chance)
        # Not before half of the pause: each try is long, and in vain.
        return now + (_AWAY.bound(self.failures) + _AWAY.delay(self.failures, chance)) / 2
