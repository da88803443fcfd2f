"""A disk that hangs: a listener goes on to report, serves nobody, and is no reason for a restart."""

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from peruserd import threads
from peruserd.core.scheduling import state_hold
from peruserd.core.scheduling.records import Erasure
from peruserd.listener import disk as disk_module
from peruserd.listener import store as store_module
from peruserd.listener.disk import Disk
from peruserd.listener.exit_codes import Exit
from peruserd.listener.saving import Saving
from peruserd.listener.state_gate import StateGate
from peruserd.listener.store import Store, StoreError
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.listener.sabotaged import Child
from tests.waiting import PATIENCE_SECONDS, eventually

# Far below what anybody wants to wait, and no thread is silent for as long.
IMPATIENT = (
    ("peruserd.listener.disk", "_PATIENCE_SECONDS", 0.2),
    ("peruserd.listener.listener", "_LOOK_SECONDS", 0.3),
    ("peruserd.threads", "_GRACE_SECONDS", 3.0),
)
WRITES = "peruserd.listener.store:Store._write"


class Slow:
    """Work that goes on until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.error: Exception | None = None

    def __call__(self) -> bool:
        self.begun.set()
        assert self.may_end.wait(PATIENCE_SECONDS)
        if self.error is not None:
            raise self.error
        return True

    def write(self) -> None:
        """Do the same, as a write does."""
        self()


@pytest.fixture
def slow() -> Iterator[Slow]:
    """Slow work, which ends with the test."""
    work = Slow()
    yield work
    work.may_end.set()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A disk whose main thread is impatient with slow work."""
    monkeypatch.setattr(disk_module, "_PATIENCE_SECONDS", PATIENCE_SECONDS)
    made = Disk(on_error=lambda error: pytest.fail(f"{error!r}"))
    made.start()
    return made


def _hang(disk: Disk, slow: Slow) -> None:
    assert disk.do(slow, patience_seconds=0.01) is None
    assert slow.begun.wait(PATIENCE_SECONDS)
    assert disk.hangs


def _end(disk: Disk, slow: Slow) -> None:
    slow.may_end.set()
    assert disk._under_way is not None
    eventually(disk._under_way.done, "the work has ended")


def test_work_is_done_and_its_errors_are_raised(disk: Disk) -> None:
    """The main thread waits for work that ends."""

    def fail() -> None:
        raise StoreError("no")

    assert disk.do(lambda: 7) == 7
    with pytest.raises(StoreError, match="no"):
        disk.do(fail)
    assert disk.do(lambda: 8) == 8
    assert not disk.hangs


def test_nothing_is_waited_for_behind_work_that_does_not_end(disk: Disk, slow: Slow) -> None:
    """Its end is noticed by the next call, which does nothing else. The one after it does its own work."""
    _hang(disk, slow)
    assert disk.do(lambda: pytest.fail("two at once")) is None
    _end(disk, slow)
    assert disk.do(lambda: pytest.fail("the state has changed since it was asked for")) is None
    assert not disk.hangs
    assert disk.do(lambda: 9) == 9


def test_a_late_error_is_raised(disk: Disk, slow: Slow) -> None:
    """An unusable file must end the listener, also if that took long to find out."""
    slow.error = StoreError("late")
    _hang(disk, slow)
    _end(disk, slow)
    with pytest.raises(StoreError, match="late"):
        disk.do(lambda: 1)
    assert not disk.hangs


def test_a_disk_that_hangs_begins_a_hold_and_its_end_ends_it(
    tmp_path: Path, disk: Disk, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work is given out again only after a test write."""
    now = [0.0]
    said: list[str | None] = []
    with closing(Store.open(tmp_path / "x.sqlite")) as store:
        gate = StateGate(said.append, lambda: now[0])
        saving = Saving(disk, gate, store, lambda: None)
        monkeypatch.setattr(disk_module, "_PATIENCE_SECONDS", 0.01)
        assert not saving.attempt(slow.write)
        monkeypatch.setattr(disk_module, "_PATIENCE_SECONDS", PATIENCE_SECONDS)
        assert said == [f"cannot keep state in {tmp_path / 'x.sqlite'}: the disk does not answer"]
        now[0] = 100.0
        assert not saving.save(now[0])
        _end(disk, slow)
        now[0] = 200.0
        assert not saving.save(now[0])
        now[0] = 300.0
        assert saving.save(now[0])
        assert len(said) == 2
        assert (said[-1], saving.try_at) == (None, None)


def test_a_write_that_hangs_holds_up_no_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: Slow) -> None:
    """The follower makes such notes with the lock of the tracker, and is the listener's sign of life.

    What is noted during a write is written with the next one.
    """
    with closing(Store.open(tmp_path / "x.sqlite")) as store:
        for each in ("ann", "bob"):
            store.record_intent(each)
        store.remove_later("ann", Erasure.DOUBT)
        write = Store._write
        with monkeypatch.context() as patched:
            patched.setattr(Store, "_write", lambda *given: (slow(), write(*given)))
            saving = threading.Thread(target=store.test)
            saving.start()
            assert slow.begun.wait(PATIENCE_SECONDS)
            store.remove_later("bob", Erasure.DOUBT)
            slow.may_end.set()
            saving.join(PATIENCE_SECONDS)
        assert store.load()[2] == {"ann", "bob"}


def test_a_file_with_a_write_that_hangs_is_left_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: Slow
) -> None:
    """The end of a listener waits for its disk only shortly."""
    monkeypatch.setattr(store_module, "_CLOSE_SECONDS", 0.01)
    store = Store.open(tmp_path / "x.sqlite")
    with monkeypatch.context() as patched:
        patched.setattr(Store, "_write", lambda *_given: slow())
        writing = threading.Thread(target=store.test)
        writing.start()
        assert slow.begun.wait(PATIENCE_SECONDS)
        with capture_logs() as logs:
            store.close()
        slow.may_end.set()
        writing.join(PATIENCE_SECONDS)
    assert [each["event"] for each in logs] == ["state file is left open, because a write to it does not end"]
    store.close()


def test_a_thread_that_waits_for_the_disk_is_no_thread_that_hangs(slow: Slow) -> None:
    """It owes no sign of life meanwhile. Otherwise the listener would end, and start again on the same disk."""
    register = threads.Register()
    gate = StateGate(lambda _why: None, lambda: 0.0)
    thread = threads.LastingThread("worker-1", lambda: gate.keep(slow.write), register=register)
    thread.start()
    assert slow.begun.wait(PATIENCE_SECONDS)
    (life,) = register.lives()
    assert life.due == float("inf")
    slow.may_end.set()
    assert thread.join(PATIENCE_SECONDS)


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """One node with one range."""
    with SimClusterThread(ClusterOptions(nodes=1, n=1, q=1)) as running:
        yield running


@pytest.mark.processes
def test_a_listener_waits_for_a_disk_that_hangs(cluster: SimClusterThread, tmp_path: Path) -> None:
    """It says so in its reports, makes its rounds, and serves who signed up meanwhile once the disk answers."""
    child = Child(cluster, tmp_path, "hung", IMPATIENT)
    try:
        child.wait()
        child.saboteur.hold(WRITES)
        cluster.add_user("ann", "x")
        eventually(lambda: "the disk does not answer" in ((child.report and child.report.on_hold) or ""), "it holds")
        assert child.report is not None
        assert child.report.hold_kind == state_hold.KIND
        rounds = child.rounds
        eventually(lambda: child.rounds >= rounds + 4, "its feed loop goes round")
        assert cluster.creations() == {}
        child.saboteur.let_go()
        eventually(lambda: cluster.creations() == {"userdb-616e6e": 1}, "the user is served")
        child.wait()
        assert child.process.is_alive()
    finally:
        child.end()


@pytest.mark.processes
def test_a_state_that_cannot_be_opened_in_time_is_tried_again(cluster: SimClusterThread, tmp_path: Path) -> None:
    """The exit code says that the cause is outside. Otherwise enough such starts would restart the whole instance."""
    constants = (("peruserd.listener.process", "_OPEN_SECONDS", 0.2),)
    child = Child(cluster, tmp_path, "hung", constants, ["peruserd.listener.store:connect"])
    try:
        assert child.exit_code() == Exit.AGAIN
    finally:
        child.end()
