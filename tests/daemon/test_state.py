"""The state directory: the file of each copy, and files that belong to no copy any more."""

import errno
import os
from pathlib import Path

import pytest

from peruserd.core.cluster.views import Copy, Feed
from peruserd.core.configuration.config import Config, StateConfig
from peruserd.core.configuration.decoding import ConfigError
from peruserd.core.configuration.problems import TemporaryError
from peruserd.core.ownership.ranges import WHOLE_SPACE, Range
from peruserd.daemon.state import DEFAULT_STATE_DIRECTORY, StateDirectory

LOWER, UPPER = Range(0, 0x7FFFFFFF), Range(0x80000000, 0xFFFFFFFF)
COPY = Copy("_users", LOWER, "n1@host", ".1")
OTHERS = [
    Copy("_users", UPPER, "n1@host", ".1"),
    Copy("_users", WHOLE_SPACE, "n1@host", ".1"),
    Copy("_users", LOWER, "n2@host", ".1"),
    Copy("_users", LOWER, "n1@host", ".2"),
    Copy("a/b", LOWER, "n1@host", ".1"),
    Copy("a~b", LOWER, "n1@host", ".1"),
    Copy("_users", LOWER, "n1@host/..", ".1"),
    Copy("_users", WHOLE_SPACE, "_local", feed=Feed.DATABASE),
]


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    """A state directory."""
    directory = StateDirectory(tmp_path / "state")
    directory.prepare()
    return directory


def test_the_directory_is_the_configured_one_else_systemds_else_the_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of these that is set is used."""
    monkeypatch.setenv("STATE_DIRECTORY", "/run/systemds")
    assert StateDirectory.configured(Config(state=StateConfig(directory="/mine"))).path == Path("/mine")
    assert StateDirectory.configured(Config()).path == Path("/run/systemds")
    monkeypatch.setenv("STATE_DIRECTORY", "/run/first:/run/second")
    assert StateDirectory.configured(Config()).path == Path("/run/first")
    monkeypatch.delenv("STATE_DIRECTORY")
    assert StateDirectory.configured(Config()).path == Path(DEFAULT_STATE_DIRECTORY)


def test_a_missing_directory_is_made_for_nobody_else(tmp_path: Path) -> None:
    """Parents are made too. Only the daemon's user may read the directory, and the test of writing leaves no file."""
    directory = StateDirectory(tmp_path / "deep" / "state")
    directory.prepare()
    directory.prepare()
    assert directory.path.stat().st_mode & 0o777 == 0o700
    assert list(directory.path.iterdir()) == []


@pytest.mark.parametrize("below", ["file", "file/state", "x" * 300])
def test_a_path_that_can_be_no_directory_is_a_mistake_of_the_configuration(tmp_path: Path, below: str) -> None:
    """The error names the key and the path, and no other try could help."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=rf"state\.directory.*{below}") as caught:
        StateDirectory(tmp_path / below).prepare()
    assert not isinstance(caught.value, TemporaryError)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_disk_that_cannot_be_written_now_is_no_mistake_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """The start is tried again by itself, so it succeeds once there is room, and nothing is left behind meanwhile."""

    def fail(path: Path, _content: bytes) -> None:
        path.touch()
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(TemporaryError, match=rf"state\.directory.*{os.strerror(error)}"):
        StateDirectory(tmp_path / "state").prepare()
    assert list((tmp_path / "state").iterdir()) == []


def test_each_copy_has_a_file_of_its_own_in_the_directory(state: StateDirectory) -> None:
    """For all names of databases and nodes, files differ and are inside the directory."""
    files = [state.file_of(copy) for copy in (COPY, *OTHERS)]
    assert len(set(files)) == len(files)
    for file in files:
        assert file.parent == state.path
        file.touch()
    assert set(state.path.iterdir()) == set(files)


@pytest.mark.parametrize("below", ["link", "link/state"])
def test_a_link_to_a_disk_that_is_not_mounted_yet_may_lead_somewhere_later(tmp_path: Path, below: str) -> None:
    """The system's own error says that something is in the way, which would be given up for good."""
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    directory = StateDirectory(tmp_path / below)
    with pytest.raises(TemporaryError, match=rf"link is a link to {tmp_path / 'disk'}, which is not there"):
        directory.prepare()
    (tmp_path / "disk").mkdir()
    directory.prepare()


def test_links_that_lead_to_each_other_are_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    """No disk that is mounted later could help."""
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    with pytest.raises(ConfigError) as raised:
        StateDirectory(tmp_path / "one").prepare()
    assert not isinstance(raised.value, TemporaryError)
