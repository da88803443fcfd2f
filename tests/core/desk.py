"""Documents under way and their dispatch, for tests that put, take and finish changes."""

from peruserd.core.feed.changes import Change
from peruserd.core.feed.lanes import Lane
from peruserd.core.scheduling.dispatch import Dispatch
from peruserd.core.scheduling.documents import Documents
from tests.core.outcomes import RECALL
from tests.core.tickets import CountingWatermark


class Desk:
    """Documents and their dispatch. The `read_at` of a change is the version of the document."""

    def __init__(self, share: int = 100) -> None:
        self.documents = Documents((), (), recall_seconds=RECALL, now=0.0)
        self.dispatch = Dispatch(self.documents, share)
        self.mark = CountingWatermark()

    def put(self, document: str, lane: Lane = Lane.LIVE, version: int = 0, *, deleted: bool = False) -> Change:
        """Put a change with a ticket of its own."""
        change = Change(
            document,
            deleted=deleted,
            lane=lane,
            read_at=float(version),
            watermark=self.mark,
            ticket=self.mark.enter(0),
        )
        self.documents.put(change)
        return change

    def review(self, document: str, *, deleted: bool = False) -> Change:
        """Ask for a review, which has no ticket."""
        self.documents.review(document, deleted=deleted, now=0.0)
        review = self.documents.record(document).review
        assert review is not None
        return review

    def is_finished(self, change: Change) -> bool:
        """Say whether a change's ticket was given back."""
        return self.mark.finishes[change.ticket] == 1

    def take(self) -> Change | None:
        """Take the next change."""
        return self.dispatch.next(0.0)

    def finish(self, change: Change) -> None:
        """End the work on a change."""
        self.documents.end(change)
        self.dispatch.ended(change, 0.0)

    def drain(self) -> list[Change]:
        """Take and finish everything."""
        taken = []
        while (change := self.take()) is not None:
            taken.append(change)
            self.finish(change)
        return taken

    def has_waiting(self, document: str) -> bool:
        """Say whether a change of the document waits."""
        return self.documents.record(document).waiting is not None
