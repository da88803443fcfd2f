import os
import threading
import time
from pathlib import Path

import psutil
import pytest

from peruserd.core.processes.messages import Usage
from peruserd.listener import usage
from tests.waiting import eventually


def _measured() -> Usage:
    measured = usage.measure()
    assert measured is not None
    return measured


def test_a_process_measures_itself() -> None:
    """The numbers agree with the kernel's: time spent, memory, two more descriptors, one more thread."""
    assert _measured().resident_bytes == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)

    def is_right() -> bool:
        before = _measured()
        leave = threading.Event()
        thread = threading.Thread(target=leave.wait)
        reading, writing = os.pipe()
        thread.start()
        begun = time.process_time()
        while time.process_time() - begun < 0.01:
            pass
        after = _measured()
        leave.set()
        thread.join()
        os.close(reading)
        os.close(writing)
        more = (after.descriptors - before.descriptors, after.threads - before.threads)
        return more == (2, 1) and after.cpu_seconds >= before.cpu_seconds + 0.01

    # Threads that an earlier test has left can end in between.
    eventually(is_right, "a measure with nothing else in it")


def test_without_proc_there_is_no_measure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A system that hides it costs the numbers, and nothing else."""
    monkeypatch.setattr(usage, "_SELF", tmp_path)
    assert usage.measure() is None
