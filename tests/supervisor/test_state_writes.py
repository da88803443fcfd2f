"""The writes to the state directory that nobody may wait for."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from peruserd.supervisor.state_writes import StateWrites
from tests.waiting import PATIENCE_SECONDS, eventually


class Hung:
    """A disk that does not answer before it is let go, and what was written to it."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.may_answer = threading.Event()
        self.written: list[str] = []

    def write(self, what: str) -> None:
        self.asked.set()
        assert self.may_answer.wait(PATIENCE_SECONDS)
        self.written.append(what)


@pytest.fixture
def hung() -> Iterator[Hung]:
    """A disk that hangs until the end of the test."""
    disk = Hung()
    yield disk
    disk.may_answer.set()


def test_nobody_waits_for_a_write_and_only_the_newest_is_made(tmp_path: Path, hung: Hung) -> None:
    """The supervisor's loop must go round while the disk hangs. What an old write would say is out of date."""
    writes = StateWrites(tmp_path)
    writes.start()
    writes.put("a", lambda: hung.write("first"))
    assert hung.asked.wait(PATIENCE_SECONDS)
    writes.put("a", lambda: hung.write("out of date"))
    writes.put("b", lambda: hung.write("other"))
    writes.put("a", lambda: hung.write("newest"))
    assert hung.written == []
    hung.may_answer.set()
    eventually(lambda: hung.written == ["first", "newest", "other"], "all are written")
    writes.stop()


def test_what_waits_at_the_end_is_written(tmp_path: Path, hung: Hung) -> None:
    """The next start goes on from there."""
    hung.may_answer.set()
    writes = StateWrites(tmp_path)
    writes.start()
    eventually(lambda: writes.room is not None, "it pauses")
    writes.put("a", lambda: hung.write("last"))
    writes.stop()
    assert hung.written == ["last"]


def test_a_write_that_fails_ends_no_other(tmp_path: Path, hung: Hung) -> None:
    """Its error is logged, and the thread goes on."""
    hung.may_answer.set()
    writes = StateWrites(tmp_path)

    def fail() -> None:
        raise ZeroDivisionError

    writes.put("a", fail)
    writes.start()
    writes.put("b", lambda: hung.write("b"))
    eventually(lambda: hung.written == ["b"], "the other one is made")
    writes.stop()


def test_the_room_is_that_of_the_directory(tmp_path: Path) -> None:
    """Without a directory there is none."""
    for directory, is_known in ((tmp_path, True), (tmp_path / "gone", False)):
        writes = StateWrites(directory)
        asked = threading.Event()
        writes.put("a", asked.set)
        writes.start()
        assert asked.wait(PATIENCE_SECONDS)
        writes.stop()
        assert (writes.room is not None) is is_known
        if (room := writes.room) is not None:
            assert 0 < room.free <= room.size
            assert room.read_only is bool(os.statvfs(directory).f_flag & os.ST_RDONLY)


def test_an_old_answer_about_the_room_is_none(tmp_path: Path, hung: Hung) -> None:
    """The disk hangs, so nobody knows how much room there is."""
    now = [0.0]
    writes = StateWrites(tmp_path, lambda: now[0])
    writes.start()
    eventually(lambda: writes.room is not None, "the directory was asked")
    writes.put("a", lambda: hung.write("a"))
    assert hung.asked.wait(PATIENCE_SECONDS)
    now[0] = 61.0
    assert writes.room is None
    hung.may_answer.set()
    eventually(lambda: writes.room is not None, "the directory was asked again")
    writes.stop()
