import itertools
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from peruserd.core.audit.findings import Finding
from peruserd.core.audit.rounds import Part, Round, Rounds, Summary
from peruserd.core.feed.progress import SavedProgress, Scan
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.ownership.ranges import WHOLE_SPACE
from peruserd.core.scheduling.records import Erasure
from peruserd.core.users.quarantine import Advice, Failure, Quarantined
from peruserd.listener.store import Store, StoreError

OWNERSHIP = Ownership("_users", WHOLE_SPACE, ((WHOLE_SPACE, ("n1", "n2")),), ("n1", "n2"))
SAVED = SavedProgress("copy", 41, OWNERSHIP, covered=(OWNERSHIP,), scan=Scan(until=40, position=7))
EMPTY: tuple[None, list[Quarantined], set[str]] = (None, [], set())


def _entry(document_id: str, message: str = "500") -> Quarantined:
    failure = Failure("server_error", message, Advice.ASK_OPERATOR)
    return Quarantined(document_id, deleted=True, failure=failure, failures=3, since=1.5, contested=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the state file is; its directory is not made yet."""
    return tmp_path / "state" / "copy.sqlite"


@pytest.fixture
def opened(path: Path) -> Iterator[Callable[[], Store]]:
    """Open the store, again and again: an earlier one is closed first."""
    stores: list[Store] = []

    def open_again() -> Store:
        if stores:
            stores.pop().close()
        stores.append(Store.open(path))
        return stores[-1]

    yield open_again
    for store in stores:
        store.close()


def test_a_new_file_holds_nothing(opened: Callable[[], Store]) -> None:
    """The directory is made where it is missing, and nothing is known."""
    assert opened().load() == EMPTY


def test_the_directory_is_nobody_elses(opened: Callable[[], Store], path: Path) -> None:
    """The files in the new directory name users, so only its owner may read it."""
    opened()
    assert path.parent.stat().st_mode & 0o077 == 0


def test_everything_is_there_after_a_restart(opened: Callable[[], Store]) -> None:
    """Progress, quarantine and doubts survive the end of the process."""
    store = opened()
    store.save(SAVED)
    store.quarantine(_entry("a"))
    store.quarantine(_entry("ü\0"))
    store.record_intent("b")
    saved, quarantined, doubts = opened().load()
    assert saved == SAVED
    assert sorted(quarantined, key=str) == sorted([_entry("a"), _entry("ü\0")], key=str)
    assert doubts == {"b"}


def test_only_the_newest_is_kept(opened: Callable[[], Store]) -> None:
    """Progress and each user's entry are replaced, not piled up; a doubt can be noted twice."""
    store = opened()
    for checkpoint in (1, "2-opaque"):
        store.save(SavedProgress("copy", checkpoint, OWNERSHIP))
    for message in ("first", "second"):
        store.quarantine(_entry("a", message))
        store.record_intent("a")
    assert opened().load() == (SavedProgress("copy", "2-opaque", OWNERSHIP), [_entry("a", "second")], {"a"})


def test_what_is_not_new_is_not_written(opened: Callable[[], Store]) -> None:
    """A quiet listener saves the same progress again and again; the disk is written only if something is new."""
    store = opened()
    written = []
    for each in (SAVED, SAVED, msgspec.structs.replace(SAVED, checkpoint=42), SAVED):
        store.save(each)
        written.append(store._connection.total_changes)
    assert [now - before for before, now in itertools.pairwise([0, *written])] == [1, 0, 1, 1]
    store.quarantine(_entry("a"))
    store.remove_later("a", Erasure.BOTH)
    store.save(SAVED)
    assert opened().load() == (SAVED, [], set())


def test_those_served_are_forgotten_with_the_next_save(opened: Callable[[], Store]) -> None:
    """Quarantine and doubt of a user go together with the progress that says the work is done, not before."""
    store = opened()
    store.quarantine(_entry("a"))
    store.record_intent("a")
    store.remove_later("a", Erasure.BOTH)
    store = opened()
    assert store.load() == (None, [_entry("a")], {"a"})
    store.remove_later("a", Erasure.BOTH)
    store.save(SAVED)
    assert opened().load() == (SAVED, [], set())


def test_those_released_stay_in_doubt(opened: Callable[[], Store]) -> None:
    """A user with another owner leaves the quarantine; the doubt about the security object stays."""
    store = opened()
    store.quarantine(_entry("a"))
    store.record_intent("a")
    store.remove_later("a", Erasure.ENTRY)
    store.save(SAVED)
    assert opened().load() == (SAVED, [], {"a"})


def test_what_happens_after_it_was_served_stands(opened: Callable[[], Store]) -> None:
    """A user who was served, and fails or is written again before the next save, is not forgotten by it."""
    store = opened()
    for document_id in "ab":
        store.quarantine(_entry(document_id, "old"))
        store.record_intent(document_id)
        store.remove_later(document_id, Erasure.BOTH)
    store.quarantine(_entry("a", "new"))
    store.record_intent("b")
    store.save(SAVED)
    saved, quarantined, doubts = opened().load()
    assert (saved, quarantined) == (SAVED, [_entry("a", "new")])
    assert "b" in doubts


# Files that cannot be used


def _spoil_whole(path: Path) -> None:
    path.write_bytes(b"this is no database at all" * 100)


def _spoil_pages(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[1024:] = b"\xaa" * (len(content) - 1024)
    path.write_bytes(content)


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _forbid_writes(path: Path) -> None:
    content = bytearray(path.read_bytes())
    # The version of the format that a writer must know.
    content[18] |= 0x80
    path.write_bytes(content)


def _spoil_texts(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"x" * 100, b"\xff" * 100))


def _change(statement: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        connection = sqlite3.connect(path)
        connection.executescript(statement)
        connection.close()

    return change


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(_spoil_whole, id="no-database"),
        pytest.param(_spoil_pages, id="pages-overwritten"),
        pytest.param(_cut_short, id="cut-short"),
        pytest.param(_change("PRAGMA user_version=99"), id="of-a-later-version"),
        pytest.param(_change("DROP TABLE doubt"), id="table-missing"),
        pytest.param(_change("ALTER TABLE progress RENAME COLUMN saved TO x"), id="column-missing"),
        pytest.param(_change("UPDATE progress SET saved = x'c1'"), id="progress-unreadable"),
        pytest.param(_change("UPDATE quarantine SET entry = x'80'"), id="quarantine-of-another-shape"),
        pytest.param(_change("ALTER TABLE deletions RENAME COLUMN entry TO x"), id="deletions-of-another-shape"),
        pytest.param(_forbid_writes, id="header-forbids-writes"),
        pytest.param(_spoil_texts, id="text-inside-a-value-spoilt"),
        pytest.param(_change("PRAGMA user_version=0"), id="version-lost"),
        pytest.param(_change("UPDATE progress SET saved = 7"), id="progress-a-number"),
        pytest.param(_change("UPDATE quarantine SET entry = 'text'"), id="quarantine-a-text"),
        pytest.param(_change("UPDATE quarantine SET entry = CAST(x'ff' AS TEXT)"), id="quarantine-no-text"),
        pytest.param(_change("INSERT INTO doubt VALUES (x'61')"), id="doubt-of-bytes"),
        pytest.param(_change("INSERT INTO doubt VALUES (CAST(x'ff' AS TEXT))"), id="doubt-no-text"),
        pytest.param(_change("ALTER TABLE quarantine RENAME COLUMN document_id TO x"), id="key-of-quarantine-missing"),
        pytest.param(_change("ALTER TABLE audit RENAME COLUMN rounds TO x"), id="rounds-of-another-shape"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_set_aside(
    opened: Callable[[], Store], path: Path, spoil: Callable[[Path], None]
) -> None:
    """A file that is damaged, or of another version or shape, is kept under another name, and a fresh one is used."""
    store = opened()
    store.save(SAVED)
    for number in range(50):
        store.quarantine(_entry(f"user-{number}", "x" * 100))
    store.close()
    spoil(path)
    spoiled = path.read_bytes()
    fresh = opened()
    assert fresh.load() == EMPTY
    assert path.with_name(path.name + ".unusable-1").read_bytes() == spoiled
    fresh.save(SAVED)
    assert opened().load() == (SAVED, [], set())


def test_what_was_set_aside_is_not_overwritten(opened: Callable[[], Store], path: Path) -> None:
    """A file that goes bad again and again leaves each of its remains."""
    for _ in range(3):
        opened().close()
        _spoil_whole(path)
    opened()
    assert sorted(each.name for each in path.parent.iterdir() if "unusable" in each.name) == [
        f"{path.name}.unusable-{number}" for number in (1, 2, 3)
    ]


def test_a_second_listener_on_a_file_is_turned_away(opened: Callable[[], Store], path: Path) -> None:
    """A file in use is an error that says so and asks the right question; nothing is set aside."""
    store = opened()
    store.save(SAVED)
    with pytest.raises(StoreError, match="in use by another process: is a second peruserd running"):
        Store.open(path)
    store.save(SAVED)
    assert [each.name for each in path.parent.iterdir() if "unusable" in each.name] == []


_OTHER_PROCESS = """
import sys
from pathlib import Path
from peruserd.listener.store import Store, StoreError
try:
    Store.open(Path(sys.argv[1]))
except StoreError as error:
    print(error)
"""


def test_a_second_process_on_a_file_is_turned_away(opened: Callable[[], Store], path: Path) -> None:
    """So is one of another process, even before anything was written."""
    opened()
    said = subprocess.run(
        [sys.executable, "-c", _OTHER_PROCESS, str(path)], capture_output=True, text=True, check=True
    ).stdout
    assert "in use by another process" in said


# Disks and directories


_KILLED = """
import os, signal, sys
from pathlib import Path
from tests.listener.test_store import SAVED, _entry
from peruserd.listener.store import Store
store = Store.open(Path(sys.argv[1]))
store.save(SAVED)
store.quarantine(_entry("a"))
store.record_intent("b")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_is_killed_loses_nothing(opened: Callable[[], Store], path: Path) -> None:
    """A call that has returned has written to the disk, however the process ends."""
    ended = subprocess.run(
        [sys.executable, "-c", _KILLED, str(path)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    assert opened().load() == (SAVED, [_entry("a")], {"b"})


def test_a_full_disk_is_an_error_and_loses_nothing(opened: Callable[[], Store]) -> None:
    """A write that does not fit fails as a whole; the earlier contents stay, and can be read again."""
    store = opened()
    store.save(SAVED)
    store._connection.execute("PRAGMA max_page_count=12")
    kept: list[str] = []

    def fill() -> None:
        while len(kept) < 1000:
            store.quarantine(_entry(f"user-{len(kept)}", "x" * 1000))
            kept.append(f"user-{len(kept)}")

    with pytest.raises(StoreError, match=r"cannot keep state in .*full"):
        fill()
    later = SavedProgress("copy", 99, OWNERSHIP, covered=tuple([OWNERSHIP] * 500))
    with pytest.raises(StoreError):
        store.save(later)
    saved, quarantined, _ = opened().load()
    assert saved == SAVED
    assert sorted(each.document_id for each in quarantined) == sorted(kept)
    assert kept


_LIMITED = """
import resource, signal, sys
from pathlib import Path
from tests.listener.test_store import SAVED, _entry
from peruserd.listener.store import Store, StoreError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = Store.open(Path(sys.argv[1]))
store.save(SAVED)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
count = 0
try:
    while True:
        store.quarantine(_entry(f"user-{count:04}", "x" * 1000))
        count += 1
except StoreError as error:
    print(count, error)
"""


def test_a_disk_that_takes_no_more_is_an_error_and_loses_nothing(opened: Callable[[], Store], path: Path) -> None:
    """The same holds if the system refuses the write: the next process reads everything that was confirmed."""
    said = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(path)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    count, _, words = said.partition(" ")
    assert words.startswith("cannot keep state in")
    saved, quarantined, _ = opened().load()
    assert saved == SAVED
    assert {each.document_id for each in quarantined} >= {f"user-{number:04}" for number in range(int(count))}
    assert int(count) > 0


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """Where there can be no file, the error names it."""
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "copy.sqlite"
    with pytest.raises(StoreError, match=r"cannot keep state in .*copy\.sqlite"):
        Store.open(path)


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "within").touch()


def _link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def _link_to_nothing(path: Path) -> None:
    path.symlink_to("/nowhere/copy.sqlite")


@pytest.mark.parametrize("beside", ["", "-wal", "-shm"])
@pytest.mark.parametrize("make", [_folder, _link_to_itself, _link_to_nothing, os.mkfifo])
def test_a_file_that_is_no_file_is_set_aside(path: Path, make: Callable[[Path], None], beside: str) -> None:
    """An operator who copies a state directory can leave anything there; a listener that cannot start serves nobody."""
    path.parent.mkdir()
    make(path.with_name(path.name + beside))
    store = Store.open(path)
    store.save(SAVED)
    store.close()
    assert path.is_file()
    assert os.path.lexists(path.with_name(path.name + ".unusable-1" + beside))


def test_a_file_of_another_account_is_set_aside(
    opened: Callable[[], Store], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An instance that was once started by root leaves a file that nobody else can write; it costs a scan."""
    store = opened()
    store.save(SAVED)
    store.close()
    # The tests may run as root, who may read and write everything.
    monkeypatch.setattr(os, "access", lambda _file, _how: False)
    assert opened().load() == EMPTY
    assert path.with_name(path.name + ".unusable-1").is_file()


def test_a_directory_that_cannot_be_written_is_an_error(path: Path) -> None:
    """No permission is an error, and a sound file stays where it is."""
    Store.open(path).close()
    path.parent.chmod(0o500)
    try:
        if os.access(path.parent, os.W_OK):
            pytest.skip("root may write everywhere")
        with pytest.raises(StoreError, match="cannot keep state in"):
            Store.open(path.with_name("other.sqlite"))
    finally:
        path.parent.chmod(0o700)


def test_a_damaged_file_that_cannot_be_moved_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where setting aside fails, the listener says why and does not crash."""
    path.parent.mkdir()
    _spoil_whole(path)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(StoreError, match="Permission denied"):
        Store.open(path)


def test_a_file_that_is_removed_while_it_is_opened_is_made_anew(
    opened: Callable[[], Store], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever removes a retired file holds its lock. The next listener of that copy must not write into a lost file."""
    store = opened()
    store.save(SAVED)
    store.close()
    connect, turns = sqlite3.connect, itertools.count()

    def remove_then_connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        if next(turns) == 0:
            # SQLite opens the file with the first statement.
            connection.execute("PRAGMA user_version").fetchone()
            path.unlink()
        return connection

    monkeypatch.setattr(sqlite3, "connect", remove_then_connect)
    anew = Store.open(path)
    assert anew.load() == EMPTY
    anew.save(SAVED)
    anew.close()
    assert opened().load() == (SAVED, [], set())


def test_a_file_that_is_always_removed_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the listener, which is started again after a pause."""
    connect = sqlite3.connect

    def remove_then_connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.execute("CREATE TABLE IF NOT EXISTS something (id)")
        path.unlink()
        return connection

    monkeypatch.setattr(sqlite3, "connect", remove_then_connect)
    with pytest.raises(StoreError, match="cannot keep state"):
        Store.open(path)


def test_the_rounds_of_the_audit_survive(tmp_path: Path) -> None:
    """Both the round that goes on and the last whole one are there after a restart."""
    path = tmp_path / "state.sqlite"
    running = Round(2, 500.0, "uuid", Part.USERS, 17, rows=20, users=8).found([Finding.MISSING])
    rounds = Rounds(running, Summary(100.0, 160.0, 7, {Finding.PUBLIC: 1}), 2)
    with closing(Store.open(path)) as store:
        assert store.rounds() == Rounds()
        store.keep_rounds(rounds)
    with closing(Store.open(path)) as store:
        assert store.rounds() == rounds


def test_rounds_that_cannot_be_read_cost_one_round_and_no_scan(tmp_path: Path) -> None:
    """Damaged rounds are no reason to set the file aside with its progress."""
    path = tmp_path / "state.sqlite"
    with closing(Store.open(path)) as store:
        store.keep_rounds(Rounds(number=5))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE audit SET rounds = x'ff'")
        connection.commit()
    with closing(Store.open(path)) as store:
        assert store.rounds() == Rounds()
    assert [each.name for each in tmp_path.iterdir() if "unusable" in each.name] == []
