"""The listener's tracker against a model of everything that can happen around it, in any order.

The model has one shard copy, one instance, and a tracker without threads and time. In any order:

- documents change, and owners change
- pages are requested, read and entered at different moments
- work ends or fails
- progress is saved, the process dies, and the copy is made again

At rest, every user of the instance is as the newest revision of the user document wants.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest
import structlog
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from peruserd.core.feed.changes import Change
from peruserd.core.feed.lanes import Lane
from peruserd.core.feed.progress import Identity, SavedProgress, Sweep
from peruserd.core.feed.rows import Page, Row, Sequence
from peruserd.core.feed.scan import ScanTask
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.ownership.ranges import WHOLE_SPACE, ShardMap
from peruserd.core.processes.messages import Stage
from peruserd.core.users.inquiries import Inquiry, QuarantineAction
from peruserd.core.users.quarantine import UNCONFIRMED, Advice, Failure, Quarantined
from peruserd.listener import change_tracker as tracker_module
from peruserd.listener import failures as failures_module
from peruserd.listener.change_tracker import ChangeTracker
from peruserd.listener.outcome import Outcome
from peruserd.listener.store import Store
from tests.listener.disks import Disk, Keeper, MemoryStore, NeverWaits, WouldBlockError
from tests.listener.trackers import make_tracker
from tests.quick import examples

ME = "n1"
NODES = ("n1", "n2", "n3")
USERS = tuple(f"org.couchdb.user:{name}" for name in ("ann", "cid", "hal"))
DOCUMENTS = (*USERS, "_design/_auth")


def _ownership(hosts: tuple[str, ...], alive: tuple[str, ...]) -> Ownership:
    return Ownership.of(ShardMap("_users", ".1", {WHOLE_SPACE: hosts}), WHOLE_SPACE, alive)


OWNERSHIPS = (
    _ownership(NODES, NODES),
    _ownership(NODES, ("n1",)),
    _ownership(NODES, ("n1", "n2")),
    _ownership(NODES, ("n2", "n3")),
    _ownership(("n1", "n3"), ("n1", "n3")),
)
ALL, ALONE, WITH_N2, WITHOUT_ME, ON_TWO = OWNERSHIPS

FAILURES = {advice: Failure("conflict", "409", advice) for advice in Advice}


_SILENCE = structlog.wrap_logger(structlog.ReturnLogger(), processors=[])


def number_of(sequence: Sequence) -> int:
    """Return a sequence as the number that it is on a shard copy."""
    assert isinstance(sequence, int)
    return sequence


def seq_of(row: Row) -> int:
    """Return where a row stands."""
    return number_of(row.seq)


class ShardCopy:
    """A copy of a shard: each document once, at its newest sequence."""

    def __init__(self) -> None:
        self.life = 0
        self.seq = 0
        self.rows: dict[str, Row] = {}

    @property
    def identity(self) -> Identity:
        return Identity(f"copy-{self.life}", self.seq)

    def write(self, document_id: str, *, deleted: bool) -> None:
        self.seq += 1
        self.rows[document_id] = Row(self.seq, document_id, deleted)

    def rebuild(self, order: list[str]) -> None:
        self.life += 1
        self.seq = 0
        before, self.rows = self.rows, {}
        for document_id in order:
            if document_id in before:
                self.write(document_id, deleted=before[document_id].deleted)

    def page(self, since: int, limit: int) -> Page:
        rows = sorted((row for row in self.rows.values() if seq_of(row) > since), key=seq_of)[:limit]
        return Page(rows, rows[-1].seq if rows else since)


class World:
    """One copy, one instance's tracker, and the state of each user; its methods are the steps of machine and examples.

    `state` says whether a user was last acted on as deleted. A user has no state:

    - after each change of the document
    - after work that failed or died
    - once somebody else owned the document, because their actions are unknown.
    """

    def __init__(self, open_store: Callable[[], Keeper]) -> None:
        self.copy = ShardCopy()
        self._open_store = open_store
        self.state: dict[str, bool] = {}
        # These users may have a database, made by anybody.
        self.ever_live: set[str] = set()
        self.now = 1000.0
        self.tracker: ChangeTracker
        self.store: Keeper
        self.ownership = ALL
        self.upcoming: Ownership | None = None
        self.live_page: Page | None = None
        self.scan_task: ScanTask | None = None
        self.scan_page: Page | None = None
        self.working: list[Change] = []
        # The state of users who were lost since the last save. If the process dies now, the next one does not know of
        # the loss.
        self._unsaved_losses: dict[str, bool] = {}

    def read_disk(self) -> tuple[SavedProgress | None, list[Quarantined], set[str]]:
        return self.store.load()

    # The process

    def start(self, ownership: Ownership) -> None:
        self.upcoming = None
        self.store = self._open_store()
        self.tracker = make_tracker(
            instance=ME,
            ownership=ownership,
            share=3,
            store=self.store,
        )
        self.tracker._changed = NeverWaits()
        self._own(ownership)
        self.tracker.open(self.copy.identity)

    def crash(self) -> None:
        for change in self.working:
            self.state.pop(change.document_id, None)
        for document_id, deleted in self._unsaved_losses.items():
            self.state.setdefault(document_id, deleted)
        self._unsaved_losses.clear()
        self.working.clear()
        self.live_page = self.scan_task = self.scan_page = None
        self.store.close()

    def restart(self, ownership: Ownership | None = None) -> None:
        self.crash()
        self.start(ownership or self.ownership)

    def inform(self, ownership: Ownership, upcoming: Ownership | None = None) -> None:
        self._own(ownership)
        self.upcoming = upcoming
        self.tracker.inform(ownership, upcoming, 3)

    def save(self) -> None:
        self.tracker.save()
        self._unsaved_losses.clear()
        self.check_disk()

    def _own(self, ownership: Ownership) -> None:
        self.ownership = ownership
        mine = ownership.belongs_to(ME)
        for document_id in list(self.state):
            if not mine(document_id):
                self._unsaved_losses[document_id] = self.state.pop(document_id)

    # The copy

    def write(self, document_id: str, *, deleted: bool = False) -> None:
        self.copy.write(document_id, deleted=deleted)
        if not deleted:
            self.ever_live.add(document_id)
        self.state.pop(document_id, None)
        self._unsaved_losses.pop(document_id, None)

    # The threads

    def read_live(self, limit: int = 100) -> None:
        since = self.tracker.wait_for_room()
        assert isinstance(since, int)
        self.live_page = self.copy.page(since, limit)

    def enter_live(self) -> None:
        assert self.live_page is not None
        self.tracker.enter_live(self.live_page)
        self.live_page = None

    def request_scan(self) -> bool:
        try:
            self.scan_task = self.tracker.wait_for_scan()
        except WouldBlockError:
            return False
        return True

    def read_scan(self, limit: int = 100) -> None:
        assert self.scan_task is not None
        assert isinstance(self.scan_task.since, int)
        self.scan_page = self.copy.page(self.scan_task.since, limit)

    def enter_scan(self) -> None:
        assert self.scan_task is not None
        assert self.scan_page is not None
        missing = set(self.scan_task.to_check(self.scan_page))
        if self.scan_task.sweep is Sweep.DATABASES:
            missing = {each for each in missing if self.state.get(each) is not False}
        else:
            missing -= self.ever_live
        self.tracker.enter_scan(self.scan_task, self.scan_page, missing)
        self.scan_task = self.scan_page = None

    def take(self) -> bool:
        try:
            change = self.tracker.take()
        except WouldBlockError:
            return False
        assert change is not None
        assert change.document_id not in {each.document_id for each in self.working}
        if change.lane is not Lane.REVIEW:
            assert self.ownership.belongs_to(ME)(change.document_id)
            assert self.upcoming is None or self.upcoming.belongs_to(ME)(change.document_id)
        self.working.append(change)
        return True

    def give_back(self, index: int = 0, failure: Failure | None = None) -> None:
        change = self.working.pop(index)
        if change.lane is Lane.REVIEW:
            # The act reads the newest document, so its result is right.
            self.tracker.give_back(change, Outcome(failure=failure))
            return
        # For a contested change the copies of the document are asked.
        row = self.copy.rows.get(change.document_id) if change.contested else None
        deleted = change.deleted if row is None else row.deleted
        if failure is None and self.ownership.belongs_to(ME)(change.document_id):
            self.state[change.document_id] = deleted
        else:
            self.state.pop(change.document_id, None)
        self.tracker.give_back(change, Outcome(failure=failure, acted_on=deleted))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.tracker.queue_due()

    def probe(self, why: str | None) -> bool:
        """Let the cluster answer whether it serves, if that is asked."""
        try:
            assert self.tracker.failures.wait_for_probe()
        except WouldBlockError:
            return False
        self.tracker.failures.probed(why)
        return True

    # Invariants

    def check_disk(self) -> None:
        """The checkpoint on disk passes no unfinished work: see the invariant of `core.feed.progress.SavedProgress`."""
        self._nothing_to_take_away()
        saved, quarantined, _ = self.read_disk()
        assert saved is not None
        if saved.uuid != self.copy.identity.uuid:
            return
        kept = {entry.document_id: entry.deleted for entry in quarantined}
        mine = saved.current.belongs_to(ME)
        past = [ownership.belongs_to(ME) for ownership in saved.covered]
        assert isinstance(saved.checkpoint, int)
        for document_id in USERS:
            row = self.copy.rows.get(document_id)
            if row is None or seq_of(row) > saved.checkpoint or not mine(document_id):
                continue
            spoken_of = bool(past) and all(was_mine(document_id) for was_mine in past)
            swept = saved.scan is not None and (
                saved.scan.sweep is Sweep.COPIES
                or (saved.scan.sweep is Sweep.SECURITY and seq_of(row) <= number_of(saved.scan.position))
            )
            if not spoken_of and saved.scan is not None and not swept:
                continue
            done = self.state.get(document_id, kept.get(document_id))
            assert done == row.deleted, f"{document_id} at {row.seq} is not finished; {saved}"

    def _nothing_to_take_away(self) -> None:
        """A deleted user who never had a database is right, with or without an action."""
        mine = self.ownership.belongs_to(ME)
        for document_id in set(USERS) - self.ever_live:
            if document_id in self.copy.rows and mine(document_id):
                self.state.setdefault(document_id, True)

    def settle(self) -> None:
        """Let everything come to rest and look at every user."""
        saved = self.tracker._state.intake.progress
        if saved is None or saved.uuid != self.copy.identity.uuid:
            self.restart()
        self.inform(self.ownership)
        self._drain()
        self.save()
        self._nothing_to_take_away()
        mine = self.ownership.belongs_to(ME)
        wanted = {each: row.deleted for each, row in self.copy.rows.items() if each in USERS and mine(each)}
        permanent = {each.document_id: each.deleted for each in self.read_disk()[1]}
        assert self.state | permanent == wanted
        report = self.tracker.report()
        assert (report.waiting, report.in_flight, report.quarantined) == (0, 0, len(permanent))
        assert report.stage is Stage.FOLLOWING
        assert report.caught_up
        assert report.checkpoint == self.copy.seq
        saved, _, _ = self.read_disk()
        assert saved is not None
        assert (saved.scan, saved.covered, saved.checkpoint) == (None, (self.ownership,), self.copy.seq)

    def _drain(self) -> None:
        for _ in range(1000):
            busy = False
            if self.scan_task is not None:
                if self.scan_page is None:
                    self.read_scan()
                self.enter_scan()
                busy = True
            if self.live_page is not None:
                self.enter_live()
            self.read_live()
            busy |= bool(self.live_page and self.live_page.results)
            self.enter_live()
            busy |= self.request_scan()
            busy |= self.take()
            while self.working:
                self.give_back()
                busy = True
            self.now += 10_000.0
            busy |= self.probe(None)
            busy |= self._retry()
            if not busy:
                return
        raise AssertionError("it never comes to rest")

    def _retry(self) -> bool:
        self.tracker.queue_due()
        return self.tracker.report().waiting > 0


def memory_world() -> World:
    """Return a world whose disk is in memory."""
    disk = Disk()
    return World(lambda: MemoryStore(disk))


class LedgerMachine(RuleBasedStateMachine):
    """Everything that can happen, in any order."""

    world: World

    def make_world(self) -> World:
        return memory_world()

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.world = self.make_world()
        clock = SimpleNamespace(monotonic=lambda: self.world.now, time=lambda: self.world.now)
        self.patch.setattr(tracker_module, "time", clock)
        self.patch.setattr(tracker_module, "log", _SILENCE)
        self.patch.setattr(failures_module, "log", _SILENCE)

    @initialize(ownership=st.sampled_from(OWNERSHIPS), present=st.lists(st.sampled_from(DOCUMENTS), max_size=8))
    def begin(self, ownership: Ownership, present: list[str]) -> None:
        for document_id in present:
            self.world.write(document_id)
        self.world.start(ownership)

    @rule(document_id=st.sampled_from(DOCUMENTS), deleted=st.booleans())
    def write(self, document_id: str, deleted: bool) -> None:  # noqa: FBT001 - Hypothesis gives it by name
        self.world.write(document_id, deleted=deleted)

    @precondition(lambda self: self.world.live_page is None)
    @rule()
    def follow(self) -> None:
        self.world.read_live()
        self.world.enter_live()

    @precondition(lambda self: self.world.scan_task is None)
    @rule()
    def scan(self) -> None:
        if self.world.request_scan():
            self.world.read_scan()
            self.world.enter_scan()

    @precondition(lambda self: self.world.live_page is None)
    @rule(limit=st.integers(1, 4))
    def read_live(self, limit: int) -> None:
        self.world.read_live(limit)

    @precondition(lambda self: self.world.live_page is not None)
    @rule()
    def enter_live(self) -> None:
        self.world.enter_live()

    @precondition(lambda self: self.world.scan_task is None)
    @rule()
    def request_scan(self) -> None:
        self.world.request_scan()

    @precondition(lambda self: self.world.scan_task is not None and self.world.scan_page is None)
    @rule(limit=st.integers(1, 4))
    def read_scan(self, limit: int) -> None:
        self.world.read_scan(limit)

    @precondition(lambda self: self.world.scan_page is not None)
    @rule()
    def enter_scan(self) -> None:
        self.world.enter_scan()

    @rule()
    def take(self) -> None:
        self.world.take()

    @precondition(lambda self: self.world.working)
    @rule(data=st.data())
    def succeed(self, data: st.DataObject) -> None:
        self.world.give_back(data.draw(st.integers(0, len(self.world.working) - 1)))

    @precondition(lambda self: self.world.working)
    @rule(data=st.data(), advice=st.sampled_from(Advice))
    def fail(self, data: st.DataObject, advice: Advice) -> None:
        self.world.give_back(data.draw(st.integers(0, len(self.world.working) - 1)), FAILURES[advice])

    @rule(
        document_id=st.sampled_from(USERS),
        kind=st.sampled_from(["no_majority", UNCONFIRMED]),
        answer=st.sampled_from(["later", "it serves", "it does not"]),
    )
    def fail_with_the_cluster(self, document_id: str, kind: str, answer: str) -> None:
        """A user changes, and all possible work fails. Rules for single steps would come here too seldom."""
        row = self.world.copy.rows.get(document_id)
        self.world.write(document_id, deleted=row is not None and not row.deleted)
        if self.world.live_page is None:
            self.world.read_live()
        self.world.enter_live()
        while len(self.world.working) < 3 and self.world.take():
            pass
        while self.world.working:
            self.world.give_back(failure=Failure(kind, "words"))
        self.world.save()
        if answer != "later":
            self.world.now += 2.0
            self.probe(None if answer == "it serves" else "no majority answers")

    @rule(why=st.sampled_from([None, "no majority answers"]))
    def probe(self, why: str | None) -> None:
        before = set(self.world.store.load()[1])
        asked = self.world.probe(why)
        assert why is None or not asked or set(self.world.store.load()[1]) == before, "blamed for what the cluster did"
        self.world.save()

    @rule()
    def retry_all(self) -> None:
        self.world.tracker.failures.inquire(Inquiry(0, QuarantineAction.RETRY))

    @rule(seconds=st.sampled_from([0.5, 100.0]))
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(ownership=st.sampled_from(OWNERSHIPS), upcoming=st.none() | st.sampled_from(OWNERSHIPS))
    def inform(self, ownership: Ownership, upcoming: Ownership | None) -> None:
        self.world.inform(ownership, upcoming)

    @rule()
    def save(self) -> None:
        self.world.save()

    @rule(ownership=st.none() | st.sampled_from(OWNERSHIPS))
    def restart(self, ownership: Ownership | None) -> None:
        self.world.restart(ownership)

    @rule(order=st.permutations(DOCUMENTS))
    def rebuild(self, order: list[str]) -> None:
        self.world.copy.rebuild(order)

    @rule()
    def settle(self) -> None:
        self.world.settle()

    @invariant()
    def can_say_how_it_stands(self) -> None:
        if hasattr(self.world, "tracker"):
            self.world.tracker.report()

    def teardown(self) -> None:
        try:
            if hasattr(self.world, "tracker"):
                self.world.settle()
                self.world.crash()
        finally:
            self.patch.undo()


class LedgerOnDiskMachine(LedgerMachine):
    """The same with a real state file."""

    def make_world(self) -> World:
        self.directory = TemporaryDirectory()
        path = Path(self.directory.name, "copy.sqlite")
        return World(lambda: Store.open(path))

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            self.directory.cleanup()


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=examples(200), stateful_step_count=60, deadline=None)
TestLedgerOnDisk = LedgerOnDiskMachine.TestCase
TestLedgerOnDisk.settings = settings(max_examples=examples(40), stateful_step_count=40, deadline=None)


# The shortest ways to faults that the machine has found, or that were found while it was written.

HAL = "org.couchdb.user:hal"  # owned by n1 while it lives and n3 hosts with n1 and n2


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A world that has not begun."""
    made = memory_world()
    clock = SimpleNamespace(monotonic=lambda: made.now, time=lambda: made.now)
    monkeypatch.setattr(tracker_module, "time", clock)
    monkeypatch.setattr(tracker_module, "log", _SILENCE)
    yield made
    made.settle()
    made.crash()


@pytest.mark.parametrize("under_way", [False, True], ids=["waiting", "under-way"])
def test_a_scan_is_believed_over_a_change_from_before_the_user_was_lost(world: World, under_way: bool) -> None:  # noqa: FBT001
    """A user who was lost, deleted and gained again is revoked, although work from before the loss has not ended."""
    world.start(ALL)
    world.settle()
    world.write(HAL)
    world.read_live()
    world.enter_live()
    if under_way:
        assert world.take()
    world.inform(WITHOUT_ME)
    world.write(HAL, deleted=True)
    world.read_live()
    world.enter_live()
    world.inform(ALL)
    assert world.request_scan()
    world.read_scan()
    world.enter_scan()
    world.settle()
    assert world.state == {HAL: True}


def test_a_failure_after_the_user_was_lost_is_not_kept(world: World) -> None:
    """A failure goes to no quarantine if the user has another owner by then, because nobody would release it."""
    world.start(ALL)
    world.write(HAL)
    world.read_live()
    world.enter_live()
    assert world.take()
    world.inform(WITHOUT_ME)
    world.give_back(failure=FAILURES[Advice.RETRY])
    assert world.tracker.report().quarantined == 0


def test_a_restart_without_a_user_releases_its_quarantine(world: World) -> None:
    """A quarantined user who has another owner at the next start is not counted for ever."""
    world.write(HAL)
    world.start(ALL)
    assert world.request_scan()
    world.read_scan()
    world.enter_scan()
    assert world.take()
    world.give_back(failure=FAILURES[Advice.RETRY])
    world.restart(WITHOUT_ME)
    assert world.tracker.report().quarantined == 0
