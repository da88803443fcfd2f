"""A run has a directory for its temporary files. It is in memory only where that works: otherwise other tests fail."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.temporary_files import use_own_directory

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Begin as a new run without TMPDIR; return the place of temporary files without a choice."""
    for name in ("TMPDIR", "TESTS_OF_PERUSERD_FILES", "PYTEST_DEBUG_TEMPROOT"):
        # Set first, so that it is given back also where the test sets it.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    place = tmp_path / "elsewhere"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory with enough room."""
    free(monkeypatch, 1 << 40)
    place = tmp_path / "memory"
    place.mkdir()
    return place


def free(patches: pytest.MonkeyPatch, number: int) -> None:
    """Let every file system have this number of free bytes."""
    patches.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=number))


def places() -> tuple[Path, Path, Path]:
    """Return the parent of the run's directory, and where this process and pytest make files."""
    return (
        Path(os.environ["TMPDIR"]).parent,
        Path(tempfile.gettempdir()).parent,
        Path(os.environ["PYTEST_DEBUG_TEMPROOT"]),
    )


def test_files_are_made_there(memory: Path, elsewhere: Path) -> None:
    """That holds for children by the environment, and for this process even if it has asked for the place before."""
    assert Path(tempfile.gettempdir()) == elsewhere
    use_own_directory(memory)
    assert places() == (memory, memory, memory)


def test_the_place_that_was_asked_for_is_used(memory: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person who sets TMPDIR has a reason."""
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    use_own_directory(memory)
    assert places() == (elsewhere, elsewhere, elsewhere)


def test_no_memory_without_room_is_used(memory: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container has 64 MiB by default."""
    free(monkeypatch, 64 << 20)
    use_own_directory(memory)
    assert places() == (elsewhere, elsewhere, elsewhere)


def test_no_memory_is_used_where_programs_cannot_run(
    memory: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some tests write a program and start it."""
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_NOEXEC))
    use_own_directory(memory)
    assert places() == (elsewhere, elsewhere, elsewhere)


def test_no_memory_is_used_that_is_not_there(memory: Path, elsewhere: Path) -> None:
    """Other systems have none."""
    use_own_directory(memory / "missing")
    assert places() == (elsewhere, elsewhere, elsewhere)


def test_a_worker_uses_the_directory_of_its_run(memory: Path) -> None:
    """The run removes one directory."""
    use_own_directory(memory)
    used = os.environ["TMPDIR"]
    use_own_directory(memory)
    assert os.environ["TMPDIR"] == used
    assert [str(each) for each in memory.iterdir()] == [used]


def test_nothing_is_left_there_at_the_end(memory: Path) -> None:
    """Processes that tests kill leave files behind."""
    code = "import sys, tempfile; from pathlib import Path; from tests.temporary_files import use_own_directory\n"
    code += "use_own_directory(Path(sys.argv[1])); tempfile.mkdtemp(); print(tempfile.gettempdir())"
    environment = os.environ | {"TMPDIR": str(memory)}
    ran = subprocess.run(
        [sys.executable, "-c", code, str(memory)], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert Path(ran.stdout.strip()).parent == memory
    assert list(memory.iterdir()) == []
