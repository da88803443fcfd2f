"""The rows read from one copy, and how far they are finished: the live feed, and the scan beside it.

This module combines everything about sequences and about owners. The rules are those of `core.feed.progress`. Only rows
of documents that this instance owns become changes.
"""

import sys
from collections.abc import Collection
from typing import Final

import msgspec

from peruserd.core.common.names import USER_DOCUMENT_PREFIX
from peruserd.core.feed import history
from peruserd.core.feed.changes import Change
from peruserd.core.feed.lanes import Lane
from peruserd.core.feed.progress import (
    Identity,
    SavedProgress,
    Sweep,
    change_owner,
    compare_names,
    owe_names,
    resume,
    scan_everything,
    sweep_finished,
)
from peruserd.core.feed.rows import PAGE_ROWS, Page, Row, Sequence, is_first, is_short, proof_size_of, reached
from peruserd.core.feed.scan import ScanState, ScanTask
from peruserd.core.feed.watermark import Watermark
from peruserd.core.ownership.ownership import Ownership

# How many documents may wait before reading pauses. The limit is high, because a user behind a crowd is only seen after
# the crowd was read. Each document takes some 600 bytes (measured) and its text, which an enemy can make long.
_LIVE_WINDOW: Final = 50 * PAGE_ROWS
_PARKED_WINDOW: Final = 100 * PAGE_ROWS
_TEXT_WINDOW: Final = 32 << 20

# The time until a scan looks for failed users without room in quarantine. Their common cause takes its time.
_OWED_SECONDS: Final = 3_600.0


class Intake:
    """The reading of one copy by the instance `me`, from its `saved` progress on. Not thread-safe."""

    def __init__(
        self, me: str, ownership: Ownership, saved: SavedProgress | None, resume_near: Sequence | None, digest: str
    ) -> None:
        self._me = me
        self._saved = saved
        self._resume_near = resume_near
        self._digest = digest
        # The live feed; None before `open`.
        self.live: Watermark | None = None
        # Rows that were read. The rows up to the checkpoint prove it.
        self._history: tuple[Row, ...] = ()
        self._scan = ScanState()
        self._catch_up_ticket: int | None = None
        self.shard_sequence: Sequence | None = None
        # How many live rows were skipped because no database can have the user's name.
        self.unservable = 0
        # When to scan everything, because some users who need another look are remembered nowhere.
        self.owed_at: float | None = None
        self._cut_off = False
        # The requests to look at everybody: the numbers that the scan under way answers, and the newest request for the
        # scan after it.
        self._answering: list[int] = []
        self._next: tuple[str, int] | None = None
        self.looked_at_all = 0
        self.ownership = ownership
        self.is_mine = ownership.belongs_to(me)

    def open(self, identity: Identity) -> str:
        """Begin, or continue at the checkpoint, once and before the first page; return the reason in words."""
        self._saved, why = resume(
            self._saved, identity, self.ownership, self._me, self._resume_near, digest=self._digest
        )
        if self._saved.owed:
            self._saved = scan_everything(self._saved, read=self._saved.checkpoint)
        self.live = Watermark(self._saved.checkpoint, self._saved.last_row)
        self._history = self._saved.proof
        self._note_a_cut()
        self.shard_sequence = identity.update_seq
        self._scan.begin(self._saved, self._me)
        self._look_at_all_next()
        self._compare_names()
        return why

    def change_owner(self, ownership: Ownership) -> None:
        """Put another ownership in force."""
        self.ownership = ownership
        self.is_mine = ownership.belongs_to(self._me)
        saved = self.progress
        if saved is not None and self.live is not None:
            self._saved = change_owner(saved, ownership, self._me, read=self.live.read)
            self._scan.begin(self._saved, self._me)
            # A comparison of names that was under way, or waited for the end of a scan, may be all that is left to do.
            self._compare_names()

    # Reading

    @property
    def is_open(self) -> bool:
        """Say whether the copy is known and reading has begun."""
        return self.live is not None

    @property
    def read(self) -> Sequence | None:
        """Return the sequence to read live from; None before `open`."""
        return None if self.live is None else self.live.read

    def live_has_room(self, parked: int) -> bool:
        """Say whether a page may be read live, while `parked` documents are left alone.

        - Retries do not count. The live feed goes first, however many users are in quarantine.
        - Changes that are held back do not count up to a limit of their own, so the other documents go on.
        """
        if self.live is None:
            return True
        under_way = self.live.under_way
        return under_way - parked < _LIVE_WINDOW and under_way < _PARKED_WINDOW and self.live.size < _TEXT_WINDOW

    def enter_live_page(self, page: Page, now: float) -> list[Change]:
        """Enter a page of the live feed; return the changes to act on."""
        mark = self.live
        if mark is None:
            raise RuntimeError("a page was entered before the copy was known")
        changes = []
        is_mine, is_inside = self.is_mine, self.ownership.is_inside
        # A document that changes moves behind the end of a scan. Then the scan does not look at it any more.
        careful = self._scan.task is not None and self._scan.task.careful
        before, row_before = mark.read, mark.read_row
        proof, proof_size = row_before, 0 if row_before is None else proof_size_of(row_before)
        for row in page.results:
            if row.id.startswith(USER_DOCUMENT_PREFIX) and is_mine(row.id) and is_inside(row.id):
                if not is_short(row):
                    # Such a row never waits, because thousands of ids of megabytes could fill the memory.
                    self.unservable += not row.deleted
                else:
                    if row_before is not proof and row_before is not None and (size := proof_size_of(row_before)):
                        proof, proof_size = row_before, size
                    ticket = mark.enter(before, proof, sys.getsizeof(row.id) + proof_size, now)
                    care = careful and not (row.deleted or is_first(row))
                    changes.append(
                        Change(row.id, row.deleted, Lane.LIVE, now, mark, ticket, contested=care, sequence=row.seq)
                    )
            before = row.seq
            row_before = row
        last = next((row for row in reversed(page.results) if proof_size_of(row)), proof)
        mark.advance(page.last_seq, last)
        mark.read_at = now
        self._history = history.noted(self._history, page.results) if page.results else self._history
        if self.shard_sequence is None or not reached(self.shard_sequence, mark.read):
            self.shard_sequence = mark.read
        if page.is_last and self._catch_up_ticket is None:
            self._catch_up_ticket = mark.next_ticket
        return changes

    @property
    def is_scanning(self) -> bool:
        """Say whether a sweep is under way."""
        return self._scan.task is not None

    @property
    def is_awaited(self) -> bool:
        """Say whether users who were never served may wait for the scan under way."""
        return self._saved is not None and self._saved.scan is not None and self._saved.scan.is_awaited

    @property
    def scan_has_room(self) -> bool:
        """Say whether a page of a scan is to be read."""
        return self._scan.has_room

    @property
    def scan_task(self) -> ScanTask | None:
        """Return the page of a scan to read next."""
        return self._scan.task

    def enter_scan_page(self, task: ScanTask, page: Page, missing: Collection[str], now: float) -> list[Change] | None:
        """Enter a page of a scan; return the changes to act on. None if the scan has begun again meanwhile.

        `missing` are the documents of `ScanTask.to_check` without a database.
        """
        if not self._scan.is_of(task):
            return None
        changes = []
        mark = task.mark
        contested = task.contested(page, missing)
        before = mark.read
        for row in page.results:
            if is_short(row) and task.picks(row, missing):
                change = Change(
                    row.id,
                    row.deleted,
                    Lane.SCAN,
                    now,
                    mark,
                    mark.enter(before),
                    in_place=task.sweep is not Sweep.DATABASES,
                    each_copy=task.sweep is Sweep.COPIES,
                    contested=task.careful or row.id in contested,
                    sequence=row.seq,
                )
                changes.append(change)
            before = row.seq
        mark.advance(page.last_seq)
        self._scan.entered(page)
        return changes

    # Finished work

    def _note_a_cut(self) -> None:
        if self._cut_off and self.is_open:
            self.owed_at = None
            self._owe()

    def _owe(self) -> None:
        if self._saved is not None and not self._saved.owed:
            self._saved = msgspec.structs.replace(self._saved, owed=True)

    def owe_scan(self, now: float) -> None:
        """Note that a failed user is remembered nowhere, so everything is to be scanned in a while."""
        self._owe()
        if self.owed_at is None and not self._cut_off:
            self.owed_at = now + _OWED_SECONDS

    def connect(self, *, cut_off: bool, now: float) -> None:
        """Note whether a majority of the cluster's nodes is connected; scan everything once it is connected again.

        Without a majority, CouchDB's own repair can undo a write when the other nodes return, because the majority of
        the copies wins (`mem3_sync_security`). The instance that made the write may be gone by then.
        """
        if self._cut_off and not cut_off and self.is_open:
            self.owed_at = now
        self._cut_off = cut_off
        self._note_a_cut()

    def begin_owed_scan(self, now: float) -> None:
        """Begin the owed scan, if its time has come."""
        if self.owed_at is None or self.owed_at > now:
            return
        saved = self.progress
        if saved is None or self.live is None:
            return
        self.owed_at = None
        self._saved = scan_everything(saved, read=self.live.read)
        self._scan.begin(self._saved, self._me)

    def look_at_all(self, request: str, number: int) -> None:
        """Scan everything, for the request with this number; `looked_at_all` is the number once that is done.

        A scan under way for another request ends first. So a scan always reaches its end, however often somebody asks,
        and the new scan looks again at the part that was read already.
        """
        saved = self._saved
        if saved is not None and request == saved.request:
            # An earlier process has begun the scan for this request, or has ended it.
            if saved.scans_everything:
                self._answering.append(number)
            else:
                self.looked_at_all = number
            return
        self._next = request, number
        # The debt is saved to disk, because a scan under way does not answer the request.
        self._owe()
        if not self._answering:
            self._look_at_all_next()

    def _look_at_all_next(self) -> None:
        saved = self.progress
        if self._next is None or saved is None or self.live is None:
            return
        (request, number), self._next = self._next, None
        self._answering = [number]
        self._saved = msgspec.structs.replace(scan_everything(saved, read=self.live.read), request=request)
        if self._cut_off or self.owed_at is not None:
            # Another scan is owed, but may not begin yet.
            self._owe()
        self._scan.begin(self._saved, self._me)

    def owe_names(self) -> None:
        """Compare names, after the end of a scan under way. A copy without saved progress is scanned anyway."""
        if self._saved is not None:
            self._saved = owe_names(self.progress or self._saved)
            if not self._saved.names_owed:
                # The scan under way compares names, also of users whom it has served, because their databases can be
                # gone.
                self._scan.forget_served()
            self._compare_names()

    def _compare_names(self) -> None:
        saved = self.progress
        if saved is not None and self.live is not None and saved.names_owed and saved.scan is None:
            self._saved = compare_names(saved, read=self.live.read)
            self._scan.begin(self._saved, self._me)

    def served(self, change: Change) -> None:
        """Note that a user was served."""
        self._scan.served(change)

    def advance_scan(self) -> bool:
        """Begin the next sweep if the current one is read and done; say whether the scan ended."""
        # This is called after each change, and a sweep rarely ends, so the cheap test comes first.
        if not self._scan.is_finished or (saved := self.progress) is None:
            return False
        self._saved = sweep_finished(saved)
        self._scan.begin(self._saved, self._me)
        ended = not self.is_scanning
        if ended:
            self.looked_at_all = max(self.looked_at_all, *self._answering, 0)
            self._answering = []
            self._look_at_all_next()
        self._compare_names()
        return ended

    @property
    def progress(self) -> SavedProgress | None:
        """Return the progress to save now; None while nothing is known of the copy."""
        if self._saved is None or self.live is None:
            return self._saved
        return msgspec.structs.replace(
            self._saved,
            checkpoint=self.live.finished,
            last_row=self.live.finished_row,
            earlier=self._earlier(self.live),
            scan=self._scan.progress(self._saved.scan),
        )

    def _earlier(self, live: Watermark) -> tuple[Row, ...]:
        last = live.finished_row
        return tuple(row for row in history.finished(self._history, live.finished) if last is None or row.id != last.id)

    @property
    def proof(self) -> tuple[Row, ...]:
        """Return the rows that prove what was read, oldest first; before `open` the saved ones."""
        if self.is_open:
            return self._history
        return () if self._saved is None else self._saved.proof

    @property
    def checkpoint(self) -> Sequence | None:
        """Return the sequence up to which all live rows are finished."""
        return None if self.live is None else self.live.finished

    @property
    def has_caught_up(self) -> bool:
        """Say whether all rows are finished that were there when the live feed first reached its end."""
        if self.live is None or self._catch_up_ticket is None:
            return False
        return self.live.oldest_ticket >= self._catch_up_ticket
