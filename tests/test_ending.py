"""The end of an instance has a time limit, even if a part hangs."""

import faulthandler
import subprocess
import sys
import threading
import time

import pytest
from structlog.testing import capture_logs

from peruserd import ending
from peruserd.core.processes.lifecycle import Timing
from tests.waiting import PATIENCE_SECONDS


def test_the_listeners_have_the_time_to_be_asked_aborted_and_killed() -> None:
    """A listener has enough time to save its work."""
    timing = Timing()
    assert timing.stop_seconds + 2 * timing.abort_seconds < ending.FLEET_SECONDS


def test_all_parts_end_before_the_last_resort() -> None:
    """The last resort is for unforeseen faults, because it leaves the lease in place."""
    assert 0 < ending.LEASE_GRACE_SECONDS < ending.LEASE_SECONDS
    all_of_them = ending.FLEET_SECONDS + ending.LEASE_SECONDS + ending.PARTS_SECONDS
    assert all_of_them < ending.LAST_RESORT_SECONDS


def test_all_parts_together_have_a_limit_however_many_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits are cut short once the time of all of them is over, so that the last resort is never needed."""
    waited: list[float] = []
    now = 1_000.0

    class Stubborn(threading.Thread):
        def join(self, timeout: float | None = None) -> None:
            nonlocal now
            assert timeout is not None
            waited.append(timeout)
            now += timeout

        def is_alive(self) -> bool:
            return True

    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *_seconds, **_exits: None)
    monkeypatch.setattr(ending._Clock, "ends_at", float("inf"))
    monkeypatch.setattr(time, "monotonic", lambda: now)
    ending.arm_last_resort()
    now += ending.FLEET_SECONDS
    ending.arm_last_resort()
    for _ in range(20):
        assert not ending.join(Stubborn())
    assert waited[:9] == [ending.PART_SECONDS] * 9
    assert sum(waited) == ending.LEASE_SECONDS + ending.PARTS_SECONDS


def test_a_thread_that_does_not_end_is_left_behind_and_named() -> None:
    """The other parts still end."""
    released = threading.Event()
    thread = threading.Thread(target=released.wait, name="stubborn", daemon=True)
    thread.start()
    with capture_logs() as logged:
        assert not ending.join(thread, 0.01)
    assert [(line["log_level"], line["part"]) for line in logged] == [("warning", "stubborn")]
    released.set()
    with capture_logs() as logged:
        assert ending.join(thread, PATIENCE_SECONDS)
    assert logged == []


def test_the_last_resort_ends_a_process_that_hangs_at_its_very_end() -> None:
    """The stack of each thread is logged, and the exit code tells systemd of the failure."""
    program = (
        "import atexit, threading\n"
        "from peruserd import ending\n"
        "ending.LAST_RESORT_SECONDS = 0.2\n"
        "ending.arm_last_resort()\n"
        "atexit.register(threading.Event().wait)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert ended.returncode == 1
    assert "most recent call first" in ended.stderr
