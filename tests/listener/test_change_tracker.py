import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import msgspec
import pytest

from peruserd.core.common.names import user_document_id
from peruserd.core.feed import intake
from peruserd.core.feed import scan as scanning
from peruserd.core.feed.changes import Change
from peruserd.core.feed.lanes import Lane
from peruserd.core.feed.progress import Identity
from peruserd.core.feed.rows import PAGE_ROWS, Page, Row
from peruserd.core.ownership.hashing import document_hash
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.ownership.ranges import split_evenly
from peruserd.core.processes.messages import CompareNames, LookAtAll, Report, Stage
from peruserd.core.users.quarantine import Quarantined
from peruserd.listener import change_tracker as tracker_module
from peruserd.listener.outcome import Outcome
from peruserd.listener.store import Store
from tests.listener.ownerships import DONE, FAILED, MINE, SHARED, THEIRS
from tests.listener.trackers import make_tracker
from tests.waiting import PATIENCE_SECONDS, eventually

COPY = Identity("copy", 0)


class TrackerDriver:
    """A tracker on a real store; a test does the work of a listener's threads with it."""

    def __init__(self, path: Path, ownership: Ownership = MINE) -> None:
        self._path = path
        self.wakes = 0
        self.begin(ownership)

    def begin(self, ownership: Ownership = MINE, *, share: int = 4, identity: Identity | None = COPY) -> None:
        """Open the store and the tracker, and unless told otherwise the copy, empty."""
        self.store = Store.open(self._path)
        self.tracker = make_tracker(ownership=ownership, share=share, store=self.store, wake=self._wake)
        if identity is not None:
            self.tracker.open(identity)

    def end(self) -> None:
        """End without saving, as a killed process does."""
        self.store.close()

    def live(self, *rows: Row) -> None:
        """Enter a page of the live feed."""
        self.tracker.enter_live(Page(list(rows), rows[-1].seq if rows else self.report().checkpoint or 0))

    def scan(self, *rows: Row) -> None:
        """Enter the last page of the first two sweeps: no database is missing, every security object is looked at."""
        self.sweep(*rows)
        self.sweep(*rows)

    def sweep(self, *rows: Row, missing: Collection[str] = ()) -> None:
        """Enter the last page of one sweep of a scan."""
        task = self.tracker.wait_for_scan()
        assert task is not None
        self.tracker.enter_scan(task, Page(list(rows), rows[-1].seq if rows else task.since), missing)

    def take(self) -> Change:
        """Take a change; there must be one."""
        change = self.tracker.take()
        assert change is not None
        return change

    def serve(self, outcome: Outcome = DONE) -> Change:
        """Take a change and give it back."""
        change = self.take()
        self.tracker.give_back(change, outcome)
        return change

    def report(self) -> Report:
        """Return how the listener stands."""
        return self.tracker.report()

    def _wake(self) -> None:
        self.wakes += 1


def _row(seq: int, name: str | None = None, *, deleted: bool = False) -> Row:
    return Row(seq, user_document_id(name or f"user-{seq}"), deleted)


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[TrackerDriver]:
    """A tracker on an empty copy, after its scan."""
    made = TrackerDriver(tmp_path / "copy.sqlite")
    made.scan()
    made.sweep()
    yield made
    made.tracker.stop()
    made.end()


# Reading


def test_only_own_user_documents_are_acted_on(driver: TrackerDriver) -> None:
    """Design documents and other instances' users are counted only; the checkpoint goes past them at once."""
    driver.tracker.inform(SHARED, None, 4)
    mine = SHARED.belongs_to("me")
    rows = [_row(seq) for seq in range(1, 21)]
    driver.live(Row(0, "_design/_auth"), *rows, Row(21, "some other document"))
    counters = driver.report().counters
    owned = [row.id for row in rows if mine(row.id)]
    assert (counters.changes_seen, counters.changes_owned) == (22, len(owned))
    assert sorted(driver.serve().document_id for _ in owned) == sorted(owned)
    assert driver.report().checkpoint == 21


def test_a_row_of_another_range_is_passed_over(tmp_path: Path) -> None:
    """CouchDB can show another document under an id outside the copy's range. Nothing is asked or done for it."""
    half, other = split_evenly(2)
    ownership = Ownership("_users", half, ((half, ("me",)),), ("me",))
    driver = TrackerDriver(tmp_path / "copy.sqlite", ownership)
    rows = [_row(seq) for seq in range(1, 21)]
    inside = [row.id for row in rows if document_hash(row.id) in half]
    assert {document_hash(row.id) in other for row in rows} == {True, False}
    task = driver.tracker.wait_for_scan()
    assert task is not None
    assert task.to_check(Page(rows, 20)) == inside
    driver.scan()
    driver.live(*rows)
    assert sorted(driver.serve().document_id for _ in inside) == sorted(inside)
    assert (driver.report().counters.changes_owned, driver.report().checkpoint) == (len(inside), 20)
    driver.end()


@pytest.mark.parametrize("first", ["live", "tombstone"])
def test_a_row_that_contradicts_the_quarantine_is_contested(driver: TrackerDriver, first: str) -> None:
    """A live row after a failed deletion, or the reverse, shows that one id may be two documents."""
    driver.live(_row(1, "ann", deleted=first == "tombstone"))
    assert not driver.serve(FAILED).contested
    driver.live(_row(2, "ann", deleted=first != "tombstone"))
    assert driver.serve(FAILED).contested
    driver.tracker.save()
    (kept,) = driver.store.load()[1]
    assert kept.contested
    driver.end()
    driver.begin(identity=Identity("copy", 2))
    driver.tracker.queue_due()
    assert driver.serve().contested
    driver.live(_row(3, "ann", deleted=True))
    assert not driver.serve().contested


def test_the_checkpoint_waits_for_the_oldest(driver: TrackerDriver) -> None:
    """The checkpoint stays before the oldest unfinished change, whatever is finished after that."""
    driver.live(*[_row(seq) for seq in (2, 4, 6)])
    first, second, third = (driver.take() for _ in range(3))
    assert driver.report().checkpoint == 0
    driver.tracker.give_back(third, DONE)
    driver.tracker.give_back(second, DONE)
    assert driver.report().checkpoint == 0
    driver.tracker.give_back(first, DONE)
    assert driver.report().checkpoint == 6


def test_a_saved_checkpoint_is_where_the_next_process_begins(driver: TrackerDriver) -> None:
    """Changes that are finished and saved are not read again; the others are."""
    driver.live(*[_row(seq) for seq in (2, 4, 6)])
    driver.serve()
    driver.tracker.save()
    driver.serve()
    driver.end()
    driver.begin(identity=Identity("copy", 6))
    assert driver.tracker.wait_for_room() == 2


def test_names_are_owed_on_disk_before_the_copy_is_open(driver: TrackerDriver) -> None:
    """The supervisor is told that a comparison was accepted, so it must survive the end of the process."""
    driver.tracker.save()
    driver.end()
    driver.begin(identity=None)
    driver.tracker.compare_names(7)
    driver.tracker.save()
    assert driver.report().looked == 7
    saved, _, _ = driver.store.load()
    assert saved is not None
    assert saved.names_owed


def test_reading_pauses_while_much_is_under_way(driver: TrackerDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the window nothing more is read, until workers have made room; and the reader shows that it is alive."""
    monkeypatch.setattr(intake, "_LIVE_WINDOW", 2)
    monkeypatch.setattr(tracker_module, "_ROUND_SECONDS", 0.01)
    driver.live(_row(1), _row(2))
    given: list[object] = []
    thread = threading.Thread(target=lambda: given.append(driver.tracker.wait_for_room()))
    thread.start()
    rounds = driver.report().rounds
    eventually(lambda: driver.report().rounds > rounds + 2, "the reader beat while it waited")
    assert not given
    driver.serve()
    thread.join(PATIENCE_SECONDS)
    assert given == [2]


def test_the_quarantine_does_not_hold_up_the_feed(driver: TrackerDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many users are tried again, reading goes on, and what is read goes first."""
    monkeypatch.setattr(intake, "_LIVE_WINDOW", 2)
    for seq in range(1, 6):
        driver.live(_row(seq))
        driver.serve(FAILED)
    driver.tracker.save()
    driver.end()
    driver.begin(identity=Identity("copy", 5))
    driver.tracker.queue_due()
    assert driver.report().waiting == 5
    assert driver.tracker.wait_for_room() == 5
    driver.live(_row(6))
    assert driver.take().lane is Lane.LIVE


def test_a_scan_pauses_while_much_of_it_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan reads no further than its window ahead of the workers."""
    monkeypatch.setattr(scanning, "_WINDOW", 2)
    driver = TrackerDriver(tmp_path / "copy.sqlite")
    driver.end()
    driver.begin(identity=Identity("copy", 10))
    task = driver.tracker.wait_for_scan()
    assert task is not None
    driver.tracker.enter_scan(task, Page([_row(1), _row(2)], 2), {_row(1).id, _row(2).id})
    given: list[object] = []
    thread = threading.Thread(target=lambda: given.append(driver.tracker.wait_for_scan()))
    thread.start()
    driver.serve()
    thread.join(PATIENCE_SECONDS)
    (next_task,) = given
    assert getattr(next_task, "since", None) == 2
    driver.end()


# Work


def test_no_more_work_is_given_out_than_the_share(driver: TrackerDriver) -> None:
    """The instance's limit holds, and a larger share lets waiting users go on."""
    driver.tracker.inform(MINE, None, 2)
    driver.live(*[_row(seq) for seq in (1, 2, 3)])
    taken = [driver.take(), driver.take()]
    more: list[Change] = []
    thread = threading.Thread(target=lambda: more.append(driver.take()))
    thread.start()
    eventually(lambda: driver.report().in_flight == 2, "two are under way")
    assert not more
    driver.tracker.inform(MINE, None, 3)
    thread.join(PATIENCE_SECONDS)
    assert len({change.document_id for change in [*taken, *more]}) == 3


def test_a_user_lost_while_waiting_is_left_alone(driver: TrackerDriver) -> None:
    """A change is skipped if it belongs to another instance once a worker is free; the checkpoint goes past it."""
    driver.live(_row(1), _row(2))
    driver.tracker.inform(THEIRS, None, 4)
    assert driver.report().waiting == 0
    assert driver.report().checkpoint == 2


@pytest.mark.parametrize("wait", ["take", "wait_for_room", "wait_for_scan"])
def test_stopping_ends_every_wait(driver: TrackerDriver, monkeypatch: pytest.MonkeyPatch, wait: str) -> None:
    """Every waiting thread gets nothing once the listener stops."""
    monkeypatch.setattr(intake, "_LIVE_WINDOW", 0)
    given: list[object] = []
    thread = threading.Thread(target=lambda: given.append(getattr(driver.tracker, wait)()))
    thread.start()
    driver.tracker.stop()
    thread.join(PATIENCE_SECONDS)
    assert given == [None]


def test_the_end_waits_for_the_work_in_flight(driver: TrackerDriver) -> None:
    """An orderly end gives out nothing new, lets workers finish, and reports those who do not finish in time."""
    driver.live(_row(1), _row(2))
    change = driver.take()
    driver.tracker.stop()
    assert not driver.tracker.wait_until_idle(0.01)
    driver.tracker.give_back(change, DONE)
    assert driver.tracker.wait_until_idle(PATIENCE_SECONDS)
    assert driver.tracker.take() is None
    assert driver.report().waiting == 1


# Failures


def test_a_failure_is_on_disk_before_the_checkpoint_passes_it(driver: TrackerDriver) -> None:
    """A user who cannot be served goes to quarantine, also for the next process, and delays nobody."""
    driver.live(_row(1), _row(2))
    driver.serve(FAILED)
    driver.serve()
    assert (driver.report().checkpoint, driver.report().quarantined) == (2, 1)
    driver.tracker.save()
    driver.end()
    driver.begin(identity=Identity("copy", 2))
    assert driver.report().quarantined == 1
    driver.tracker.queue_due()
    retry = driver.serve()
    assert (retry.document_id, retry.lane) == (_row(1).id, Lane.RETRY)
    assert driver.report().quarantined == 0
    driver.tracker.save()
    assert driver.store.load()[1] == []


def test_a_user_lost_on_the_way_to_the_disk_is_not_kept_there(
    driver: TrackerDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the owner changes while a failure is being written, no entry remains that a later process would retry."""
    write = driver.store.quarantine

    def lose_and_write(entry: Quarantined) -> None:
        driver.tracker.inform(THEIRS, None, 4)
        write(entry)

    monkeypatch.setattr(driver.store, "quarantine", lose_and_write)
    driver.live(_row(1))
    driver.serve(FAILED)
    driver.tracker.save()
    assert driver.store.load()[1] == []


def test_a_failure_gives_way_to_a_newer_change(driver: TrackerDriver) -> None:
    """If the document has changed meanwhile, the newer change is tried instead of the failed one."""
    driver.live(_row(1, "ann"))
    change = driver.take()
    driver.live(_row(2, "ann", deleted=True))
    driver.tracker.give_back(change, FAILED)
    assert driver.report().quarantined == 0
    assert driver.serve().deleted
    assert driver.report().checkpoint == 2


def test_failures_are_counted_by_kind(driver: TrackerDriver) -> None:
    """Each failed try counts, of the feed too; each try out of quarantine counts as a retry."""
    driver.live(_row(1))
    driver.serve(FAILED)
    driver.tracker.feed_failed("timeout")
    assert driver.report().counters.failures == {"conflict": 1, "timeout": 1}


# Doubts


def test_a_write_begun_is_in_doubt_until_it_was_made(driver: TrackerDriver) -> None:
    """After a begun write the security object is written again, also by the next process, until a write has ended."""
    document_id = _row(1).id
    driver.live(_row(1))
    driver.take()
    driver.tracker.intents.before_write(document_id)
    driver.end()
    driver.begin(identity=Identity("copy", 1))
    assert driver.tracker.intents.in_doubt(document_id)
    driver.scan(_row(1))
    driver.serve(FAILED)
    assert driver.tracker.intents.in_doubt(document_id)
    driver.live(_row(2, "user-1"))
    driver.serve()
    assert not driver.tracker.intents.in_doubt(document_id)
    driver.tracker.save()
    driver.end()
    driver.begin(identity=Identity("copy", 2))
    assert not driver.tracker.intents.in_doubt(document_id)


def test_doing_nothing_settles_no_doubt(driver: TrackerDriver) -> None:
    """Successful work without a write of the security object does not end the doubt."""
    driver.tracker.intents.before_write(_row(1).id)
    driver.live(_row(1, deleted=True))
    driver.serve(Outcome())
    assert driver.tracker.intents.in_doubt(_row(1).id)


def test_a_doubt_outlives_the_loss_of_the_user(driver: TrackerDriver) -> None:
    """A user lost in the middle of a failed write, and gained again by a later process, is written again."""
    driver.live(_row(1))
    change = driver.take()
    driver.tracker.intents.before_write(change.document_id)
    driver.tracker.give_back(change, FAILED)
    driver.tracker.inform(THEIRS, None, 4)
    assert driver.report().quarantined == 0
    driver.tracker.save()
    driver.end()
    driver.begin(identity=Identity("copy", 1))
    assert driver.tracker.intents.in_doubt(change.document_id)


# The report


def test_the_stages_of_a_listener(tmp_path: Path) -> None:
    """Stages are connecting until the first page, scanning, then following; a failure leads back to connecting.

    The last sweep, which compares copies, finds everybody served already: the listener has caught up.
    """
    driver = TrackerDriver(tmp_path / "copy.sqlite")
    driver.end()
    driver.begin(identity=None)
    assert driver.report().stage is Stage.CONNECTING
    assert driver.report().checkpoint is None
    driver.tracker.open(Identity("copy", 5))
    driver.live()
    assert (driver.report().stage, driver.report().caught_up) == (Stage.SCANNING, False)
    driver.scan(_row(5))
    assert driver.report().stage is Stage.SCANNING
    driver.serve()
    assert (driver.report().stage, driver.report().caught_up) == (Stage.SCANNING, True)
    driver.sweep(_row(5))
    driver.serve()
    assert (driver.report().stage, driver.report().caught_up) == (Stage.FOLLOWING, True)
    assert driver.report().counters.scans == 1
    driver.tracker.feed_failed("unreachable")
    assert (driver.report().stage, driver.report().caught_up) == (Stage.CONNECTING, False)
    driver.live()
    assert driver.report().caught_up
    driver.end()


def test_caught_up_is_when_the_backlog_is_done(driver: TrackerDriver) -> None:
    """Full pages are a backlog. The listener has caught up when the work up to the first smaller page is finished."""
    driver.tracker.save()
    driver.end()
    driver.begin(share=2 * PAGE_ROWS, identity=Identity("copy", 0))
    driver.live(*[_row(seq) for seq in range(1, PAGE_ROWS + 1)])
    while driver.report().waiting:
        driver.serve()
    assert not driver.report().caught_up
    driver.live(_row(PAGE_ROWS + 1))
    assert not driver.report().caught_up
    change = driver.take()
    driver.live(_row(PAGE_ROWS + 2))
    driver.tracker.give_back(change, DONE)
    assert driver.report().caught_up


def test_looking_at_everybody_once_more_is_not_catching_up(driver: TrackerDriver) -> None:
    """Everybody was served before and new users go first, so the listener is ready during such a scan."""
    driver.live()
    driver.tracker.on_request(LookAtAll(1, "me 1"))
    assert (driver.report().stage, driver.report().caught_up) == (Stage.SCANNING, True)
    driver.tracker.inform(SHARED, None, 4)
    assert (driver.report().stage, driver.report().caught_up) == (Stage.SCANNING, True)
    driver.tracker.inform(MINE, None, 4)
    assert not driver.report().caught_up, "users were gained whom nobody here has served"


def test_looking_at_everybody_once_more_amidst_the_first_scan_is_catching_up(driver: TrackerDriver) -> None:
    """Users whom that scan has not reached yet may have no database."""
    driver.tracker.save()
    driver.end()
    driver.begin(identity=Identity("another", 5))
    driver.live()
    driver.tracker.on_request(LookAtAll(1, "me 1"))
    assert (driver.report().stage, driver.report().caught_up) == (Stage.SCANNING, False)


def test_comparing_names_is_not_catching_up(driver: TrackerDriver) -> None:
    """Somebody else may have deleted databases, of users who were served before."""
    driver.live()
    driver.tracker.on_request(CompareNames(1))
    assert (driver.report().stage, driver.report().caught_up) == (Stage.SCANNING, True)


def test_gaining_users_is_catching_up_again(driver: TrackerDriver) -> None:
    """While gained documents are being read, the listener has not caught up."""
    driver.tracker.inform(SHARED, None, 4)
    driver.live()
    assert driver.report().caught_up
    driver.tracker.inform(MINE, None, 4)
    assert (driver.report().stage, driver.report().caught_up) == (Stage.SCANNING, False)


def test_the_end_of_the_copy_is_known_before_it_is_reached(driver: TrackerDriver) -> None:
    """The copy's own sequence is reported, so that unread changes are visible."""
    driver.tracker.save()
    driver.end()
    driver.begin(identity=Identity("copy", 90))
    assert driver.report().shard_sequence == 90
    driver.live(_row(1))
    assert (driver.report().shard_sequence, driver.report().checkpoint) == (90, 0)
    driver.live(_row(95))
    assert driver.report().shard_sequence == 95


def test_what_was_done_is_counted(driver: TrackerDriver) -> None:
    """Outcomes add up, and only users served live count for the latency."""
    driver.live(_row(1), _row(2), _row(3, deleted=True))
    driver.serve()
    driver.serve(Outcome(provisioned=True))
    driver.serve(Outcome(revoked=True, security_written=True, whole=True))
    counters = driver.report().counters
    assert (counters.users_provisioned, counters.users_revoked) == (2, 1)
    assert (counters.databases_created, counters.security_writes) == (1, 2)
    assert sum(counters.latency.buckets) == 3


def test_a_report_does_not_change_after_it_was_made(driver: TrackerDriver) -> None:
    """Counters go on counting; a report is of its moment."""
    before = driver.report()
    copied = msgspec.convert(msgspec.to_builtins(before), Report)
    driver.live(_row(1))
    driver.serve(FAILED)
    assert before == copied


@pytest.mark.parametrize(
    "happening",
    [
        lambda driver: driver.live(_row(1)),
        lambda driver: driver.tracker.note_round(),
        lambda driver: driver.tracker.feed_failed("timeout"),
        lambda driver: driver.tracker.inform(THEIRS, None, 1),
    ],
    ids=["page", "round", "failure", "owners"],
)
def test_the_main_thread_is_woken_by_what_it_must_save_or_tell(
    driver: TrackerDriver, happening: Callable[[TrackerDriver], None]
) -> None:
    """A change of progress or status wakes the thread that writes and reports."""
    before = driver.wakes
    happening(driver)
    assert driver.wakes > before
