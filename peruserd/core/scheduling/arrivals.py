"""A new change of a document arrives: how it and the changes that are known already are combined.

Pure functions on `core.scheduling.records.Record`. They keep the invariants of that module.
"""

from collections.abc import Set as AbstractSet
from typing import Final

from peruserd.core.feed.changes import Change, contest, instead_of, joined, make_review
from peruserd.core.feed.lanes import Lane
from peruserd.core.scheduling.records import Effect, Finish, Queue, Record, Step, replace, reviewed

NOTHING: Final[AbstractSet[bool]] = frozenset()


def arrived(record: Record, change: Change, fresh: AbstractSet[bool] = NOTHING) -> Step:
    """A row was read, or a retry is due: let the change wait, or drop it if another change has more authority.

    If a dropped row and the remaining change contradict each other (live and deleted), the remaining change becomes
    contested. `fresh` are the kinds of rows that were read live since the scan's page was requested. A row of that page
    can be older than they are.
    """
    waiting, active = record.waiting, record.active
    if change.is_look:
        return _asked_for(record, change)
    if waiting is None and active is None and record.kept is None and not fresh:
        # The usual case, thousands of times a second.
        return replace(record, waiting=change), (Queue(change.lane),)
    change = _with_hints(record, change, fresh)
    if change.lane is not Lane.LIVE and _tells_less(record, change, fresh):
        if waiting is not None:
            record = replace(record, waiting=contest(waiting, change))
        return record, (Finish(change),)
    change, finished = instead_of(waiting, change)
    effects: tuple[Effect, ...] = tuple(map(Finish, finished))
    # A document that waited for a new database to be allowed may not need one any more.
    parked = record.lasting_reason
    queued = waiting is not None and waiting.lane is change.lane and parked is record.parked
    record = replace(record, waiting=change, parked=parked)
    return record, effects if queued or active is not None or record.parked is not None else (
        *effects,
        Queue(change.lane),
    )


def _asked_for(record: Record, look: Change) -> Step:
    """A look is asked for. If a more urgent change waits already, it does the work of the look as well.

    The look then ends together with that change. Work under way does not count as the look, because it may have read
    the facts too early.
    """
    waiting = record.waiting
    if waiting is not None and waiting.lane <= look.lane:
        also, finished = joined(waiting.also, look)
        return replace(record, waiting=replace(waiting, contested=True, also=also)), tuple(map(Finish, finished))
    look, finished = instead_of(waiting, look)
    effects: tuple[Effect, ...] = tuple(map(Finish, finished))
    parked = record.lasting_reason
    record = replace(record, waiting=look, parked=parked)
    return record, effects if record.active is not None or parked is not None else (*effects, Queue(look.lane))


def _with_hints(record: Record, change: Change, fresh: AbstractSet[bool]) -> Change:
    """Return the change, contested if anything else that is known of the document contradicts it."""
    if record.waiting is not None:
        change = contest(change, record.waiting)
    active, kept = record.active, record.kept
    contested = change.contested or (bool(fresh) and fresh != {change.deleted})
    if active is not None and active.lane is not Lane.REVIEW:
        contested |= active.contested or active.deleted != change.deleted
    if kept is not None:
        contested |= kept.contradicts(deleted=change.deleted)
    return replace(change, contested=True) if contested and not change.contested else change


def _tells_less(record: Record, change: Change, fresh: AbstractSet[bool]) -> bool:
    if record.waiting is not None and record.waiting.outranks(change):
        return True
    if fresh:
        return not change.contested
    active = record.active
    if active is None or record.changed_owner or not active.outranks(change):
        return False
    return active.contested or not change.contested


def retried(record: Record, document_id: str, now: float) -> Step:
    """The time of a reminder has come. A retry or a review may be due, or neither if the record has changed."""
    effects: tuple[Effect, ...] = ()
    kept, failed = record.kept, record.failed_review
    if kept is not None and record.due is not None and record.due <= now:
        change = Change(document_id, kept.deleted, Lane.RETRY, now, contested=kept.contested)
        record, effects = arrived(replace(record, due=None), change)
    if failed is not None and record.review_due is not None and record.review_due <= now:
        review = make_review(document_id, deleted=failed.deleted, now=now, contested=failed.contested)
        record, more = reviewed(replace(record, review_due=None), review)
        effects += more
    return record, effects
