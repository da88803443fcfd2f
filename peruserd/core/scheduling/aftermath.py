"""The consequences of finished work on a document: its quarantine, its next try, and whether it is in doubt.

Pure functions on `core.scheduling.records.Record`. They keep the invariants of that module.
"""

from typing import Final, Protocol

from peruserd.core.feed.changes import Change
from peruserd.core.feed.lanes import Lane
from peruserd.core.scheduling import arrivals, records
from peruserd.core.scheduling.records import (
    Act,
    Effect,
    Erasure,
    Keep,
    Parked,
    Queue,
    Record,
    Remind,
    Step,
    replace,
)
from peruserd.core.users.quarantine import Failure, Quarantined

# A failure quotes the server's words, and an entry is kept for each user. This many characters are enough for people.
_MAX_MESSAGE: Final = 500


class Outcome(Protocol):
    """The part of an outcome that decides the consequences."""

    @property
    def provisioned(self) -> bool:
        """Whether the user is live and was served."""

    @property
    def whole(self) -> bool:
        """Whether the security object is known to be complete in all copies that count."""

    @property
    def acted_on(self) -> bool | None:
        """True after an act on a deleted document, False after one on a live document, None without an act."""


class CountedOutcome(Outcome, Protocol):
    """The part of an outcome that is counted as well."""

    @property
    def created(self) -> bool:
        """Whether the database was created."""

    @property
    def revoked(self) -> bool:
        """Whether access was revoked."""

    @property
    def security_written(self) -> bool:
        """Whether the security object was written."""

    @property
    def action(self) -> str | None:
        """The change of access or existence that was made, in one word."""

    @property
    def failure(self) -> Failure | None:
        """The reason why the work failed; None after a success."""


def after_success(record: Record, outcome: Outcome, now: float, *, recall: bool) -> tuple[Record, Erasure | None]:
    """The work succeeded: return the record, and what to remove from the disk.

    `recall` says whether the act is remembered.
    """
    review = record.active is not None and record.active.lane is Lane.REVIEW
    # A review looks at an earlier act, and most reviews do nothing. Only a review that served the user replaces a
    # retry.
    released = record.kept is not None and (not review or outcome.provisioned)
    certain = record.in_doubt and outcome.whole
    removal = None
    if released or certain:
        removal = Erasure.BOTH if released and certain else Erasure.DOUBT if certain else Erasure.ENTRY
        record = replace(taken_out(record) if released else record, in_doubt=record.in_doubt and not certain)
    if review:
        return replace(record, failed_review=None, review_due=None), removal
    if recall and outcome.acted_on is not None:
        record = replace(record, acted=Act(outcome.acted_on, now))
    return record, removal


def after_failure(
    record: Record,
    failure: Failure,
    *,
    is_mine: bool,
    nodes: frozenset[str],
    now: float,
    wall: float,
    chance: float,
    awaited: int = 0,
) -> Step:
    """The work failed: keep the user in quarantine, unless a newer change waits or the document has another owner.

    `chance`, a random number of [0, 1), spreads the tries. `wall` is the wall clock, for people. `nodes` are the
    connected nodes. `awaited` is how many documents wait for copies on nodes.
    """
    change = record.active
    if change is None:
        return record, ()
    if change.lane is Lane.REVIEW:
        entry = _entry(record.failed_review, change, failure, wall)
        due = entry.next_try(now, chance, nodes)
        if due is None:
            return replace(record, failed_review=None, review_due=None), ()
        return replace(record, failed_review=entry, review_due=due), (Remind(due),)
    if not is_mine or record.waiting is not None:
        return record, ()
    if failure.follows_from_name:
        return (taken_out(record), (Erasure.ENTRY,)) if record.kept is not None else (record, ())
    entry = _entry(record.kept, change, failure, wall)
    due = entry.next_try(now, chance, nodes, awaited)
    record = replace(record, kept=entry, due=due)
    return record, (Keep(entry),) if due is None else (Keep(entry), Remind(due))


def set_aside(record: Record, *, parked: bool, unconfirmed: bool = False) -> Step:
    """The work failed, and the cause may be the cluster: the change waits again, unless a newer change waits.

    The change keeps its ticket, so the checkpoint does not pass it. With `parked` the change waits until it is freed.
    `unconfirmed` says that the copies could not confirm the user's document.
    """
    change = record.active
    if change is None or record.waiting is not None:
        return records.ended(record)
    why = Parked.CLUSTER if parked else None
    record = replace(record, active=None, changed_owner=False, waiting=change, parked=why, unconfirmed=unconfirmed)
    effects: tuple[Effect, ...] = () if parked else (Queue(change.lane),)
    return record, (*effects, Queue(Lane.REVIEW)) if record.review is not None else effects


def recovered(record: Record, document_id: str, now: float) -> Step:
    """The cluster works again: a failure that the cluster may have caused is due for a try now."""
    kept, failed = record.kept, record.failed_review
    due, review_due = record.due, record.review_due
    if due is not None and kept is not None and kept.failure.can_be_of_the_cluster:
        due = now
    if review_due is not None and failed is not None and failed.failure.can_be_of_the_cluster:
        review_due = now
    if due == record.due and review_due == record.review_due:
        return record, ()
    return arrivals.retried(replace(record, due=due, review_due=review_due), document_id, now)


def _entry(known: Quarantined | None, change: Change, failure: Failure, wall: float) -> Quarantined:
    again = known if known is not None and known.deleted == change.deleted else None
    return Quarantined(
        change.document_id,
        change.deleted,
        replace(failure, message=failure.message[:_MAX_MESSAGE]),
        failures=1 if again is None else again.failures + 1,
        since=wall if again is None else again.since,
        contested=change.contested,
    )


def taken_out(record: Record) -> Record:
    """Take a user out of quarantine, together with a waiting or parked retry.

    A retry has no ticket, so nothing is given back. A look that was joined to the retry keeps waiting. It is checked
    again for a passing reason to hold it.
    """
    waiting = record.waiting
    if waiting is not None and waiting.lane is Lane.RETRY:
        parked = None if waiting.also is None else record.lasting_reason
        record = replace(record, waiting=waiting.also, parked=parked)
    return replace(record, kept=None, due=None)


def released(record: Record) -> Step:
    """Take a user out of quarantine without having served the user, at the operator's word."""
    after = taken_out(record)
    waiting = after.waiting
    is_free = waiting is not None and after.active is None and after.parked is None
    if waiting is None or waiting is record.waiting or not is_free:
        return after, ()
    return after, (Queue(waiting.lane),)
