import fcntl
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peruserd.couch.refusals import FILE_NAME, BusyError, RefusalFile


def test_what_one_process_writes_another_one_reads(tmp_path: Path) -> None:
    """Each use reads the file, and a shorter record leaves nothing of a longer one."""
    with RefusalFile(tmp_path).held() as record:
        assert record.times == ()
        record.write((1.0, 2.0, 3.5))
    other = RefusalFile(tmp_path)
    with other.held() as record:
        assert record.times == (1.0, 2.0, 3.5)
        record.write((3.5,))
    with RefusalFile(tmp_path).held() as record:
        assert record.times == (3.5,)
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == [FILE_NAME]


def test_one_at_a_time_holds_the_record(tmp_path: Path) -> None:
    """Another process learns at once that it must wait, and gets the lock when the first has finished."""
    with RefusalFile(tmp_path).held(), pytest.raises(BusyError), RefusalFile(tmp_path).held():
        pass
    with RefusalFile(tmp_path).held():
        pass


def test_without_a_state_directory_a_process_knows_its_own(tmp_path: Path) -> None:
    """No file is made, because a command must not make one before the daemon ran."""
    file = RefusalFile(tmp_path / "nowhere")
    with file.held() as record:
        record.write((5.0,))
    with file.held() as record:
        assert record.times == (5.0,)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_known_to_the_process_at_least(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a full disk logins go on, and refusals are still counted."""
    file = RefusalFile(tmp_path)

    def full(*_arguments: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, file.held() as record:
        patched.setattr(os, "pwrite", full)
        record.write((7.0,))
    with file.held() as record:
        assert record.times == (7.0,)


@given(content=st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_record_that_cannot_be_read_is_an_empty_one(tmp_path: Path, content: bytes) -> None:
    """A damaged file is overwritten."""
    (tmp_path / FILE_NAME).write_bytes(content)
    with RefusalFile(tmp_path).held() as record:
        assert all(isinstance(each, float) for each in record.times)
        record.write((1.0,))
    with RefusalFile(tmp_path).held() as record:
        assert record.times == (1.0,)


@pytest.mark.parametrize("call", ["flock", "pread"])
def test_a_file_that_cannot_be_locked_or_read_stops_no_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """If the file system has no locks or fails, the process goes on with its own refusals."""
    file = RefusalFile(tmp_path)

    def fail(*_arguments: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(fcntl if call == "flock" else os, call, fail)
    open_files = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with file.held() as record:
            record.write((7.0,))
    assert len(list(Path("/proc/self/fd").iterdir())) == open_files
    if call == "flock":
        with file.held() as record:
            assert record.times == (7.0,)
