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
from peruserd.core.ownership.ranges import WHOLE_SPACE, split_evenly
from peruserd.core.processes.messages import CompareNames, LookAtAll, Report, Stage
from peruserd.core.users.quarantine import Advice, Failure, Quarantined
from peruserd.listener import change_tracker as tracker_module
from peruserd.listener.outcome import Outcome
from peruserd.listener.store import Store
from tests.listener.books import make_tracker
from tests.waiting import PATIENCE_SECONDS, eventually

COPY = Identity("copy", 0)
HOSTS = ((WHOLE_SPACE, ("me", "other")),)
MINE = Ownership("_users", WHOLE_SPACE, HOSTS, ("me",))
SHARED = Ownership("_users", WHOLE_SPACE, HOSTS, ("me", "other"))
THEIRS = Ownership("_users", WHOLE_SPACE, HOSTS, ("other",))
DONE = Outcome(acted_on=False, provisioned=True, created=True, security_written=True, whole=True)
FAILED = Outcome(failure=Failure("conflict", "409", Advice.RETRY))


class Books:
    """A tracker on a real store, and what a listener does with it, in one thread."""

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
        """End without a word, as a process that is killed."""
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
        """Take a change that is known to be there."""
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
def books(tmp_path: Path) -> Iterator[Books]:
    """Books that were opened on an empty copy, with the scan of it done."""
    made = Books(tmp_path / "copy.sqlite")
    made.scan()
    made.sweep()
    yield made
    made.tracker.stop()
    made.end()


# Reading


def test_only_own_user_documents_are_acted_on(books: Books) -> None:
    """Design documents and other instances' users are seen and passed; the checkpoint goes past them at once."""
    books.tracker.inform(SHARED, None, 4)
    mine = SHARED.belongs_to("me")
    rows = [_row(seq) for seq in range(1, 21)]
    books.live(Row(0, "_design/_auth"), *rows, Row(21, "some other document"))
    counters = books.report().counters
    owned = [row.id for row in rows if mine(row.id)]
    assert (counters.changes_seen, counters.changes_owned) == (22, len(owned))
    assert sorted(books.serve().document_id for _ in owned) == sorted(owned)
    assert books.report().checkpoint == 21


def test_a_row_of_another_range_is_passed_over(tmp_path: Path) -> None:
    """An id that does not hash into the copy's range is how another document is shown: nothing is asked or done."""
    half, other = split_evenly(2)
    ownership = Ownership("_users", half, ((half, ("me",)),), ("me",))
    books = Books(tmp_path / "copy.sqlite", ownership)
    rows = [_row(seq) for seq in range(1, 21)]
    inside = [row.id for row in rows if document_hash(row.id) in half]
    assert {document_hash(row.id) in other for row in rows} == {True, False}
    task = books.tracker.wait_for_scan()
    assert task is not None
    assert task.candidates(Page(rows, 20)) == inside
    books.scan()
    books.live(*rows)
    assert sorted(books.serve().document_id for _ in inside) == sorted(inside)
    assert (books.report().counters.changes_owned, books.report().checkpoint) == (len(inside), 20)
    books.end()


@pytest.mark.parametrize("first", ["live", "tombstone"])
def test_a_row_that_contradicts_the_quarantine_is_contested(books: Books, first: str) -> None:
    """A live row of a user whose deletion failed, or the other way round, shows that one id may be two documents."""
    books.live(_row(1, "ann", deleted=first == "tombstone"))
    assert not books.serve(FAILED).contested
    books.live(_row(2, "ann", deleted=first != "tombstone"))
    assert books.serve(FAILED).contested
    books.tracker.save()
    (kept,) = books.store.load()[1]
    assert kept.contested
    books.end()
    books.begin(identity=Identity("copy", 2))
    books.tracker.retry_due()
    assert books.serve().contested
    books.live(_row(3, "ann", deleted=True))
    assert not books.serve().contested


def test_the_checkpoint_waits_for_the_oldest(books: Books) -> None:
    """It stays before the oldest change that is not finished, whatever is finished after it."""
    books.live(*[_row(seq) for seq in (2, 4, 6)])
    first, second, third = (books.take() for _ in range(3))
    assert books.report().checkpoint == 0
    books.tracker.give_back(third, DONE)
    books.tracker.give_back(second, DONE)
    assert books.report().checkpoint == 0
    books.tracker.give_back(first, DONE)
    assert books.report().checkpoint == 6


def test_a_saved_checkpoint_is_where_the_next_process_begins(books: Books) -> None:
    """Changes that are finished and saved are not read again; the others are."""
    books.live(*[_row(seq) for seq in (2, 4, 6)])
    books.serve()
    books.tracker.save()
    books.serve()
    books.end()
    books.begin(identity=Identity("copy", 6))
    assert books.tracker.wait_for_room() == 2


def test_names_are_owed_on_disk_before_the_copy_is_open(books: Books) -> None:
    """The supervisor is told that a comparison was taken in, so a process that ends then must not have lost it."""
    books.tracker.save()
    books.end()
    books.begin(identity=None)
    books.tracker.compare_names(7)
    books.tracker.save()
    assert books.report().looked == 7
    saved, _, _ = books.store.load()
    assert saved is not None
    assert saved.names_owed


def test_reading_pauses_while_much_is_under_way(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the window nothing more is read, until workers have made room; and the reader shows that it is alive."""
    monkeypatch.setattr(intake, "_LIVE_WINDOW", 2)
    monkeypatch.setattr(tracker_module, "_ROUND_SECONDS", 0.01)
    books.live(_row(1), _row(2))
    given: list[object] = []
    thread = threading.Thread(target=lambda: given.append(books.tracker.wait_for_room()))
    thread.start()
    rounds = books.report().rounds
    eventually(lambda: books.report().rounds > rounds + 2, "the reader beat while it waited")
    assert not given
    books.serve()
    thread.join(PATIENCE_SECONDS)
    assert given == [2]


def test_the_quarantine_does_not_hold_up_the_feed(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many users are tried again, reading goes on, and what is read goes first."""
    monkeypatch.setattr(intake, "_LIVE_WINDOW", 2)
    for seq in range(1, 6):
        books.live(_row(seq))
        books.serve(FAILED)
    books.tracker.save()
    books.end()
    books.begin(identity=Identity("copy", 5))
    books.tracker.retry_due()
    assert books.report().waiting == 5
    assert books.tracker.wait_for_room() == 5
    books.live(_row(6))
    assert books.take().lane is Lane.LIVE


def test_a_scan_pauses_while_much_of_it_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan reads no further than its window ahead of the workers."""
    monkeypatch.setattr(scanning, "_WINDOW", 2)
    books = Books(tmp_path / "copy.sqlite")
    books.end()
    books.begin(identity=Identity("copy", 10))
    task = books.tracker.wait_for_scan()
    assert task is not None
    books.tracker.enter_scan(task, Page([_row(1), _row(2)], 2), {_row(1).id, _row(2).id})
    given: list[object] = []
    thread = threading.Thread(target=lambda: given.append(books.tracker.wait_for_scan()))
    thread.start()
    books.serve()
    thread.join(PATIENCE_SECONDS)
    (next_task,) = given
    assert getattr(next_task, "since", None) == 2
    books.end()


# Work


def test_no_more_work_is_given_out_than_the_share(books: Books) -> None:
    """The instance's limit holds, and a larger share lets those go on who wait for it."""
    books.tracker.inform(MINE, None, 2)
    books.live(*[_row(seq) for seq in (1, 2, 3)])
    taken = [books.take(), books.take()]
    more: list[Change] = []
    thread = threading.Thread(target=lambda: more.append(books.take()))
    thread.start()
    eventually(lambda: books.report().in_flight == 2, "two are under way")
    assert not more
    books.tracker.inform(MINE, None, 3)
    thread.join(PATIENCE_SECONDS)
    assert len({change.document_id for change in [*taken, *more]}) == 3


def test_a_user_lost_while_waiting_is_left_alone(books: Books) -> None:
    """A change that is somebody else's when a worker is free is not acted on, and the checkpoint goes past it."""
    books.live(_row(1), _row(2))
    books.tracker.inform(THEIRS, None, 4)
    assert books.report().waiting == 0
    assert books.report().checkpoint == 2


@pytest.mark.parametrize("wait", ["take", "wait_for_room", "wait_for_scan"])
def test_stopping_ends_every_wait(books: Books, monkeypatch: pytest.MonkeyPatch, wait: str) -> None:
    """A thread that waits for something gets nothing once the listener stops."""
    monkeypatch.setattr(intake, "_LIVE_WINDOW", 0)
    given: list[object] = []
    thread = threading.Thread(target=lambda: given.append(getattr(books.tracker, wait)()))
    thread.start()
    books.tracker.stop()
    thread.join(PATIENCE_SECONDS)
    assert given == [None]


def test_the_end_waits_for_the_work_in_flight(books: Books) -> None:
    """An orderly end lets workers finish, and says when they do not in time; nothing new is given out."""
    books.live(_row(1), _row(2))
    change = books.take()
    books.tracker.stop()
    assert not books.tracker.wait_until_idle(0.01)
    books.tracker.give_back(change, DONE)
    assert books.tracker.wait_until_idle(PATIENCE_SECONDS)
    assert books.tracker.take() is None
    assert books.report().waiting == 1


# Failures


def test_a_failure_is_on_disk_before_the_checkpoint_passes_it(books: Books) -> None:
    """A user who is not served is kept aside, also for the next process, and holds up nobody."""
    books.live(_row(1), _row(2))
    books.serve(FAILED)
    books.serve()
    assert (books.report().checkpoint, books.report().quarantined) == (2, 1)
    books.tracker.save()
    books.end()
    books.begin(identity=Identity("copy", 2))
    assert books.report().quarantined == 1
    books.tracker.retry_due()
    retry = books.serve()
    assert (retry.document_id, retry.lane) == (_row(1).id, Lane.RETRY)
    assert books.report().quarantined == 0
    books.tracker.save()
    assert books.store.load()[1] == []


def test_a_user_lost_on_the_way_to_the_disk_is_not_kept_there(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """Owners that change while a failure is being written leave nothing behind that a later process would retry."""
    write = books.store.quarantine

    def lose_and_write(entry: Quarantined) -> None:
        books.tracker.inform(THEIRS, None, 4)
        write(entry)

    monkeypatch.setattr(books.store, "quarantine", lose_and_write)
    books.live(_row(1))
    books.serve(FAILED)
    books.tracker.save()
    assert books.store.load()[1] == []


def test_a_failure_gives_way_to_a_newer_change(books: Books) -> None:
    """Where the document has changed meanwhile, the newer change is tried and not the one that failed."""
    books.live(_row(1, "ann"))
    change = books.take()
    books.live(_row(2, "ann", deleted=True))
    books.tracker.give_back(change, FAILED)
    assert books.report().quarantined == 0
    assert books.serve().deleted
    assert books.report().checkpoint == 2


def test_failures_are_counted_by_kind(books: Books) -> None:
    """Each failed try counts, of the feed too; each try out of quarantine counts as a retry."""
    books.live(_row(1))
    books.serve(FAILED)
    books.tracker.feed_failed("timeout")
    assert books.report().counters.failures == {"conflict": 1, "timeout": 1}


# Doubts


def test_a_write_begun_is_in_doubt_until_it_was_made(books: Books) -> None:
    """A security object whose write was begun is to be written again, also by the next process, until it was."""
    document_id = _row(1).id
    books.live(_row(1))
    books.take()
    books.tracker.before_write(document_id)
    books.end()
    books.begin(identity=Identity("copy", 1))
    assert books.tracker.in_doubt(document_id)
    books.scan(_row(1))
    books.serve(FAILED)
    assert books.tracker.in_doubt(document_id)
    books.live(_row(2, "user-1"))
    books.serve()
    assert not books.tracker.in_doubt(document_id)
    books.tracker.save()
    books.end()
    books.begin(identity=Identity("copy", 2))
    assert not books.tracker.in_doubt(document_id)


def test_doing_nothing_settles_no_doubt(books: Books) -> None:
    """Work that ended well without writing the security object has not made it certain."""
    books.tracker.before_write(_row(1).id)
    books.live(_row(1, deleted=True))
    books.serve(Outcome())
    assert books.tracker.in_doubt(_row(1).id)


def test_a_doubt_outlives_the_loss_of_the_user(books: Books) -> None:
    """A user lost in the middle of a failed write, and gained again by a later process, is written again."""
    books.live(_row(1))
    change = books.take()
    books.tracker.before_write(change.document_id)
    books.tracker.give_back(change, FAILED)
    books.tracker.inform(THEIRS, None, 4)
    assert books.report().quarantined == 0
    books.tracker.save()
    books.end()
    books.begin(identity=Identity("copy", 1))
    assert books.tracker.in_doubt(change.document_id)


# How it stands


def test_the_stages_of_a_listener(tmp_path: Path) -> None:
    """Connecting until a page came, scanning while a scan goes on, then following; connecting again on failure.

    The last sweep, which compares copies, finds everybody served already: the listener has caught up.
    """
    books = Books(tmp_path / "copy.sqlite")
    books.end()
    books.begin(identity=None)
    assert books.report().stage is Stage.CONNECTING
    assert books.report().checkpoint is None
    books.tracker.open(Identity("copy", 5))
    books.live()
    assert (books.report().stage, books.report().caught_up) == (Stage.SCANNING, False)
    books.scan(_row(5))
    assert books.report().stage is Stage.SCANNING
    books.serve()
    assert (books.report().stage, books.report().caught_up) == (Stage.SCANNING, True)
    books.sweep(_row(5))
    books.serve()
    assert (books.report().stage, books.report().caught_up) == (Stage.FOLLOWING, True)
    assert books.report().counters.scans == 1
    books.tracker.feed_failed("unreachable")
    assert (books.report().stage, books.report().caught_up) == (Stage.CONNECTING, False)
    books.live()
    assert books.report().caught_up
    books.end()


def test_caught_up_is_when_the_backlog_is_done(books: Books) -> None:
    """Full pages are a backlog; caught up is when all that came up to the first page that is not full is finished."""
    books.tracker.save()
    books.end()
    books.begin(share=2 * PAGE_ROWS, identity=Identity("copy", 0))
    books.live(*[_row(seq) for seq in range(1, PAGE_ROWS + 1)])
    while books.report().waiting:
        books.serve()
    assert not books.report().caught_up
    books.live(_row(PAGE_ROWS + 1))
    assert not books.report().caught_up
    change = books.take()
    books.live(_row(PAGE_ROWS + 2))
    books.tracker.give_back(change, DONE)
    assert books.report().caught_up


def test_looking_at_everybody_once_more_is_not_catching_up(books: Books) -> None:
    """All were served before, and whoever signs up goes first, so the listener is ready during such a scan."""
    books.live()
    books.tracker.asked(LookAtAll(1, "me 1"))
    assert (books.report().stage, books.report().caught_up) == (Stage.SCANNING, True)
    books.tracker.inform(SHARED, None, 4)
    assert (books.report().stage, books.report().caught_up) == (Stage.SCANNING, True)
    books.tracker.inform(MINE, None, 4)
    assert not books.report().caught_up, "users were gained whom nobody here has served"


def test_looking_at_everybody_once_more_amidst_the_first_scan_is_catching_up(books: Books) -> None:
    """Users whom that scan has not come to yet may have no database."""
    books.tracker.save()
    books.end()
    books.begin(identity=Identity("another", 5))
    books.live()
    books.tracker.asked(LookAtAll(1, "me 1"))
    assert (books.report().stage, books.report().caught_up) == (Stage.SCANNING, False)


def test_comparing_names_is_not_catching_up(books: Books) -> None:
    """Somebody else may have deleted databases, of users who were served before."""
    books.live()
    books.tracker.asked(CompareNames(1))
    assert (books.report().stage, books.report().caught_up) == (Stage.SCANNING, True)


def test_gaining_users_is_catching_up_again(books: Books) -> None:
    """While what was gained is being read, the listener has not caught up."""
    books.tracker.inform(SHARED, None, 4)
    books.live()
    assert books.report().caught_up
    books.tracker.inform(MINE, None, 4)
    assert (books.report().stage, books.report().caught_up) == (Stage.SCANNING, False)


def test_the_end_of_the_copy_is_known_before_it_is_reached(books: Books) -> None:
    """The copy's own sequence is reported, so that what is still to be read shows."""
    books.tracker.save()
    books.end()
    books.begin(identity=Identity("copy", 90))
    assert books.report().shard_sequence == 90
    books.live(_row(1))
    assert (books.report().shard_sequence, books.report().checkpoint) == (90, 0)
    books.live(_row(95))
    assert books.report().shard_sequence == 95


def test_what_was_done_is_counted(books: Books) -> None:
    """Outcomes add up, and only users served live count for the latency."""
    books.live(_row(1), _row(2), _row(3, deleted=True))
    books.serve()
    books.serve(Outcome(provisioned=True))
    books.serve(Outcome(revoked=True, security_written=True, whole=True))
    counters = books.report().counters
    assert (counters.users_provisioned, counters.users_revoked) == (2, 1)
    assert (counters.databases_created, counters.security_writes) == (1, 2)
    assert sum(counters.latency.buckets) == 3


def test_a_report_does_not_change_after_it_was_made(books: Books) -> None:
    """Counters go on counting; a report is of its moment."""
    before = books.report()
    copied = msgspec.convert(msgspec.to_builtins(before), Report)
    books.live(_row(1))
    books.serve(FAILED)
    assert before == copied


@pytest.mark.parametrize(
    "happening",
    [
        lambda books: books.live(_row(1)),
        lambda books: books.tracker.note_round(),
        lambda books: books.tracker.feed_failed("timeout"),
        lambda books: books.tracker.inform(THEIRS, None, 1),
    ],
    ids=["page", "beat", "failure", "owners"],
)
def test_the_main_thread_is_woken_by_what_it_must_save_or_tell(
    books: Books, happening: Callable[[Books], None]
) -> None:
    """A change of progress or standing wakes the thread that writes and reports."""
    before = books.wakes
    happening(books)
    assert books.wakes > before
