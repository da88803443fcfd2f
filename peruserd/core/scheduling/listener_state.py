"""The whole state of a listener, without threads, disk and clock: what it has read, does now and has finished.

It combines `core.feed.intake` (sequences), `core.scheduling.dispatch` (order and limits) and
`core.scheduling.documents` (each document). Times are of one monotonic clock, in seconds. The owner has a lock.
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
from peruserd.core.scheduling.aftermath import CountedOutcome
from peruserd.core.scheduling.cluster_hold import ClusterHold
from peruserd.core.scheduling.dispatch import Dispatch
from peruserd.core.scheduling.documents import Documents
from peruserd.core.scheduling.records import Erasure
from peruserd.core.scheduling.report import Reporting
from peruserd.core.users.quarantine import RESTLESS_DATABASE, UNSERVABLE_NAME, Failure, Quarantined


class ListenerState(Reporting):
    """The listener of one copy, for the instance `me`.

    After each call the caller takes the `removals` off the disk, logs the `restless_documents`, and wakes `to_wake`
    workers. Then the caller calls `clear_results`. The database of a restless document is one that somebody deletes
    again and again.
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
        self.cluster_hold = ClusterHold(self.documents, self.dispatch, self.counters)
        # The open requests for looks, by the number of their message.
        self._asked = Watermark(0)
        self.rounds = 0
        self.removals: list[tuple[str, Erasure]] = []
        self.restless_documents: list[str] = []
        self.to_wake = 0
        self.hold_back(upcoming)

    def clear_results(self) -> None:
        """Note that `removals`, `restless_documents` and `to_wake` were handled."""
        self.removals.clear()
        self.restless_documents.clear()
        self.to_wake = 0

    # Reading

    def open(self, identity: Identity, now: float) -> str:
        """Begin, or continue at the checkpoint, once and before the first page; return the reason in words."""
        why = self.intake.open(identity)
        # The owners may have changed while no listener was running.
        self._let_go(now)
        return why

    def feed_failed(self, kind: str) -> None:
        """Note that the feed cannot be read for now."""
        self.counters.failed(kind)
        self._feed_fails = True

    @property
    def live_has_room(self) -> bool:
        """Say whether a page may be read live."""
        return self.intake.live_has_room(self.documents.parked)

    def enter_live(self, page: Page, now: float) -> None:
        """Enter a page of the live feed."""
        before = self.intake.unservable
        changes = self.intake.enter_live_page(page, now)
        self.counters.failed(UNSERVABLE_NAME, self.intake.unservable - before)
        self._feed_fails = False
        if page.results:
            self.dispatch.read_live(changes, now)
        self._enter(page, changes)
        self.to_wake += len(changes)

    def scan_task(self) -> ScanTask | None:
        """Return the page of a scan to read next, and note that it is being read; None if there is none."""
        if self.intake.scan_task is not None:
            self.documents.scan_page_requested()
        return self.intake.scan_task

    def enter_scan(self, task: ScanTask, page: Page, missing: Collection[str], now: float) -> bool:
        """Enter a page of a scan, unless the scan has begun again meanwhile; say whether the scan ended with this page.

        `missing` are the documents of `ScanTask.to_check` without a database.
        """
        if not self.documents.scan_page_is_void:
            changes = self.intake.enter_scan_page(task, page, missing, now)
            if changes is not None:
                self._enter(page, changes)
        self.documents.scan_page_ended()
        return self._advance_scan()

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
        self.cluster_hold.served(change, now, by_a_majority=outcome.security_written)
        if change.lane is Lane.LIVE and not self.dispatch.is_restless(change.document_id, now):
            self.counters.latency.observe(now - change.read_at)
        stays = self._stays(change.document_id)
        kept = self.documents.record(change.document_id).kept
        removal = self.documents.succeed(change, outcome, now, recall=stays)
        if removal is not None:
            self.removals.append((change.document_id, removal))
        if outcome.acted_on is not None:
            along = self.documents.retry_same_cause(kept, created=outcome.created, now=now)
            self.counters.retries += along
            self.to_wake += along
        self.intake.served(change)
        if not stays and change.lane is not Lane.REVIEW and outcome.acted_on is not None:
            self._review_lost(change, deleted=outcome.acted_on, now=now)
        return self._ended(change, now, created=outcome.created)

    def failed(
        self, change: Change, outcome: CountedOutcome, failure: Failure, *, now: float, wall: float, chance: float
    ) -> Quarantined | None:
        """Note that work failed. Return the entry that must be on disk before `given_up`; None if there is none."""
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
            self.documents.recovery.note_failed(failure)
        return kept

    def given_up(self, change: Change, now: float, *, created: bool) -> bool:
        """End work that failed; say whether a scan ended with it."""
        self._end_work(change, now, created=created)
        return self._given_up(change, now)

    def _given_up(self, change: Change, now: float) -> bool:
        self.documents.end(change)
        if change.lane is not Lane.REVIEW and not self._stays(change.document_id):
            # The failed work may have done everything that the row asked for, or nothing.
            self._review_lost(change, deleted=change.deleted, now=now)
        return self._advance_scan()

    # A cluster that fails

    def set_aside(self, change: Change, outcome: CountedOutcome, failure: Failure, now: float) -> bool:
        """End work that failed if the cluster may be the cause; say whether it was set aside.

        Nothing is written to disk, and the checkpoint does not pass the change.
        """
        if not self.cluster_hold.set_aside(change, failure, now, stays=self._stays(change.document_id)):
            return False
        self._count(change, outcome)
        self._end_work(change, now, created=outcome.created)
        return True

    def judged(self, change: Change, failure: Failure, *, now: float, wall: float, chance: float) -> Quarantined | None:
        """Note that a failure was the user's own. Return the entry that must be on disk before `put_away`."""
        return self._fail(change, failure, now=now, wall=wall, chance=chance)

    def put_away(self, change: Change, now: float) -> bool:
        """End the work on a change that was `judged`; say whether a scan ended with it."""
        # No worker ends with this change, so none would take the next one of its document.
        self.to_wake += 1
        return self._given_up(change, now)

    def _stays(self, document_id: str) -> bool:
        return not self._leaving and self.intake.is_mine(document_id)

    def _review_lost(self, change: Change, *, deleted: bool, now: float) -> None:
        """Review a change that was lost while under way: the next owner may have acted before this act was done."""
        self.documents.review(change.document_id, deleted=deleted, now=now)
        self._reviews(1)

    def _ended(self, change: Change, now: float, *, created: bool) -> bool:
        self._end_work(change, now, created=created)
        if created:
            self._creations.note(change.document_id, now)
        return self._advance_scan()

    def _end_work(self, change: Change, now: float, *, created: bool) -> None:
        if self.dispatch.ended(change, now, created=created):
            self.restless_documents.append(change.document_id)
            self.counters.failed(RESTLESS_DATABASE)

    def _advance_scan(self) -> bool:
        ended = self.intake.advance_scan()
        self.counters.scans += ended
        return ended

    def queue_due(self, now: float) -> float | None:
        """Put everything that is due now into its lane; return when to call this next."""
        retries, reviews = self.documents.take_due(now)
        self.counters.retries += retries
        self.to_wake += retries
        self._reviews(reviews)
        self.to_wake += self.dispatch.queue_due(now)
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
        """Take in a new view: the ownership in force and the upcoming one, the limits, and the connected nodes."""
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
        """Leave documents of an upcoming owner alone, because two instances must not act on one at the same time."""
        if upcoming is None:
            self.dispatch.hold_back(None)
        else:
            stays_mine = upcoming.belongs_to(self._me)
            self.dispatch.hold_back(lambda document_id: not stays_mine(document_id))

    def leave(self, now: float) -> None:
        """Give out only reviews of recent acts from now on, because the instance loses the copy."""
        self._leaving = True
        self.cluster_hold.end()
        self.dispatch.hold_back(lambda _document_id: True)
        self._reviews(self.documents.leave_unless(lambda _document_id: False, now))

    def take_over_doubts(self, doubts: Collection[str], now: float) -> None:
        """Take over the documents in doubt of a copy without a listener."""
        for document_id in doubts:
            self.documents.mark_in_doubt(document_id)
            self.documents.review(document_id, deleted=False, now=now)
        self._reviews(len(doubts))

    def review(self, document_id: str, *, deleted: bool, now: float) -> None:
        """Look again at a document. `deleted` is the state that was last acted on."""
        self.documents.review(document_id, deleted=deleted, now=now)
        self._reviews(1)

    def look(
        self, document_ids: Iterable[str], lane: Lane, now: float, number: int | None = None, *, made: bool = False
    ) -> None:
        """Look at documents.

        - `number` grows with each request whose end is reported; None if nobody waits for the end.
        - `made` says that the only news is the creation of a database. A database that was created here is skipped.
        - A document of another owner is skipped too. If the operator asks, it gets a review: the last instance to act
          has then acted on the newest state.
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
        """Look at users with a missing or newly created database, at the supervisor's request with this number."""
        self.intake.owe_names()
        self._asked.advance(number)

    def look_at_all(self, number: int, request: str) -> None:
        """Look at every user, at the supervisor's request with this number. The end is reported by that number."""
        self.intake.look_at_all(request, number)
        self._asked.advance(number)

    def _is_made_here(self, document_id: str, now: float) -> bool:
        # Work under way either looks at the database or has just created it.
        return self.documents.record(document_id).active is not None or self._creations.includes(document_id, now)

    @property
    def looked(self) -> int:
        """Return the number up to which all requested looks are done."""
        return int(self._asked.finished)

    def _let_go(self, now: float) -> None:
        """Drop the changes of documents that have another owner now. The new owner begins with a scan."""
        reviews = self.documents.leave_unless(self.intake.is_mine, now)
        removals, more = self.documents.lose_unless(self.intake.is_mine, now)
        self.removals += removals
        self._reviews(reviews + more)

    def _reviews(self, count: int) -> None:
        self.counters.reviews += count
        self.to_wake += count
