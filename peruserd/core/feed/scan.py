"""The scan of a range: the sweep under way, how far it is read and finished, and which rows it picks.

`core.feed.progress` decides why there is a scan. Picked rows become changes, as those of the live feed do.
"""

from collections.abc import Callable, Collection, Container
from typing import Final

import msgspec

from peruserd.core.common.names import USER_DOCUMENT_PREFIX
from peruserd.core.feed.changes import Change
from peruserd.core.feed.lanes import Lane
from peruserd.core.feed.progress import SavedProgress, Scan, Sweep, wanted_by_scan
from peruserd.core.feed.rows import PAGE_ROWS, Page, Row, Sequence, is_before, reached
from peruserd.core.feed.watermark import Watermark

# How many documents of a scan may wait before it pauses: enough for all workers, and little memory.
_WINDOW: Final = 2 * PAGE_ROWS

# How many users of the first sweep are remembered for the later sweeps, some megabytes. Later sweeps look at the others
# once more.
_MAX_SERVED: Final = 100_000


class ScanTask(msgspec.Struct, frozen=True):
    """The page of a scan to read next.

    - `wanted` says which documents the scan acts on.
    - `mark` tells this sweep from a sweep that has begun again meanwhile. `until` is the end of the sweep.
    - `served` are the users whom the first sweep has served. Later sweeps skip their live rows.
    - `careful`: the scan believes no row. `names`: it also picks users whose database was created again.
    """

    mark: Watermark
    since: Sequence
    sweep: Sweep
    wanted: Callable[[str], bool]
    served: Container[str]
    careful: bool = False
    names: bool = False
    until: Sequence | None = None

    def to_check(self, page: Page) -> list[str]:
        """Return the documents for which `picks` needs to know whether their database exists.

        Without a database a live row is picked by the first sweep, and a tombstone by none.
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
        """Say whether a row is to be acted on. `missing` are the documents of `to_check` without a database.

        A page can have rows behind the end of the scan. The live feed reads these rows, or has read them.
        """
        if self._is_behind_the_end(row):
            return False
        if self.sweep is Sweep.DATABASES:
            return not row.deleted and row.id in missing
        if not row.id.startswith(USER_DOCUMENT_PREFIX) or not self.wanted(row.id):
            return False
        # Two documents can be shown under one id, so a tombstone is not skipped because a live row was served. The act
        # for a tombstone compares the copies in any case.
        return self.sweep is Sweep.SECURITY and row.id not in missing if row.deleted else row.id not in self.served

    def _is_behind_the_end(self, row: Row) -> bool:
        return self.until is not None and is_before(self.until, row.seq)

    def contested(self, page: Page, missing: Collection[str]) -> set[str]:
        """Return the documents with both a live row and a tombstone in this scan, as far as this page shows."""
        if self.sweep is Sweep.DATABASES:
            return {row.id for row in page.results if row.deleted and row.id in missing}
        return {row.id for row in page.results if row.deleted and row.id in self.served}


class ScanState:
    """The sweep under way, if any. Not thread-safe, because the owner has a lock."""

    def __init__(self) -> None:
        self.task: ScanTask | None = None
        self._until: Sequence | None = None
        self._read_to_end = False
        # The users whom the first sweep of this scan has served.
        self._served: set[str] = set()

    def begin(self, saved: SavedProgress, me: str) -> None:
        """Begin the sweep of the saved progress, if it has one."""
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
        """Say whether a page is to be read now."""
        return self.task is not None and not self._read_to_end and self.task.mark.under_way < _WINDOW

    @property
    def is_finished(self) -> bool:
        """Say whether all of the sweep is read and done."""
        return self.task is not None and self._read_to_end and not self.task.mark.under_way

    def is_of(self, task: ScanTask) -> bool:
        """Say whether a task belongs to the sweep under way, and not to an earlier one."""
        return self.task is not None and self.task.mark is task.mark

    def entered(self, page: Page) -> None:
        """Note that a page was entered."""
        if self.task is not None and self._until is not None:
            mark = self.task.mark
            self.task = msgspec.structs.replace(self.task, since=mark.read)
            # An opaque sequence cannot be compared with the end of the scan. On a busy feed there is never a page
            # without a row. So the first page that is not full ends the sweep. Later rows are read live.
            is_end = page.is_last and isinstance(mark.read, str)
            self._read_to_end = not page.results or is_end or reached(mark.read, self._until)

    def served(self, change: Change) -> None:
        """Note that a user was served."""
        if change.lane is Lane.SCAN and not change.in_place and len(self._served) < _MAX_SERVED:
            self._served.add(change.document_id)

    def forget_served(self) -> None:
        """Let later sweeps also look at the users whom the first sweep has served so far."""
        self._served.clear()

    def progress(self, scan: Scan | None) -> Scan | None:
        """Return a scan with the position up to which its sweep is finished."""
        if scan is None or self.task is None:
            return scan
        return msgspec.structs.replace(scan, position=self.task.mark.finished)
