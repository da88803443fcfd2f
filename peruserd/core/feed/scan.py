"""The scan of a range: which sweep goes over it, how far it is read and finished, and which rows it picks.

The purpose of a scan is `core.feed.progress`'s matter; its rows become changes like those of the live feed.
"""

from collections.abc import Callable, Collection, Container
from typing import Final

import msgspec

from peruserd.core.common.names import USER_DOCUMENT_PREFIX
from peruserd.core.feed.changes import Change
from peruserd.core.feed.lanes import Lane
from peruserd.core.feed.progress import SavedProgress, Scan, Sweep, reached, wanted_by_scan
from peruserd.core.feed.rows import PAGE_ROWS, Page, Row, Sequence
from peruserd.core.feed.watermark import Watermark

# Documents of a scan that may wait before it pauses: so that workers never starve, and little memory.
_WINDOW: Final = 2 * PAGE_ROWS

# Users of the first sweep that are remembered for the others, which look at the rest once more: some megabytes.
_MAX_SERVED: Final = 100_000


class ScanTask(msgspec.Struct, frozen=True):
    """The page of a scan to read next, for documents that are `wanted`.

    `mark` tells this sweep from one that has begun again meanwhile, and `until` is its end. The users in `served` were
    served by the first sweep, so the others need not look at their live rows. A `careful` scan believes no row. One of
    `names` picks users whose database was made again, too.
    """

    mark: Watermark
    since: Sequence
    sweep: Sweep
    wanted: Callable[[str], bool]
    served: Container[str]
    careful: bool = False
    names: bool = False
    until: Sequence | None = None

    def candidates(self, page: Page) -> list[str]:
        """Return the documents for whose rows it matters whether their database is there.

        Without a database a live row is the first sweep's to act on, and a tombstone asks for nothing.
        """
        if self.sweep is Sweep.COPIES:
            return []
        deleted = self.sweep is Sweep.SECURITY
        return [
            row.id
            for row in page.results
            if row.deleted is deleted and row.id.startswith(USER_DOCUMENT_PREFIX) and self.wanted(row.id)
        ]

    def picks(self, row: Row, missing: Collection[str]) -> bool:
        """Say whether a row is to be acted on; `missing` are those of the candidates that have no database.

        A page can have rows behind the end of the scan. These are read live, or were.
        """
        if self._is_behind_the_end(row):
            return False
        if self.sweep is Sweep.DATABASES:
            return not row.deleted and row.id in missing
        if not row.id.startswith(USER_DOCUMENT_PREFIX) or not self.wanted(row.id):
            return False
        # One id can show two documents, so a tombstone is not skipped for a live row that was served. An act for one
        # compares the copies in any case.
        return self.sweep is Sweep.SECURITY and row.id not in missing if row.deleted else row.id not in self.served

    def _is_behind_the_end(self, row: Row) -> bool:
        return isinstance(row.seq, int) and isinstance(self.until, int) and row.seq > self.until

    def contested(self, page: Page, missing: Collection[str]) -> set[str]:
        """Return the documents of which this scan shows a live row and a tombstone, as far as this page tells."""
        if self.sweep is Sweep.DATABASES:
            return {row.id for row in page.results if row.deleted and row.id in missing}
        return {row.id for row in page.results if row.deleted and row.id in self.served}


class ScanBook:
    """The sweep under way, if any. Not thread-safe: its owner has a lock."""

    def __init__(self) -> None:
        self.task: ScanTask | None = None
        self._until: Sequence | None = None
        self._read_to_end = False
        # Served by the first sweep of this scan, so the others need not look at them.
        self._served: set[str] = set()

    def begin(self, saved: SavedProgress, me: str) -> None:
        """Begin with the sweep that is to be made by what is saved, if there is one."""
        scan = saved.scan
        self._read_to_end = False
        self._until = None if scan is None else scan.until
        if scan is None or scan.sweep is Sweep.DATABASES:
            self._served.clear()
        self.task = None
        if scan is not None:
            mark = Watermark(scan.position)
            wanted = wanted_by_scan(saved, me)
            self.task = ScanTask(
                mark, mark.read, scan.sweep, wanted, self._served, scan.careful, scan.names, self._until
            )

    @property
    def has_room(self) -> bool:
        """Say whether a page is to be read."""
        return self.task is not None and not self._read_to_end and self.task.mark.under_way < _WINDOW

    @property
    def is_finished(self) -> bool:
        """Say whether all of the sweep is read and done."""
        return self.task is not None and self._read_to_end and not self.task.mark.under_way

    def is_of(self, task: ScanTask) -> bool:
        """Say whether a task is of the sweep under way, not of one that has begun again meanwhile."""
        return self.task is not None and self.task.mark is task.mark

    def entered(self, page: Page) -> None:
        """Note that a page was entered."""
        if self.task is not None and self._until is not None:
            mark = self.task.mark
            self.task = msgspec.structs.replace(self.task, since=mark.read)
            self._read_to_end = not page.results or reached(mark.read, self._until)

    def served(self, change: Change) -> None:
        """Note that a user was served."""
        if change.lane is Lane.SCAN and not change.in_place and len(self._served) < _MAX_SERVED:
            self._served.add(change.document_id)

    def forget_served(self) -> None:
        """Let the other sweeps look at those as well whom the first one has served so far."""
        self._served.clear()

    def progress(self, scan: Scan | None) -> Scan | None:
        """Return a scan with the position up to which its sweep is finished."""
        if scan is None or self.task is None:
            return scan
        return msgspec.structs.replace(scan, position=self.task.mark.finished)
