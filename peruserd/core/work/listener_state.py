"""The whole state of a listener, without its threads, its disk and its clock: what it read, does and has finished.

Here meet `core.feed.intake` (sequences), `core.work.dispatch` (order and limits) and `core.work.documents` (each
document). Times are of the caller's monotonic clock, in seconds. Not thread-safe: its owner has a lock.
"""

from collections.abc import Collection, Iterable

from peruserd.core.cluster.creations import Creations
from peruserd.core.feed.changes import Change, make_look
from peruserd.core.feed.intake import Intake
from peruserd.core.feed.lanes import Lane
from peruserd.core.feed.progress import Identity, OnDisk
from peruserd.core.feed.rows import Page, Sequence
from peruserd.core.feed.scan import ScanTask
from peruserd.core.feed.watermark import Watermark
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.processes.counters import Counters
from peruserd.core.users.quarantine import RESTLESS_DATABASE, UNSERVABLE_NAME, Failure, Quarantined
from peruserd.core.work.aftermath import CountedOutcome
from peruserd.core.work.dispatch import Dispatch
from peruserd.core.work.documents import Documents
from peruserd.core.work.records import Removal
from peruserd.core.work.report import Reporting
from peruserd.core.work.standstill import Standstill


class ListenerState(Reporting):
    """The listener of one copy, for the instance `me`.

    After each call, `removals` are to be taken off the disk, and so many as `to_wake` workers have something to do.
    `fought_over` are users whose database somebody deletes again and again. `passed_on` says that all was seen to.
    """

    def __init__(
        self,
        me: str,
        ownership: Ownership,
        on_disk: OnDisk,
        *,
        upcoming: Ownership | None,
        share: int,
        new_per_minute: int,
        nodes: Collection[str],
        cut_off: bool,
        resume_near: Sequence | None,
        recall_seconds: float,
        digest: str,
        now: float,
    ) -> None:
        self._me = me
        self._leaving = False
        self._feed_fails = True
        self.intake = Intake(me, ownership, on_disk.saved, resume_near, digest)
        self.documents = Documents(on_disk.kept, on_disk.doubts, recall_seconds=recall_seconds, now=now)
        self._creations = Creations()
        self._connect(nodes, cut_off=cut_off, now=now)
        self.dispatch = Dispatch(self.documents, share, new_per_minute)
        self.counters = Counters()
        self.standstill = Standstill(self.documents, self.dispatch, self.counters)
        # Of the messages that ask for looks, by their number.
        self._asked = Watermark(0)
        self.rounds = 0
        self.removals: list[tuple[str, Removal]] = []
        self.fought_over: list[str] = []
        self.to_wake = 0
        self.hold_back(upcoming)

    def passed_on(self) -> None:
        """Note that `removals`, `fought_over` and `to_wake` were seen to."""
        self.removals.clear()
        self.fought_over.clear()
        self.to_wake = 0

    # Reading

    def open(self, identity: Identity, now: float) -> str:
        """Begin, or go on where the checkpoint says, once and before the first page; return in words why there."""
        why = self.intake.open(identity)
        # The owners may have changed while nobody listened.
        self._let_go(now)
        return why

    def feed_failed(self, kind: str) -> None:
        """Note that the feed cannot be read for now."""
        self.counters.failed(kind)
        self._feed_fails = True

    @property
    def live_has_room(self) -> bool:
        """Say whether a page may be read live."""
        return self.intake.live_has_room(self.documents.held)

    def enter_live(self, page: Page, now: float) -> None:
        """Enter a page of the live feed."""
        before = self.intake.unservable
        changes = self.intake.live_page(page, now)
        self.counters.failed(UNSERVABLE_NAME, self.intake.unservable - before)
        self._feed_fails = False
        if page.results:
            self.dispatch.read_live(changes, now)
        self._enter(page, changes)
        self.to_wake += len(changes)

    def scan_task(self) -> ScanTask | None:
        """Return the page of a scan to read next, which is read now; None where there is none."""
        if self.intake.scan_task is not None:
            self.documents.scan_page_requested()
        return self.intake.scan_task

    def enter_scan(self, task: ScanTask, page: Page, missing: Collection[str], now: float) -> bool:
        """Enter a page of a scan, unless it has begun again meanwhile; say whether the scan ended with it.

        `missing` are those of the task's candidates on this page that have no database.
        """
        if not self.documents.scan_page_is_void:
            changes = self.intake.scan_page(task, page, missing, now)
            if changes is not None:
                self._enter(page, changes)
        self.documents.scan_page_ended()
        return self._settle_scan()

    def _enter(self, page: Page, changes: Iterable[Change]) -> None:
        self.counters.feed_requests += 1
        self.counters.changes_seen += len(page.results)
        put = self.documents.put
        for change in changes:
            self.counters.changes_owned += 1
            put(change)

    # Working

    def succeeded(self, change: Change, outcome: CountedOutcome, now: float) -> bool:
        """End work that succeeded; say whether a scan ended with it."""
        self._count(change, outcome)
        self.standstill.served(change, now, by_a_majority=outcome.security_written)
        if change.lane is Lane.LIVE:
            self.counters.latency.observe(now - change.read_at)
        stays = self._stays(change.document_id)
        kept = self.documents.record(change.document_id).kept
        removal = self.documents.succeed(change, outcome, now, recall=stays)
        if removal is not None:
            self.removals.append((change.document_id, removal))
        if outcome.acted_on is not None:
            along = self.documents.take_along(kept, created=outcome.created, now=now)
            self.counters.retries += along
            self.to_wake += along
        self.intake.served(change)
        if not stays and change.lane is not Lane.REVIEW and outcome.acted_on is not None:
            self._review_lost(change, deleted=outcome.acted_on, now=now)
        return self._ended(change, now, created=outcome.created)

    def failed(
        self, change: Change, outcome: CountedOutcome, failure: Failure, *, now: float, wall: float, chance: float
    ) -> Quarantined | None:
        """Note that work failed, and return what is to be on disk before it is `given_up`; None where nothing is."""
        self._count(change, outcome)
        self.counters.failed(failure.kind)
        return self._fail(change, failure, now=now, wall=wall, chance=chance)

    def _fail(self, change: Change, failure: Failure, *, now: float, wall: float, chance: float) -> Quarantined | None:
        kept, removal = self.documents.fail(
            change, failure, is_mine=self.intake.is_mine(change.document_id), now=now, wall=wall, chance=chance
        )
        if removal is not None:
            self.removals.append((change.document_id, removal))
        if kept is not None and self.documents.has_too_many:
            self.documents.forget(change.document_id)
            self.intake.owe_scan(now)
            return None
        if kept is not None and change.lane is Lane.LIVE:
            self.documents.recovery.has_failed(failure)
        return kept

    def given_up(self, change: Change, now: float, *, created: bool) -> bool:
        """End work that failed, for this time; say whether a scan ended with it."""
        self._end_work(change, now, created=created)
        return self._given_up(change, now)

    def _given_up(self, change: Change, now: float) -> bool:
        self.documents.end(change)
        if change.lane is not Lane.REVIEW and not self._stays(change.document_id):
            # It can have done what the row asked for, or nothing.
            self._review_lost(change, deleted=change.deleted, now=now)
        return self._settle_scan()

    # A cluster that fails

    def set_aside(self, change: Change, outcome: CountedOutcome, failure: Failure, now: float) -> bool:
        """End work that failed, where the cluster can be to blame; say whether it did.

        Nothing of it is on disk, and the checkpoint stays before it.
        """
        if not self.standstill.set_aside(change, failure, now, stays=self._stays(change.document_id)):
            return False
        self._count(change, outcome)
        self._end_work(change, now, created=outcome.created)
        return True

    def judged(self, change: Change, failure: Failure, *, now: float, wall: float, chance: float) -> Quarantined | None:
        """Note that a failure was the user's own; return what is to be on disk before it is `put_away`."""
        return self._fail(change, failure, now=now, wall=wall, chance=chance)

    def put_away(self, change: Change, now: float) -> bool:
        """End the work on one that was judged; say whether a scan ended with it."""
        # No worker comes back from it for what can wait behind it by now.
        self.to_wake += 1
        return self._given_up(change, now)

    def _stays(self, document_id: str) -> bool:
        return not self._leaving and self.intake.is_mine(document_id)

    def _review_lost(self, change: Change, *, deleted: bool, now: float) -> None:
        """Lost while it was under way: its next owner may have acted before this was done."""
        self.documents.review(change.document_id, deleted=deleted, now=now)
        self._reviews(1)

    def _ended(self, change: Change, now: float, *, created: bool) -> bool:
        self._end_work(change, now, created=created)
        if created:
            self._creations.note(change.document_id, now)
        return self._settle_scan()

    def _end_work(self, change: Change, now: float, *, created: bool) -> None:
        if self.dispatch.ended(change, now, created=created):
            self.fought_over.append(change.document_id)
            self.counters.failed(RESTLESS_DATABASE)

    def _settle_scan(self) -> bool:
        ended = self.intake.settle()
        self.counters.scans += ended
        return ended

    def due(self, now: float) -> float | None:
        """Let those wait for a worker whose next try is due; return when the next one's is."""
        retries, reviews = self.documents.take_due(now)
        self.counters.retries += retries
        self.to_wake += retries
        self._reviews(reviews)
        self.to_wake += self.dispatch.due(now)
        self.intake.begin_owed_scan(now)
        dates = (self.documents.next_due(), self.dispatch.next_due(now), self.intake.owed_at)
        return min((each for each in dates if each is not None), default=None)

    # Owners

    def inform(
        self,
        ownership: Ownership,
        upcoming: Ownership | None,
        share: int,
        new_per_minute: int,
        nodes: Collection[str],
        now: float,
        *,
        cut_off: bool,
    ) -> None:
        """Put another ownership in force, let another one come, set the limits, and note who is connected."""
        self.dispatch.limit(share, new_per_minute)
        if ownership != self.intake.ownership:
            self.intake.change_owner(ownership)
            self._let_go(now)
        self.hold_back(upcoming)
        self._connect(nodes, cut_off=cut_off, now=now)

    def _connect(self, nodes: Collection[str], *, cut_off: bool, now: float) -> None:
        self.intake.connect(cut_off=cut_off, now=now)
        self.documents.connected(nodes, now)

    def hold_back(self, upcoming: Ownership | None) -> None:
        """Leave alone what another instance will own, until it does: two must not act on it at the same time."""
        if upcoming is None:
            self.dispatch.hold_back(None)
        else:
            stays_mine = upcoming.belongs_to(self._me)
            self.dispatch.hold_back(lambda document_id: not stays_mine(document_id))

    def leave(self, now: float) -> None:
        """Give out only the reviews of what was done last, from now on."""
        self._leaving = True
        self.standstill.end()
        self.dispatch.hold_back(lambda _document_id: True)
        self._reviews(self.documents.leave_unless(lambda _document_id: False, now))

    def take_over_doubts(self, doubts: Collection[str], now: float) -> None:
        """Take over what was left in doubt of a copy that nobody listens to any more."""
        for document_id in doubts:
            self.documents.mark_in_doubt(document_id)
            self.documents.review(document_id, deleted=False, now=now)
        self._reviews(len(doubts))

    def review(self, document_id: str, *, deleted: bool, now: float) -> None:
        """Look again at a document on which `deleted` was last acted."""
        self.documents.review(document_id, deleted=deleted, now=now)
        self._reviews(1)

    def look(
        self, document_ids: Iterable[str], lane: Lane, now: float, number: int | None = None, *, made: bool = False
    ) -> None:
        """Look at documents, as somebody asks under a `number` that grows, or nobody who wants to know the end.

        `made` says that nothing is known but that their databases were made, which is no news of those made here. A
        document of another owner is left alone, unless the operator asks: who acts last has acted on the newest then.
        """
        asked = None if number is None else self._asked
        for document_id in (each for each in document_ids if not (made and self._is_made_here(each, now))):
            if self._stays(document_id):
                ticket = -1 if asked is None else asked.enter(asked.read)
                self.documents.put(make_look(document_id, lane, now, asked, ticket))
                self.to_wake += 1
                if lane is Lane.OPERATOR:
                    self.dispatch.hurry(document_id)
            elif lane is Lane.OPERATOR:
                self.documents.review(document_id, deleted=False, now=now, contested=True)
                self._reviews(1)
        if asked is not None and number is not None:
            asked.advance(number)

    def compare_names(self, number: int) -> None:
        """Look at users whose database is not there or was made again, as the supervisor asks under a number."""
        self.intake.owe_names()
        self._asked.advance(number)

    def look_at_all(self, number: int, request: str) -> None:
        """Look at every user, as the supervisor asks under a number, which is told once all that is done."""
        self.intake.look_at_all(request, number)
        self._asked.advance(number)

    def _is_made_here(self, document_id: str, now: float) -> bool:
        # Work on it ends with a look at what is there, or has made the database.
        return self.documents.record(document_id).active is not None or self._creations.includes(document_id, now)

    @property
    def looked(self) -> int:
        """Return the number up to which all that was asked for was looked at."""
        return int(self._asked.finished)

    def _let_go(self, now: float) -> None:
        """Finish what waits for documents that are others' now, whose owners begin with a scan of their own."""
        reviews = self.documents.leave_unless(self.intake.is_mine, now)
        removals, more = self.documents.lose_unless(self.intake.is_mine, now)
        self.removals += removals
        self._reviews(reviews + more)

    def _reviews(self, count: int) -> None:
        self.counters.reviews += count
        self.to_wake += count
