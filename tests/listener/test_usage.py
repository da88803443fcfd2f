import os
import threading
import time
from pathlib import Path

import psutil
import pytest

from peruserd.core.messages import Usage
from peruserd.listener import usage


def _measured() -> Usage:
    measured = usage.measure()
    assert measured is not None
    return measured


def test_a_process_measures_itself() -> None:
    """Its numbers are those of the kernel: time spent, memory, one more descriptor, one more thread."""
    before = _measured()
    assert before.resident_bytes == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
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
    assert after.descriptors == before.descriptors + 2
    assert after.threads == before.threads + 1
    assert after.cpu_seconds >= before.cpu_seconds + 0.01


def test_without_proc_there_is_no_measure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A system that hides it costs the numbers, and nothing else."""
    monkeypatch.setattr(usage, "_SELF", tmp_path)
    assert usage.measure() is None
