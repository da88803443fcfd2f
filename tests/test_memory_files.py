"""Temporary files are in memory only where that works, because a full or limited file system would fail other tests."""

import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import memory_files


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin as a shell without TMPDIR, and give back the place of this run's files."""
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory with enough room."""
    free(monkeypatch, 1 << 40)
    return tmp_path


def free(patches: pytest.MonkeyPatch, number: int) -> None:
    """Let every file system have this number of free bytes."""
    patches.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=number))


def test_files_are_made_there(memory: Path) -> None:
    """That holds for children by the environment, and for this process even if it has asked for the place before."""
    assert Path(tempfile.gettempdir()) != memory
    memory_files.use_memory(memory)
    assert os.environ["TMPDIR"] == str(memory)
    assert Path(tempfile.gettempdir()) == memory


def test_the_place_that_was_asked_for_stays(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sets TMPDIR has a reason."""
    monkeypatch.setenv("TMPDIR", "/var/tmp")  # noqa: S108 - nothing is written there
    memory_files.use_memory(memory)
    assert os.environ["TMPDIR"] == "/var/tmp"  # noqa: S108


def test_no_place_without_room_is_used(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container has 64 MiB by default."""
    free(monkeypatch, 64 << 20)
    memory_files.use_memory(memory)
    assert "TMPDIR" not in os.environ


def test_no_place_is_used_where_programs_cannot_run(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some tests write a program and start it."""
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_NOEXEC))
    memory_files.use_memory(memory)
    assert "TMPDIR" not in os.environ


def test_no_place_is_used_that_is_not_there(memory: Path) -> None:
    """Other systems have none."""
    memory_files.use_memory(memory / "missing")
    assert "TMPDIR" not in os.environ
