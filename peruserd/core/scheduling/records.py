"""The state of one document under way, and how it changes: pure functions, (record, event, …) → (record, effects).

A document at rest has no record. `core.scheduling.arrivals` combines a new change with it, and
`core.scheduling.aftermath` the result of finished work. The states, in their usual order:

    none ──arrived──▶ WAITING ──taken──▶ WORKING ──ended──▶ RECENT ──expired──▶ none
                      │     ▲            │     ▲            QUARANTINED ──retried──▶ WAITING
                   parked freed       arrived ended         IN_DOUBT
                      ▼     │            ▼     │
                      PARKED┘            WORKING_NEWER

Invariants, for every sequence of events:

- Only one worker at a time works on a document: only a record without `active` can be `taken`.
- Changes of one document are acted on in their order, and only the newest waiting change is kept.
- Each ticket is given back exactly once: after the work on its change, or when another change replaces it.
- A user leaves quarantine only in four cases: the user was served, newer work succeeded, no database can exist for the
  name, or the document has another owner. A review that served nobody changes nothing.
- A doubt ends only with a complete write, or with the end of the database.
"""

from enum import Enum, StrEnum
from typing import Final

import msgspec

from peruserd.core.feed.changes import Change, make_review
from peruserd.core.feed.lanes import Lane
from peruserd.core.users.quarantine import Quarantined

replace = msgspec.structs.replace


class State(StrEnum):
    """The state of a document."""

    WAITING = "waiting"  # for a worker
    PARKED = "parked"  # has a waiting change, which is left alone for now
    WORKING = "working"
    WORKING_NEWER = "working, and something newer waits"
    QUARANTINED = "quarantined"  # the last try failed
    IN_DOUBT = "in doubt"  # a write of the security object began, and its end was not seen
    RECENT = "recent"  # acted on so recently that a new owner may have known better


class Parked(Enum):
    """The reason why a waiting change is left alone."""

    OWNER = "owner"  # another instance will own the document
    RESTLESS = "restless"  # the document changed too often, and was looked at a moment ago
    LIMIT = "limit"  # the limit on new databases is reached
    CLUSTER = "cluster"  # the work failed, and it is not known yet whether the user or the cluster is the cause
    CHANGED_BY_OTHERS = "changed by others"  # somebody else created or deleted the database a moment ago
    TRIED = "tried"  # a trial on hold failed, and other users try first


# The reasons that do not apply to a new change of the document. The new change is checked anew.
_PASSING: Final = (Parked.LIMIT, Parked.CHANGED_BY_OTHERS, Parked.CLUSTER)


class Act(msgspec.Struct, frozen=True, gc=False):
    """The last act on a document: whether the document was deleted, and when, by the monotonic clock."""

    deleted: bool
    at: float


class Record(msgspec.Struct, frozen=True, gc=False):
    """The state of one document. Everything that a listener knows of a document is here, or on the disk.

    - `active`: the change that a worker acts on. `waiting` and `review`: the changes that are next.
    - `changed_owner`: the document had another owner at some time since the work began.
    - `kept`: the entry of the quarantine, tried again at `due`. `failed_review`, `review_due`: the same for a review.
    - `unconfirmed`: the copies could not confirm the waiting change at an earlier try, or it is a deletion that waited
      while the cluster served nobody.
    """

    active: Change | None = None
    waiting: Change | None = None
    review: Change | None = None
    parked: Parked | None = None
    changed_owner: bool = False
    kept: Quarantined | None = None
    due: float | None = None
    failed_review: Quarantined | None = None
    review_due: float | None = None
    in_doubt: bool = False
    unconfirmed: bool = False
    acted: Act | None = None

    @property
    def state(self) -> State:
        """Return the state of the document."""
        if self.active is not None:
            return State.WORKING if self.waiting is None and self.review is None else State.WORKING_NEWER
        if self.review is not None or (self.waiting is not None and self.parked is None):
            return State.WAITING
        if self.waiting is not None:
            return State.PARKED
        if self.kept is not None or self.failed_review is not None:
            return State.QUARANTINED
        return State.IN_DOUBT if self.in_doubt else State.RECENT

    @property
    def is_at_rest(self) -> bool:
        """Say whether there is nothing to remember of the document."""
        return (
            self.active is None
            and self.waiting is None
            and self.acted is None
            and self.review is None
            and self.kept is None
            and self.failed_review is None
            and not self.in_doubt
        )

    @property
    def lasting_reason(self) -> Parked | None:
        """Return why a new change of the document is left alone as well; None if it is not."""
        return None if self.parked in _PASSING else self.parked

    def next_of(self, lane: Lane) -> Change | None:
        """Return the change that a worker may take from a lane; None if there is none, or work is under way."""
        if self.active is not None:
            return None
        if lane is Lane.REVIEW:
            return self.review
        return self.waiting if self.parked is None and self.waiting is not None and self.waiting.lane is lane else None


EMPTY: Final = Record()
"""The record of a document at rest."""


class Finish(msgspec.Struct, frozen=True, gc=False):
    """Give the ticket of a change back."""

    change: Change


class Queue(msgspec.Struct, frozen=True, gc=False):
    """Let the document wait in a lane, `first` before all others."""

    lane: Lane
    first: bool = False


class Remind(msgspec.Struct, frozen=True, gc=False):
    """Look at the record again then."""

    at: float


class Keep(msgspec.Struct, frozen=True, gc=False):
    """Write an entry of the quarantine to disk before the work ends."""

    entry: Quarantined


class Erasure(Enum):
    """The part of a record to remove from the disk with the next save."""

    ENTRY = "entry"  # the entry of the quarantine
    DOUBT = "doubt"
    BOTH = "both"


Effect = Finish | Queue | Remind | Keep | Erasure
Step = tuple[Record, tuple[Effect, ...]]


def taken(record: Record, lane: Lane) -> Record:
    """A worker begins with the change that `next_of` returned for a lane."""
    if lane is Lane.REVIEW:
        return replace(record, active=record.review, review=None)
    return replace(record, active=record.waiting, waiting=None, unconfirmed=False)


def ended(record: Record) -> Step:
    """The work is over. A newer change of the document comes first in its lane."""
    effects: list[Effect] = [] if record.active is None else [Finish(record.active)]
    record = replace(record, active=None, changed_owner=False)
    if record.waiting is not None and record.parked is None:
        effects.append(Queue(record.waiting.lane, first=True))
    if record.review is not None:
        effects.append(Queue(Lane.REVIEW))
    return record, tuple(effects)


def parked(record: Record, why: Parked) -> Record:
    """The waiting change is left alone until it is `freed`. A review is never parked."""
    return replace(record, parked=why)


def freed(record: Record, *, first: bool = False) -> Step:
    """The parked change may be taken again; with `first` before all others in its lane."""
    record = replace(record, parked=None)
    if record.waiting is None or record.active is not None:
        return record, ()
    return record, (Queue(record.waiting.lane, first),)


def reviewed(record: Record, review: Change) -> Step:
    """A review is wanted. It waits beside another change, because it may concern an earlier ownership."""
    queue = record.review is None and record.active is None
    if record.review is not None and record.review.contested:
        # The waiting review asks for more than the new one.
        review = replace(review, contested=True)
    return replace(record, review=review), (Queue(Lane.REVIEW),) if queue else ()


def doubted(record: Record) -> Record:
    """A write of the security object is about to begin."""
    return replace(record, in_doubt=True)


def returned(record: Record, nodes: frozenset[str], now: float) -> Step:
    """Some nodes have returned. A user who waited for one is due now, and soon again if it is still too early."""
    due, review_due = record.due, record.review_due
    kept, failed = record.kept, record.failed_review
    if due is not None and kept is not None and not nodes.isdisjoint(kept.waits_for):
        kept, due = kept.with_first_pauses(), min(due, now)
    if review_due is not None and failed is not None and not nodes.isdisjoint(failed.waits_for):
        failed, review_due = failed.with_first_pauses(), min(review_due, now)
    if kept is record.kept and failed is record.failed_review:
        return record, ()
    return replace(record, kept=kept, failed_review=failed, due=due, review_due=review_due), (Remind(now),)


def lost(record: Record, document_id: str, now: float, *, on_hold: bool = False) -> Step:
    """The document has another owner. Nothing of it waits here any more, and work under way proves nothing later.

    This instance can miss changes while others own the document. After the return, each row counts as newer than any
    earlier act. Two kinds of changes are reviewed at the loss, because the next owner's copy may not show them yet:

    - changes that the copies could not confirm;
    - deletions that waited `on_hold`.
    """
    effects: tuple[Effect, ...] = () if record.waiting is None else (Finish(record.waiting),)
    kept = record.kept
    waiting = record.waiting
    is_seen = waiting is not None and (record.unconfirmed or (on_hold and waiting.deleted))
    unconfirmed: Change | Quarantined | None = waiting if is_seen else None
    if kept is not None:
        effects = (*effects, Erasure.ENTRY)
        unconfirmed = kept if kept.failure.is_unconfirmed else unconfirmed
    record = replace(
        record,
        waiting=None,
        parked=None,
        kept=None,
        due=None,
        unconfirmed=False,
        changed_owner=record.active is not None,
    )
    if unconfirmed is None:
        return record, effects
    record, queue = reviewed(record, make_review(document_id, deleted=not unconfirmed.deleted, now=now))
    return record, effects + queue


def left(record: Record, document_id: str, now: float, recall_seconds: float) -> Step:
    """Another instance may act on the document now. Review a recent act once, and a doubt until it ends.

    The next owner may have acted on a newer change before this instance's last act.
    """
    acted = record.acted
    is_recent = acted is not None and now - acted.at <= recall_seconds
    if not is_recent and not record.in_doubt:
        return record, ()
    deleted = acted is not None and is_recent and acted.deleted
    return reviewed(replace(record, acted=None), make_review(document_id, deleted=deleted, now=now))


def expired(record: Record, at: float) -> Record:
    """Forget the act of that moment."""
    return replace(record, acted=None) if record.acted is not None and record.acted.at == at else record
