"""A change, which is a reason to look at a document, and how two changes of one document are combined.

A row of a feed is a hint and never the truth. CouchDB accepts ids that are not valid UTF-8, and shows them as valid
ones. So two documents can be shown under one id, each with its own rows.
"""

from typing import Final

import msgspec

from peruserd.core.feed.lanes import Lane
from peruserd.core.feed.watermark import Watermark

# The authority of a change over another change of its document. A live row is the newest. A row that a scan has just
# read is newer than an entry of the quarantine. Reviews and looks have no authority, because no row is behind them.
_AUTHORITY: Final = {Lane.LIVE: 3, Lane.SCAN: 2, Lane.RETRY: 1} | dict.fromkeys(
    (Lane.REVIEW, Lane.OTHERS, Lane.OPERATOR, Lane.ROLLOUT, Lane.AUDIT), 0
)


class Change(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A document to be acted on. `read_at` is when it was read, by the monotonic clock, in seconds.

    - `deleted`: a hint whether the document is deleted. In a review: the state that was last acted on.
    - `watermark`, `ticket`: they hold the checkpoint back. A retry has none, because its entry is on disk.
    - `in_place`: the database probably exists, so looking at it is cheaper than trying to create it.
    - `each_copy`: all copies of the security object are to be compared.
    - `contested`: a live row and a tombstone were both seen under this id, while the change waited, was worked on or
      was in quarantine. CouchDB can show two documents under one id, so neither row is believed.
    - `sequence`: the sequence of the row behind this change; None if there is no row.
    - `also`: a look that was asked for while this change waited. The same work serves both, and both end together.
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
        """Say whether the operator has asked for this change, or for the look joined to it."""
        return self.lane is Lane.OPERATOR or (self.also is not None and self.also.is_of_operator)

    @property
    def is_look(self) -> bool:
        """Say whether no row is behind this change. Then every fact is asked for, and nothing is believed."""
        return self.lane >= Lane.OTHERS

    def finish(self) -> None:
        """Let the checkpoint pass this change."""
        if self.watermark is not None:
            self.watermark.finish(self.ticket)
        if self.also is not None:
            self.also.finish()

    def excuse(self) -> None:
        """Let nobody take the wait of this change for a lag of the listener."""
        if self.watermark is not None:
            self.watermark.excuse(self.ticket)

    def outranks(self, other: "Change") -> bool:
        """Say whether this change has more authority than another change of the document."""
        return _AUTHORITY[self.lane] > _AUTHORITY[other.lane]


def make_review(document_id: str, *, deleted: bool, now: float, contested: bool = False) -> Change:
    """Return a review of a document. `deleted` is the state last acted on; a `contested` review ignores it."""
    return Change(document_id, deleted, Lane.REVIEW, now, contested=contested)


def make_look(document_id: str, lane: Lane, now: float, watermark: Watermark | None = None, ticket: int = -1) -> Change:
    """Return a look at a document, for a reason without a row."""
    return Change(
        document_id, deleted=False, lane=lane, read_at=now, watermark=watermark, ticket=ticket, contested=True
    )


def contest(change: Change, other: Change) -> Change:
    """Return a change, contested if another change of its document contradicts it."""
    if not (change.contested or other.contested or change.deleted != other.deleted):
        return change
    return msgspec.structs.replace(change, contested=True)


def instead_of(waiting: Change | None, change: Change) -> tuple[Change, tuple[Change, ...]]:
    """Return the change that replaces a waiting one, and the changes that end with that.

    A look that was asked for does not end. It is joined to the new change.
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
    """Join two looks; return the joined look, and the look whose ticket can be given back now, if any.

    The joined look keeps the older ticket, or takes over the only one.
    """
    if known is None:
        return look, ()
    ended = () if known.watermark is None else (look,)
    if known.watermark is None:
        known = msgspec.structs.replace(known, watermark=look.watermark, ticket=look.ticket)
    return msgspec.structs.replace(known, lane=Lane.OPERATOR) if look.is_of_operator else known, ended
