"""The reason why a user was not served, and the time of the next try.

One user's failure never delays another user, because the checkpoint passes a failure once its entry is on disk. The
entry is a part of the document's record (`core.scheduling.records`).
"""

from enum import StrEnum
from typing import Final

import msgspec

from peruserd.core.common.backoff import Backoff


class Advice(StrEnum):
    """The remedies against a failure."""

    RETRY = "retry"  # the same again, later
    ASK_OPERATOR = "ask_operator"  # the same again, once somebody changed something
    GIVE_UP = "give_up"  # nothing but another change of the document


UNSERVABLE_NAME: Final = "unservable_name"
"""The kind of failure if no database can be named after the user."""

UNCONFIRMED: Final = "unconfirmed"
"""The kind of failure if the copies cannot confirm whether the user's document exists or is deleted."""

RESTLESS_DATABASE: Final = "restless_database"
"""The kind of failure if somebody else deletes the database each time after it was created."""

OF_THE_CLUSTER: Final = {
    "accepted_only": "only a minority of the nodes has made the database",
    "copies_away": "copies of the database cannot be read or written",
    "journal_missing": "the journal of deletions cannot be written",
    "no_majority": "too few copies could be reached",
    "node_down": "the node that was to answer is not connected",
    "not_found": "something is missing that was there a moment ago",
    "refused": "the server did not let this instance in for too long",
    "rejected": "the server does not accept the request as it is configured",
    "server_error": "the server answered with an error of its own",
    "timeout": "no answer came in time",
    "too_large": "an answer is above its limit",
    "unauthorized": "a path is closed to the account",
    "unexpected_answer": "something else than CouchDB has answered",
    "unreachable": "the server could not be reached, or the connection broke",
    UNCONFIRMED: "too few copies say whether the user document is there",
}
"""The kinds of failure that the cluster may have caused. A probe finds out (`core.scheduling.circuit`)."""

KINDS: Final = {
    **OF_THE_CLUSTER,
    "conflict": "somebody else was faster",
    "copies_disagree": "the copies have different security objects, and nobody can say which is right",
    "database_deleted": "somebody deleted the database of a user who is there",
    "held": "the database was an earlier user's of this name; `peruserd deletions` decides",
    "malformed_security": "the security object is none that can be read",
    "restless": "the user document changes faster than it can be looked at",
    RESTLESS_DATABASE: "somebody deletes the database as often as it is made",
    "restless_documents": "somebody else writes the documents of templates as well",
    "restless_security": "somebody else writes the security object again and again",
    "template_refused": "the user's own database refuses a document of a template",
    "to_be_seen_again": "the copies were repaired, and the user leaves quarantine after one more look",
    "unforeseen": "a fault of peruserd; the log has its traceback",
}
"""Every kind of failure that puts a user into quarantine, with its meaning."""

_BACKOFF: Final = {
    Advice.RETRY: Backoff(initial_seconds=1.0, max_seconds=600.0),
    # Nobody mends a permission within seconds.
    Advice.ASK_OPERATOR: Backoff(initial_seconds=60.0, max_seconds=3_600.0),
}


# While the nodes are away, a try cannot succeed. It only finds out whether they are still needed.
_AWAY: Final = Backoff(initial_seconds=60.0, max_seconds=3_600.0)


class Failure(msgspec.Struct, frozen=True):
    """The reason why a user was not served, and what can be done about it. `kind` is a metric's label.

    `waits_for` names nodes that were away. Only their return helps.
    """

    kind: str
    message: str
    advice: Advice = Advice.RETRY
    waits_for: tuple[str, ...] = ()

    @property
    def follows_from_name(self) -> bool:
        """Say whether the user's name is the cause. Such a user is neither kept in quarantine nor tried again."""
        return self.kind == UNSERVABLE_NAME

    @property
    def can_be_of_the_cluster(self) -> bool:
        """Say whether the cause can be the cluster, and not the user."""
        return self.kind in OF_THE_CLUSTER

    @property
    def is_passing(self) -> bool:
        """Say whether the cause may pass by itself, without anybody's action."""
        return self.advice is Advice.RETRY

    @property
    def is_unconfirmed(self) -> bool:
        """Say whether the copies could not confirm that the user's document exists or is deleted."""
        return self.kind == UNCONFIRMED


# The limit of one listener for all users who wait for copies. Each try reads every copy of a user's database.
_TRIES_A_SECOND: Final = 5.0


def pause_between_tries(awaited: int, chance: float) -> float:
    """Return the minimum pause between two tries, in seconds, while `awaited` users wait for copies.

    All copies on a node can stay unreadable at the same time while the node is connected. So the pause grows with the
    number of waiting users. `chance`, a random number of [0, 1), spreads the tries.
    """
    return awaited / _TRIES_A_SECOND * (0.5 + chance)


class Quarantined(msgspec.Struct, frozen=True):
    """A user who could not be served. `since` is the wall clock at the first failure, in seconds, for people.

    `contested` is copied from the failed change: a live row and a tombstone were both seen of the document.
    """

    document_id: str
    deleted: bool
    failure: Failure
    failures: int
    since: float
    contested: bool = False

    def contradicts(self, *, deleted: bool) -> bool:
        """Say whether a new row, live or `deleted`, makes the document contested."""
        return self.contested or self.deleted != deleted

    @property
    def waits_for(self) -> tuple[str, ...]:
        """Return the nodes whose return the user waits for."""
        return self.failure.waits_for

    def with_first_pauses(self) -> "Quarantined":
        """Return the entry with the pauses of a first failure."""
        return msgspec.structs.replace(self, failures=min(self.failures, 1))

    def next_try(self, now: float, chance: float, nodes: frozenset[str], awaited: int = 0) -> float | None:
        """Return when the user is tried again; None if only a change of the document helps. `nodes` are connected.

        `chance`, a random number of [0, 1), spreads users who failed together. `awaited` is how many users wait for
        nodes.
        """
        backoff = _BACKOFF.get(self.failure.advice)
        if backoff is None:
            return None
        if self.failure.can_be_of_the_cluster:
            # The cluster may be the cause all the same, if it came back between the failure and the probe. So the next
            # try is soon, even if the failure asks for an operator.
            backoff = _BACKOFF[Advice.RETRY]
        if not self.waits_for or not nodes.isdisjoint(self.waits_for):
            # A node that the user waits for is connected, and CouchDB creates the copy there soon. Each try may still
            # be too early, so all users who wait for copies share one limit of tries.
            least = pause_between_tries(awaited, chance) if self.waits_for else 0.0
            return now + max(least, backoff.delay(self.failures, chance))
        # At least half of the pause, because each try takes long and fails.
        return now + (_AWAY.bound(self.failures) + _AWAY.delay(self.failures, chance)) / 2
