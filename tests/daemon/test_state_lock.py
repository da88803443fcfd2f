"""The lock on a state directory, with other processes if necessary."""

import subprocess
import sys
from pathlib import Path

import pytest

from peruserd.core.configuration.problems import TemporaryError
from peruserd.daemon.state_lock import StateLock

# This program takes the directory, says so, and holds it until its standard input ends or it is killed.
HOLDER = """
import sys
from pathlib import Path
from peruserd.daemon.state_lock import StateLock
state_lock = StateLock.take(Path(sys.argv[1]))
print(state_lock.incarnation, flush=True)
sys.stdin.read()
"""


def _hold(directory: Path) -> tuple[subprocess.Popen[str], str]:
    """Let another process take the directory; return it and its incarnation."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    return holder, holder.stdout.readline().strip()


def test_the_first_start_replaces_nobody(tmp_path: Path) -> None:
    """A new state directory has no predecessor."""
    state_lock = StateLock.take(tmp_path)
    assert state_lock.incarnation
    assert state_lock.replaces is None
    state_lock.release()


def test_each_start_has_a_name_of_its_own_and_knows_the_one_before(tmp_path: Path) -> None:
    """The record of a start stays. By this record its successor can name the incarnation before it."""
    names: list[str] = []
    for _ in range(4):
        state_lock = StateLock.take(tmp_path)
        assert state_lock.replaces == (names[-1] if names else None)
        names.append(state_lock.incarnation)
        state_lock.release()
    assert len(set(names)) == 4


def test_a_start_expects_whom_the_one_before_believed_in(tmp_path: Path) -> None:
    """The record stays after the process, and a start that remembers nothing passes it on."""
    first = StateLock.take(tmp_path)
    assert first.expected is None
    first.remember(("n1", "n2", "n3"))
    first.remember(("n1",))
    first.release()
    for _ in range(2):
        state_lock = StateLock.take(tmp_path)
        assert state_lock.expected == ("n1",)
        state_lock.release()


def test_a_record_of_an_earlier_version_still_names_the_one_before(tmp_path: Path) -> None:
    """A record without instances does not mean that there were none."""
    (tmp_path / "instance.json").write_bytes(b'{"incarnation":"ab"}')
    state_lock = StateLock.take(tmp_path)
    assert (state_lock.replaces, state_lock.expected) == ("ab", None)
    state_lock.release()


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    """Two instances on one state directory would damage each other's files. The error names the directory."""
    state_lock = StateLock.take(tmp_path)
    with pytest.raises(TemporaryError, match=str(tmp_path)):
        StateLock.take(tmp_path)
    state_lock.release()
    StateLock.take(tmp_path).release()


def test_one_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    """The next process still replaces the one that held the directory."""
    state_lock = StateLock.take(tmp_path)
    with pytest.raises(TemporaryError):
        StateLock.take(tmp_path)
    state_lock.release()
    successor = StateLock.take(tmp_path)
    assert successor.replaces == state_lock.incarnation
    successor.release()


def test_a_second_process_is_refused_until_the_first_is_gone_however_it_ends(tmp_path: Path) -> None:
    """The kernel releases the lock when its holder is killed, so a new holder proves that the predecessor has ended."""
    holder, incarnation = _hold(tmp_path)
    with holder:
        with pytest.raises(TemporaryError):
            StateLock.take(tmp_path)
        holder.kill()
        holder.wait()
    state_lock = StateLock.take(tmp_path)
    assert state_lock.replaces == incarnation
    state_lock.release()


def test_a_child_does_not_keep_the_directory(tmp_path: Path) -> None:
    """A listener that lives a moment longer than its supervisor does not keep the lock."""
    state_lock = StateLock.take(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        close_fds=False,
    ) as child:
        assert child.stdout is not None
        # A child's descriptors are closed when its program begins, a moment after the fork.
        assert child.stdout.readline()
        state_lock.release()
        StateLock.take(tmp_path).release()
        assert child.poll() is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"incarnation": 5}',
        b'{"incarnation":"\xff"}',
        b"\x00" * 100,
        b'{"incarnation":"a"}x',
    ],
    ids=repr,
)
def test_a_damaged_record_replaces_nobody(tmp_path: Path, content: bytes) -> None:
    """A record that cannot be read names no predecessor. The start goes on, and writes its own record."""
    StateLock.take(tmp_path).release()
    (record,) = tmp_path.iterdir()
    record.write_bytes(content)
    state_lock = StateLock.take(tmp_path)
    assert state_lock.replaces is None
    state_lock.release()
    successor = StateLock.take(tmp_path)
    assert successor.replaces == state_lock.incarnation
    successor.release()


def test_a_longer_record_leaves_no_rest(tmp_path: Path) -> None:
    """Of another version's record the known fields are read, and the whole record is overwritten."""
    StateLock.take(tmp_path).release()
    (record,) = tmp_path.iterdir()
    record.write_text('{"incarnation":"of-another-version","more":"' + "x" * 1000 + '"}')
    state_lock = StateLock.take(tmp_path)
    assert state_lock.replaces == "of-another-version"
    state_lock.release()
    successor = StateLock.take(tmp_path)
    assert successor.replaces == state_lock.incarnation
    successor.release()


def test_only_its_owner_may_read_the_record(tmp_path: Path) -> None:
    """Only the daemon's own user may read the record."""
    state_lock = StateLock.take(tmp_path)
    (record,) = tmp_path.iterdir()
    assert record.stat().st_mode & 0o777 == 0o600
    state_lock.release()


def test_a_directory_that_is_not_there_cannot_be_taken(tmp_path: Path) -> None:
    """Another part makes the directory."""
    with pytest.raises(OSError, match="nowhere"):
        StateLock.take(tmp_path / "nowhere")
