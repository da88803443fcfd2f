"""The gate before the state on disk, and the tracker while the disk takes no writes."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import CapturingLogger

from peruserd.core.deletions.journal import Entry
from peruserd.core.users.quarantine import Failure
from peruserd.couch.errors import InterruptedRequestError
from peruserd.listener import state_gate as state_gate_module
from peruserd.listener import store as store_module
from peruserd.listener.outcome import Outcome
from peruserd.listener.state_gate import PatientStore, StateGate
from peruserd.listener.store import DiskError, Store, StoreError
from tests.listener.ownerships import DONE
from tests.listener.stepped_tracker import SteppedTracker
from tests.waiting import PATIENCE_SECONDS, eventually

FULL = "cannot keep state in x: database or disk is full"
REFUSED = Outcome(failure=Failure("forbidden", "no"))


class Disk:
    """A disk that takes writes, or none."""

    def __init__(self) -> None:
        self.full = False
        self.written: list[str] = []

    def write(self, what: str) -> None:
        if self.full:
            raise DiskError(FULL)
        self.written.append(what)

    def writer(self, what: str) -> Callable[[], None]:
        return lambda: self.write(what)


class Gated:
    """A gate before a disk, its clock, and what it has said."""

    def __init__(self) -> None:
        self.now = 100.0
        self.disk = Disk()
        self.changes: list[str | None] = []
        self.gate = StateGate(self.changes.append, lambda: self.now)

    def keep(self, what: str) -> threading.Thread:
        """Write from another thread; return the thread, whose name says how it has ended."""

        def run() -> None:
            try:
                self.gate.keep(self.disk.writer(what))
            except InterruptedRequestError:
                thread.name = "interrupted"
            else:
                thread.name = "written"

        thread = threading.Thread(target=run, name="waits", daemon=True)
        thread.start()
        return thread


def test_writes_wait_while_the_disk_takes_none() -> None:
    """They are made again once a test write has succeeded, and each is made once."""
    gated = Gated()
    gated.disk.full = True
    waiting = [gated.keep(str(number)) for number in range(3)]
    eventually(lambda: gated.gate.try_at is not None, "the hold has begun")
    gated.now = gated.gate.try_at or 0.0
    assert not gated.gate.test(gated.disk.writer("test"))
    assert {each.name for each in waiting} == {"waits"}
    gated.disk.full = False
    gated.now = gated.gate.try_at or 0.0
    assert gated.gate.test(gated.disk.writer("test"))
    assert gated.gate.try_at is None
    for each in waiting:
        each.join(PATIENCE_SECONDS)
        assert each.name == "written"
    assert gated.disk.written[0] == "test"
    assert sorted(gated.disk.written[1:]) == ["0", "1", "2"]
    assert gated.changes[0] == FULL
    assert gated.changes[-1] is None


def test_nobody_waits_for_the_disk_at_the_end() -> None:
    """The listener stops, and the next start repeats the work."""
    gated = Gated()
    gated.disk.full = True
    waiting = gated.keep("one")
    eventually(lambda: gated.gate.try_at is not None, "the hold has begun")
    gated.gate.close()
    waiting.join(PATIENCE_SECONDS)
    assert waiting.name == "interrupted"
    gated.disk.full = False
    late = gated.keep("two")
    late.join(PATIENCE_SECONDS)
    assert late.name == "written", "a disk that takes writes is written until the end"


def test_a_file_that_cannot_be_used_is_no_full_disk() -> None:
    """Waiting would not help. A restart sets the file aside."""
    gated = Gated()

    def fail() -> None:
        raise StoreError("the file is damaged")

    with pytest.raises(StoreError, match="damaged"):
        gated.gate.keep(fail)
    assert gated.changes == []


def test_the_hold_is_logged_once_at_each_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Test writes that fail are not news."""
    log = CapturingLogger()
    monkeypatch.setattr(state_gate_module, "log", log)
    gated = Gated()
    gated.disk.full = True
    assert not gated.gate.attempt(gated.disk.writer("one"))
    for _ in range(3):
        gated.now = gated.gate.try_at or 0.0
        assert not gated.gate.test(gated.disk.writer("test"))
    gated.disk.full = False
    gated.now = gated.gate.try_at or 0.0
    assert gated.gate.test(gated.disk.writer("test"))
    assert [(call.method_name, call.kwargs) for call in log.calls] == [
        ("warning", {"why": FULL}),
        ("info", {"seconds": 15}),
    ]


def test_a_patient_store_writes_what_a_store_does(tmp_path: Path) -> None:
    """Also iterators arrive, although a write may be made twice."""
    gated = Gated()
    store = Store.open(tmp_path / "copy.sqlite")
    patient = PatientStore(store, gated.gate)
    entry = Entry("org.couchdb.user:ann", "userdb-616e6e", ".1", "1-a", 1.0, 2.0, 3, "n1")
    patient.record_intent("a")
    patient.keep_deletions(iter([entry]))
    assert patient.deletions() == [entry]
    patient.replace_deletions(iter([]))
    patient.keep_deletions([entry])
    patient.forget_deletions(iter([entry.id]))
    assert patient.deletions() == []
    patient.keep_rounds(patient.rounds())
    assert store.load()[2] == {"a"}
    store.close()


def test_while_the_state_cannot_be_written_no_work_is_given_out(stepped: SteppedTracker) -> None:
    """The report says why, and everybody who waited is served afterwards."""
    stepped.sign_up("ann", "bob")
    stepped.tracker.gate.attempt(_full)
    assert stepped.take() is None
    report = stepped.tracker.report()
    assert (report.on_hold, report.hold_kind) == (f"state cannot be written: {FULL}", "state")
    assert (report.caught_up, report.waiting) == (False, 2)
    stepped.clock.now += 2.0
    assert stepped.tracker.gate.test(stepped.store.test)
    assert stepped.serve_all(DONE) == ["ann", "bob"]
    report = stepped.tracker.report()
    assert (report.on_hold, report.caught_up) == (None, True)


def test_a_hold_of_the_cluster_lasts_beyond_that_of_the_state(stepped: SteppedTracker) -> None:
    """Each of them ends by itself, and no trial is made while nothing can be noted."""
    stepped.sign_up("ann")
    stepped.serve(Outcome(failure=Failure("no_majority", "500 no_majority")))
    assert stepped.probe("no majority answers", after=0.1)
    stepped.tracker.gate.attempt(_full)
    stepped.probe("no majority answers", after=10.0)
    assert stepped.take() is None
    assert stepped.tracker.gate.test(stepped.store.test)
    assert stepped.tracker.report().on_hold == "no majority answers"
    assert stepped.take() is not None, "a trial"


def test_progress_that_could_not_be_saved_is_saved_later(
    stepped: SteppedTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That includes what is to be removed, such as the entry of a user who left quarantine."""
    stepped.sign_up("ann")
    stepped.serve(REFUSED)
    assert stepped.kept == ["ann"]
    stepped.sign_up("ann")
    stepped.serve_all(DONE)
    # A trigger refuses the write as a full disk does, as far as the store can tell.
    monkeypatch.setattr(store_module, "is_of_the_file", lambda _error: False)
    stepped.store._connection.execute(
        "CREATE TEMP TRIGGER full BEFORE DELETE ON quarantine BEGIN SELECT RAISE(ABORT, 'full'); END"
    )
    assert not stepped.tracker.gate.attempt(stepped.tracker.save)
    assert stepped.kept == ["ann"]
    stepped.store._connection.execute("DROP TRIGGER full")
    stepped.tracker.save()
    assert stepped.kept == []


def _full() -> None:
    raise DiskError(FULL)
