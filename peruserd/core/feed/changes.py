"""A reason to look at a document, and what two of them that contradict each other tell.

A row of a feed is a hint and never the truth: CouchDB takes ids whose bytes are no proper UTF-8 and shows them as
proper ones, so two documents can be shown under one id, each with rows of its own.
"""

from typing import Final

import msgspec

from peruserd.core.feed.lanes import Lane
from peruserd.core.feed.watermark import Watermark

# Which of two changes of one document tells more of it now: a live one always, and what a scan has just read more than
# what went to quarantine some time ago. A review says nothing: it asks the authentication database. So do looks.
_AUTHORITY: Final = {Lane.LIVE: 3, Lane.SCAN: 2, Lane.RETRY: 1} | dict.fromkeys(
    (Lane.REVIEW, Lane.OTHERS, Lane.OPERATOR, Lane.ROLLOUT, Lane.AUDIT), 0
)


class Change(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A document to be acted on. `read_at` is when it was read, by the monotonic clock, in seconds.

    `watermark` and `ticket` are what holds the checkpoint back; a retry has none, its quarantine is on disk.
    `in_place` says that the database is probably there, so looking at it is cheaper than trying to create it.
    `each_copy` says that all copies of its security object are to be compared. Of a review, `deleted` is what was last
    acted on.

    `deleted` is a hint. `contested` says that a live row and a tombstone were both seen under this id while it waited,
    was worked on or was in quarantine: CouchDB can show two documents under one id, so neither row is the truth.
    `sequence` is where the row stood that gave the reason to look; None where no row did. `also` is a look that was
    asked for while this waited: the same work does for both, and its end is the end of both.
    """

    document_id: str
    deleted: bool
    lane: Lane
    read_at: float
    watermark: Watermark | None = None
    ticket: int = -1
    in_place: bool = False
    each_copy: bool = False
    contested: bool = False
    sequence: int | str | None = None
    also: "Change | None" = None

    @property
    def is_of_operator(self) -> bool:
        """Say whether the operator has asked for this, or for a look that this does for as well."""
        return self.lane is Lane.OPERATOR or (self.also is not None and self.also.is_of_operator)

    @property
    def is_look(self) -> bool:
        """Say whether no row is behind this change: everything is asked, and nothing is believed."""
        return self.lane >= Lane.OTHERS

    def finish(self) -> None:
        """Let the checkpoint pass this change."""
        if self.watermark is not None:
            self.watermark.finish(self.ticket)
        if self.also is not None:
            self.also.finish()

    def outranks(self, other: "Change") -> bool:
        """Say whether this change tells more of the document now than another one of it."""
        return _AUTHORITY[self.lane] > _AUTHORITY[other.lane]


def make_review(document_id: str, *, deleted: bool, now: float, contested: bool = False) -> Change:
    """Return a review of a document on which `deleted` was last acted; a `contested` one says nothing of that."""
    return Change(document_id, deleted, Lane.REVIEW, now, contested=contested)


def make_look(document_id: str, lane: Lane, now: float, watermark: Watermark | None = None, ticket: int = -1) -> Change:
    """Return a look at a document, for one of the reasons behind which there is no row."""
    return Change(
        document_id, deleted=False, lane=lane, read_at=now, watermark=watermark, ticket=ticket, contested=True
    )


def contest(change: Change, other: Change) -> Change:
    """Return a change with what another one of its document tells against it."""
    if not (change.contested or other.contested or change.deleted != other.deleted):
        return change
    return msgspec.structs.replace(change, contested=True)


def instead_of(waiting: Change | None, change: Change) -> tuple[Change, tuple[Change, ...]]:
    """Return the change that takes the place of one that waits, and what ends with that.

    Looks that were asked for do not: the change does for them as well.
    """
    if waiting is None:
        return change, ()
    if waiting.is_look and (waiting.watermark is not None or waiting.is_of_operator):
        return msgspec.structs.replace(change, also=waiting), ()
    if waiting.also is not None:
        alone = msgspec.structs.replace(waiting, also=None)
        return msgspec.structs.replace(change, also=waiting.also), (alone,)
    return change, (waiting,)


def joined(known: Change | None, look: Change) -> tuple[Change, tuple[Change, ...]]:
    """Return one look for two, and what ends with that.

    The older ticket stays open, because the newer look is over when that one is.
    """
    if known is None:
        return look, ()
    ended = () if known.watermark is None else (look,)
    if known.watermark is None:
        known = msgspec.structs.replace(known, watermark=look.watermark, ticket=look.ticket)
    return msgspec.structs.replace(known, lane=Lane.OPERATOR) if look.is_of_operator else known, ended
