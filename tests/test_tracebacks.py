"""The stacks of all threads on a standard error that nobody reads. Each test needs a process of its own to end."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_SECONDS

_THREADS = "import threading, time; from peruserd import tracebacks\n"
_THREADS += "for _ in range(100): threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()\n"


def _run(code: str, stderr: int) -> int:
    return subprocess.run(
        [sys.executable, "-c", _THREADS + code],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        stderr=stderr,
        timeout=PATIENCE_SECONDS,
        check=False,
    ).returncode


@pytest.mark.parametrize(
    ("code", "ends_with"),
    [
        pytest.param("tracebacks.end_later(0.1); time.sleep(3600)", 1, id="last resort"),
        pytest.param("tracebacks.dump(); raise SystemExit(7)", 7, id="stacks before other words"),
    ],
)
def test_a_pipe_that_nobody_reads_holds_up_no_end(code: str, ends_with: int) -> None:
    """The stacks of a hundred threads are longer than what the pipe takes."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4_096)
    try:
        assert _run(code, writing) == ends_with
        assert os.read(reading, 64), "what the pipe takes is there"
    finally:
        os.close(reading)
        os.close(writing)


def test_a_pipe_without_a_reader_holds_up_no_end() -> None:
    """Its writer gets an error for each word."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        assert _run("tracebacks.end_later(0.1); time.sleep(3600)", writing) == 1
    finally:
        os.close(writing)


def test_a_pipe_stays_as_other_processes_know_it() -> None:
    """They share its description, and one that relies on waiting must not lose its words."""
    reading, writing = os.pipe()
    try:
        assert _run("tracebacks.dump(); raise SystemExit(not __import__('os').get_blocking(2))", writing) == 0
        assert b"most recent call first" in os.read(reading, 65_536)
    finally:
        os.close(reading)
        os.close(writing)
