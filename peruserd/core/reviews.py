"""What this instance did and may have to put right, although another one owns the document by now.

Two things leave a document open when its owner changes. A security object that was begun to be written and not seen to
be (a *doubt*): its copies can disagree, which no read shows, so whoever began writes on until it is whole. And an
action of the last moments, taken while the next owner may already have acted on something newer: it is compared with
the user document as it is, and done over where that differs. Each such look is a *review*.

Not thread-safe: its owner has a lock.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable

from peruserd.core.quarantine import Failure, Quarantine
from peruserd.core.workqueue import Change, Lane


class Reviews:
    """Doubts, actions of the last `recall_seconds`, and reviews that failed and are to be tried again."""

    def __init__(self, doubts: Iterable[str], recall_seconds: float) -> None:
        self._doubts = set(doubts)
        self._recall = recall_seconds
        # What was last acted on: whether the document was deleted, and when. The oldest is the first.
        self._acted: OrderedDict[str, tuple[bool, float]] = OrderedDict()
        self._failed = Quarantine((), 0.0)

    @property
    def doubts(self) -> frozenset[str]:
        """Return the documents whose security object was begun to be written and not seen to be."""
        return frozenset(self._doubts)

    def in_doubt(self, document_id: str) -> bool:
        """Say whether the document's security object was begun to be written and not seen to be."""
        return document_id in self._doubts

    def doubt(self, document_id: str) -> None:
        """Note that its security object is about to be written."""
        self._doubts.add(document_id)

    def settle(self, document_id: str) -> None:
        """Note that its security object is whole."""
        self._doubts.discard(document_id)

    def note(self, document_id: str, *, deleted: bool, now: float) -> None:
        """Note what was acted on."""
        self._acted[document_id] = (deleted, now)
        self._acted.move_to_end(document_id)
        while self._acted and now - next(iter(self._acted.values()))[1] > self._recall:
            self._acted.popitem(last=False)

    def of_lost(self, is_mine: Callable[[str], bool], now: float) -> list[Change]:
        """Return the reviews that are due because documents are not this instance's any more.

        One for what was acted on lately is due once; one for a doubt until the doubt is settled.
        """
        lost = {
            document_id: deleted
            for document_id, (deleted, at) in self._acted.items()
            if not is_mine(document_id) and now - at <= self._recall
        }
        for document_id in lost:
            del self._acted[document_id]
        lost |= {document_id: lost.get(document_id, False) for document_id in self._doubts if not is_mine(document_id)}
        return [make_review(document_id, deleted=deleted, now=now) for document_id, deleted in lost.items()]

    def fail(self, change: Change, failure: Failure, *, now: float, chance: float) -> None:
        """Keep a review that failed for another try."""
        self._failed.admit(change.document_id, failure, deleted=change.deleted, now=now, wall=0.0, chance=chance)

    def succeed(self, change: Change) -> None:
        """Forget the earlier failures of a review."""
        self._failed.release(change.document_id)

    def take_due(self, now: float) -> list[Change]:
        """Return the reviews that are to be tried again now."""
        return [make_review(each.document_id, deleted=each.deleted, now=now) for each in self._failed.take_due(now)]

    def next_due(self) -> float | None:
        """Return when `take_due` is worth asking next; None while nothing is to be tried again."""
        return self._failed.next_due()


def make_review(document_id: str, *, deleted: bool, now: float) -> Change:
    """Return a review of a document on which `deleted` was last acted."""
    return Change(document_id, deleted, Lane.REVIEW, now)
