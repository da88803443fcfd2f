"""State files that nobody uses any more: what was in doubt is taken over, and the files go."""

import sqlite3
from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from peruserd.listener.retired_files import RetiredFiles
from peruserd.listener.store import Store, StoreError


class Successor:
    """A listener that takes over doubts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.doubts: list[set[str]] = []
        self.full = False
        self.files = RetiredFiles(directory, self._take_over)

    def _take_over(self, doubts: Collection[str]) -> None:
        if self.full:
            raise StoreError("full")
        self.doubts.append(set(doubts))

    def see_to_all(self, *in_use: str) -> list[str]:
        """See to every retired file; return the names of all files that are left."""
        self.files.look_for(in_use)
        while self.files.pending:
            self.files.see_to_next()
        return self.left()

    def left(self) -> list[str]:
        return sorted(each.name for each in self.directory.iterdir())


@pytest.fixture
def successor(tmp_path: Path) -> Successor:
    """A listener whose directory has no state files yet."""
    return Successor(tmp_path)


def leave(path: Path, *doubts: str) -> Path:
    """Leave a state file with these documents in doubt."""
    with closing(Store.open(path)) as store:
        for each in doubts:
            store.record_intent(each)
    return path


def test_doubts_are_taken_over_and_the_files_go(successor: Successor, tmp_path: Path) -> None:
    """Files in use stay, with all that is in them."""
    for name, doubts in (("a", ("ann", "bob")), ("b", ()), ("mine", ("eve",))):
        leave(tmp_path / f"{name}.sqlite", *doubts)
    assert successor.see_to_all("mine.sqlite", "to-come.sqlite") == ["mine.sqlite"]
    assert successor.doubts == [{"ann", "bob"}, set()]
    with closing(Store.open(tmp_path / "mine.sqlite")) as store:
        assert store.load()[2] == {"eve"}


def test_other_files_are_left_alone(successor: Successor, tmp_path: Path) -> None:
    """The lock's record, files set aside and other things in the directory are no state files."""
    names = ["instance.json", "a.sqlite.unusable-1", "b.sqlite-wal", "control.sock", "forkserver"]
    for name in names:
        (tmp_path / name).touch()
    assert successor.see_to_all() == sorted(names)


def test_a_file_stays_until_its_doubts_are_kept(successor: Successor, tmp_path: Path) -> None:
    """If the successor cannot write them, the next one finds them again."""
    leave(tmp_path / "a.sqlite", "ann")
    successor.full = True
    with pytest.raises(StoreError):
        successor.see_to_all()
    successor.full = False
    successor.files.see_to_next()
    assert not successor.files.pending
    assert (successor.left(), successor.doubts) == ([], [{"ann"}])


def test_a_file_in_use_is_left_alone(successor: Successor, tmp_path: Path) -> None:
    """A listener may have opened it meanwhile, and resolves its doubts itself."""
    with closing(Store.open(tmp_path / "a.sqlite")) as used:
        used.record_intent("ann")
        with capture_logs() as logged:
            successor.see_to_all()
        assert [each["event"] for each in logged] == ["retired state file left alone"]
        used.record_intent("bob")
        assert used.load()[2] == {"ann", "bob"}
    assert successor.see_to_all() == []
    assert successor.doubts == [{"ann", "bob"}]


def _damage(path: Path) -> None:
    path.write_bytes(b"this is no database" * 100)


def _without_table(path: Path) -> None:
    _change(path, "DROP TABLE doubt")


def _of_another_version(path: Path) -> None:
    _change(path, "PRAGMA user_version=1")


def _of_another_kind(path: Path) -> None:
    _change(path, "INSERT INTO doubt VALUES (x'ff')")


def _change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


@pytest.mark.parametrize("spoil", [_damage, _without_table, _of_another_version, _of_another_kind])
def test_a_file_that_cannot_be_trusted_is_set_aside_once(
    successor: Successor, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """It holds up nobody, and the next listener does not meet it again."""
    spoil(leave(tmp_path / "a.sqlite", "ann"))
    leave(tmp_path / "b.sqlite", "bob")
    for _ in range(2):
        (left,) = (each for each in successor.see_to_all() if not each.endswith(("-wal", "-shm")))
        assert left == "a.sqlite.unusable-1"
    assert successor.doubts == [{"bob"}]


def test_a_file_that_cannot_be_removed_gives_its_doubts_again(
    successor: Successor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does no harm to take them over twice."""
    leave(tmp_path / "a.sqlite", "ann")

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    for _ in range(2):
        assert "a.sqlite" in successor.see_to_all()
    assert successor.doubts == [{"ann"}] * 2


def test_nothing_is_left_of_a_file_for_the_next_one_of_its_name(successor: Successor, tmp_path: Path) -> None:
    """The write-ahead log goes as well, also that of a process that was killed."""
    path = tmp_path / "a.sqlite"
    killed = Store.open(path)
    killed.record_intent("ann")
    names = [each.name for each in tmp_path.iterdir()]
    copies = {name: (tmp_path / name).read_bytes() for name in names}
    killed.close()
    for name, content in copies.items():
        (tmp_path / name).write_bytes(content)
    assert "a.sqlite-wal" in names
    assert successor.see_to_all() == []
    assert successor.doubts == [{"ann"}]


def test_a_newer_list_counts_in_place_of_an_older_one(successor: Successor, tmp_path: Path) -> None:
    """A copy that is followed again keeps its file, though the file was retired a moment ago."""
    for name in ("a", "b"):
        leave(tmp_path / f"{name}.sqlite", name)
    successor.files.look_for(())
    assert successor.see_to_all("b.sqlite") == ["b.sqlite"]


def test_a_file_that_is_gone_is_passed_over(successor: Successor, tmp_path: Path) -> None:
    """Nothing is made in its place."""
    leave(tmp_path / "a.sqlite", "ann").unlink()
    leave(tmp_path / "a.sqlite", "ann")
    successor.files.look_for(())
    (tmp_path / "a.sqlite").unlink()
    successor.files.see_to_next()
    assert (successor.left(), successor.doubts) == ([], [])


def test_a_directory_that_cannot_be_listed_has_no_retired_files(tmp_path: Path) -> None:
    """The log says so, and the listener goes on."""
    successor = Successor(tmp_path / "nowhere")
    with capture_logs() as logged:
        successor.files.look_for(())
        successor.files.see_to_next()
    assert not successor.files.pending
    assert [each["event"] for each in logged] == ["retired state files cannot be listed"]
