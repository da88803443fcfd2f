"""The state of a listener on disk: one SQLite file for each shard copy, written by that copy's listener alone.

It holds:

- the progress
- the quarantine
- the documents *in doubt*: their security object was being written when the process ended. It must be written again
  whatever a read shows, because copies can disagree and a read shows only one.

Losing the file costs a scan. An unusable file is set aside, never trusted.
"""

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final, Self, TypeVar

import msgspec
import structlog

from peruserd.core.audit.rounds import Rounds
from peruserd.core.deletions.journal import Entry
from peruserd.core.feed.progress import SavedProgress
from peruserd.core.scheduling.records import Erasure
from peruserd.core.users.quarantine import Quarantined

T = TypeVar("T")

# `_VERSION` is raised whenever the meaning of the file changes: a file of another version is set aside.
_SAVED: Final = msgspec.msgpack.Decoder(SavedProgress)
_QUARANTINED: Final = msgspec.msgpack.Decoder(Quarantined)
_ENTRY: Final = msgspec.msgpack.Decoder(Entry)
_ROUNDS: Final = msgspec.msgpack.Decoder(Rounds)

# The message of an error can quote a damaged text from the file, and then Python cannot decode the message.
_FAILURES: Final = (sqlite3.Error, UnicodeDecodeError)

# The errors of SQLite that say nothing about the contents of the file. Extended codes have these in the low byte.
_OF_THE_MACHINE: Final = frozenset(
    getattr(sqlite3, f"SQLITE_{name}")
    for name in ("PERM", "BUSY", "LOCKED", "NOMEM", "INTERRUPT", "IOERR", "FULL", "CANTOPEN", "PROTOCOL")
)
_PRIMARY: Final = 0xFF

_VERSION: Final = 2
_SCHEMA: Final = """
    CREATE TABLE progress (id INTEGER PRIMARY KEY CHECK (id = 1), saved BLOB NOT NULL);
    CREATE TABLE quarantine (document_id TEXT PRIMARY KEY, entry BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE doubt (document_id TEXT PRIMARY KEY) WITHOUT ROWID;
"""

# These tables are independent of the version, because losing one of them costs no scan.
_AUDIT: Final = "CREATE TABLE IF NOT EXISTS audit (id INTEGER PRIMARY KEY CHECK (id = 1), rounds BLOB NOT NULL)"
_DELETIONS: Final = "CREATE TABLE IF NOT EXISTS deletions (id TEXT PRIMARY KEY, entry BLOB NOT NULL) WITHOUT ROWID"

# More than any single write takes, apart from a large quarantine's or journal's.
_TEST_BYTES: Final = 65_536
_TEST: Final = "CREATE TABLE IF NOT EXISTS test (filler BLOB)"

log = structlog.get_logger(__name__)


class StoreError(Exception):
    """The state cannot be read or written: a full disk, wrong permissions, another process on the same file."""


class DiskError(StoreError):
    """The disk takes no writes now, as when it is full. The file may be sound, and a later write may succeed."""


class Store:
    """One open state file. Any thread may call; the store has a lock of its own."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.Lock()
        self._saved: SavedProgress | None = None
        # The documents whose quarantine entry, and those whose doubt, is deleted with the next save.
        self._released: set[str] = set()
        self._certain: set[str] = set()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open or create the file; a damaged file, or one of another version, is set aside first.

        Raises StoreError where there can be no file at all.
        """
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return cls._open(path)
        except _UnusableError as error:
            reason = str(error)
        except (OSError, *_FAILURES) as error:
            raise StoreError(_explain(path, error)) from error
        try:
            aside = _set_aside(path)
            log.warning("state file set aside; its range will be scanned", file=path.name, aside=aside, reason=reason)
            return cls._open(path)
        except (OSError, *_FAILURES, _UnusableError) as error:
            raise StoreError(_explain(path, error)) from error

    @classmethod
    def _open(cls, path: Path) -> Self:
        if (odd := _odd_file(path)) is not None:
            raise _UnusableError(f"{odd} is no file that this account can read and write")
        connection = _connect(path)
        try:
            store = cls(path, connection)
            store.load()
            store.deletions()
            store.rounds()
        except (_UnreadableError, *_FAILURES) as error:
            connection.close()
            if not _is_of_the_file(error):
                raise
            raise _UnusableError(f"it holds something else than expected: {error}") from error
        return store

    def load(self) -> tuple[SavedProgress | None, list[Quarantined], set[str]]:
        """Return the progress (None in a new file), the quarantine, and the ids of the documents in doubt."""
        with self._lock:
            saved = self._connection.execute("SELECT id, saved FROM progress").fetchone()
            entries = self._connection.execute("SELECT document_id, entry FROM quarantine").fetchall()
            doubts = _doubts(self._connection)
        return (
            None if saved is None else _decoded(_SAVED, saved[1]),
            [_decoded(_QUARANTINED, entry) for _, entry in entries],
            doubts,
        )

    def save(self, saved: SavedProgress) -> None:
        """Write the progress and the removals that `remove_later` noted, if anything is new."""
        with self._lock:
            if saved == self._saved and not self._released and not self._certain:
                # This is the common case: long polls that end with nothing, all day.
                return
            released = [(document_id,) for document_id in self._released]
            certain = [(document_id,) for document_id in self._certain]
            self._write(
                ("INSERT OR REPLACE INTO progress VALUES (1, ?)", [(msgspec.msgpack.encode(saved),)]),
                ("DELETE FROM quarantine WHERE document_id = ?", released),
                ("DELETE FROM doubt WHERE document_id = ?", certain),
            )
            # Only now, because a write that fails is made again.
            self._released.clear()
            self._certain.clear()
            self._saved = saved

    def quarantine(self, entry: Quarantined) -> None:
        """Keep a user in quarantine, before the checkpoint passes the failed change."""
        with self._lock:
            self._released.discard(entry.document_id)
            self._write(
                (
                    "INSERT OR REPLACE INTO quarantine VALUES (?, ?)",
                    [(entry.document_id, msgspec.msgpack.encode(entry))],
                )
            )

    def record_intent(self, document_id: str) -> None:
        """Note that a security object is about to be written; the note is removed when the write is certain."""
        with self._lock:
            self._certain.discard(document_id)
            self._write(("INSERT OR IGNORE INTO doubt VALUES (?)", [(document_id,)]))

    def remove_later(self, document_id: str, what: Erasure) -> None:
        """Remove a user's quarantine, doubt or both with the next `save`.

        If the process dies before that, the next one finds the entry again, and repeats work that was done.
        """
        with self._lock:
            if what is not Erasure.DOUBT:
                self._released.add(document_id)
            if what is not Erasure.ENTRY:
                self._certain.add(document_id)

    def deletions(self) -> list[Entry]:
        """Return the kept deletions without unreadable ones: the journal has them all."""
        with self._lock:
            rows = self._connection.execute("SELECT id, entry FROM deletions").fetchall()
        return [entry for _, row in rows if (entry := _entry(row)) is not None]

    def keep_deletions(self, entries: Iterable[Entry]) -> None:
        """Keep entries of the journal here too; losing them costs one reading of the journal."""
        rows = [(each.id, msgspec.msgpack.encode(each)) for each in entries]
        with self._lock:
            self._write(("INSERT OR REPLACE INTO deletions VALUES (?, ?)", rows))

    def replace_deletions(self, entries: Iterable[Entry]) -> None:
        """Keep these entries and no others."""
        rows = [(each.id, msgspec.msgpack.encode(each)) for each in entries]
        with self._lock:
            self._write(("DELETE FROM deletions", [()]), ("INSERT INTO deletions VALUES (?, ?)", rows))

    def forget_deletions(self, ids: Iterable[str]) -> None:
        """Remove these entries."""
        with self._lock:
            self._write(("DELETE FROM deletions WHERE id = ?", [(each,) for each in ids]))

    def rounds(self) -> Rounds:
        """Return the rounds of the audit; none where they cannot be read, which costs one round."""
        with self._lock:
            row = self._connection.execute("SELECT id, rounds FROM audit").fetchone()
        try:
            return Rounds() if row is None else _decoded(_ROUNDS, row[1])
        except _UnreadableError:
            return Rounds()

    def keep_rounds(self, rounds: Rounds) -> None:
        """Keep the rounds of the audit; raises StoreError."""
        with self._lock:
            self._write(("INSERT OR REPLACE INTO audit VALUES (1, ?)", [(msgspec.msgpack.encode(rounds),)]))

    def test(self) -> None:
        """Write some pages that mean nothing, and remove them; raises DiskError if the disk takes none."""
        with self._lock:
            self._write(("INSERT INTO test VALUES (zeroblob(?))", [(_TEST_BYTES,)]))
            self._write(("DELETE FROM test", [()]))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _write(self, *statements: tuple[str, Sequence[tuple[object, ...]]]) -> None:
        try:
            with self._connection:
                self._connection.execute("BEGIN")
                for statement, rows in statements:
                    self._connection.executemany(statement, rows)
        except _FAILURES as error:
            kind = StoreError if _is_of_the_file(error) else DiskError
            raise kind(_explain(self.path, error)) from error


@contextmanager
def hand_over_doubts(path: Path) -> Iterator[set[str]]:
    """Give the documents in doubt of an unused state file, and remove them from it afterwards.

    Where the file cannot be read, or is in use after all, it gives none and leaves the file as it is.
    """
    doubts: set[str] = set()
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(closing(_connect(path)))
            doubts = _doubts(connection)
        except (OSError, *_FAILURES, _UnusableError, _UnreadableError) as error:
            log.warning("retired state file left alone", file=path.name, reason=str(error))
        yield doubts
        try:
            if doubts:
                connection.execute("DELETE FROM doubt")
        except _FAILURES as error:
            # It does no harm to take them over twice.
            log.warning("retired state file cannot be written", file=path.name, reason=str(error))


class _UnusableError(Exception):
    """A state file exists and cannot be trusted."""


class _UnreadableError(Exception):
    """A value in a state file differs from the one that was written."""


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=0.0, isolation_level=None, check_same_thread=False)
    try:
        # The lock is exclusive, because a second process on this file would be a second listener.
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("PRAGMA journal_mode=WAL")
        # NORMAL survives the death of this process without a sync for each write. A power cut can lose the last writes,
        # but it keeps their order, so the checkpoint is then an older one, never a wrong one.
        connection.execute("PRAGMA synchronous=NORMAL")
        if connection.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise _UnusableError("it is damaged")  # noqa: TRY301 - one place closes the connection
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={_VERSION}; COMMIT;")
        elif version != _VERSION:
            raise _UnusableError(f"it is of version {version}, not {_VERSION}")  # noqa: TRY301 - as above
        connection.execute(_DELETIONS)
        connection.execute(_AUDIT)
        connection.execute(_TEST)
        # A damaged header can forbid writes. Nothing else would show that before the first write.
        connection.executescript(f"BEGIN; PRAGMA user_version={_VERSION}; ROLLBACK;")
    except _FAILURES as error:
        connection.close()
        if _is_of_the_file(error):
            raise _UnusableError(str(error)) from error
        raise
    except _UnusableError:
        connection.close()
        raise
    return connection


def _doubts(connection: sqlite3.Connection) -> set[str]:
    doubts: set[str] = set()
    for (document_id,) in connection.execute("SELECT document_id FROM doubt"):
        if not isinstance(document_id, str):
            raise _UnreadableError(f"{document_id!r} is no document id")
        doubts.add(document_id)
    return doubts


def _entry(row: object) -> Entry | None:
    try:
        return _decoded(_ENTRY, row)
    except _UnreadableError:
        return None


def _decoded(decoder: msgspec.msgpack.Decoder[T], value: object) -> T:
    """Return the decoded value. SQLite keeps a type with each value, so a damaged value can have any type."""
    if not isinstance(value, bytes):
        raise _UnreadableError(f"{value!r} has another type than was written")
    try:
        return decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _UnreadableError(str(error)) from error


def _is_of_the_file(error: Exception) -> bool:
    """Say whether the file is to blame. If the disk is full, or another process has the file, it may be sound.

    An error without a code is about a value in the file, such as a damaged text or a value of another type.
    """
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is None or code & _PRIMARY not in _OF_THE_MACHINE


def _odd_file(path: Path) -> str | None:
    """Return the name of an unusable file among SQLite's files: in its place is a folder, or a file of root's."""
    for each in (path, *_beside(path)):
        is_there = os.path.lexists(each)
        if is_there and not (each.is_file() and os.access(each, os.R_OK | os.W_OK)):
            return each.name
    return None


def _beside(path: Path) -> tuple[Path, ...]:
    """Return the paths of the files that SQLite keeps beside a file."""
    return tuple(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))


def _set_aside(path: Path) -> str:
    """Rename a file and SQLite's files beside it, without overwriting an earlier one; return the new name."""
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}.unusable-{number}")):
        number += 1
    for old, new in zip((path, *_beside(path)), (aside, *_beside(aside)), strict=True):
        if os.path.lexists(old):
            old.rename(new)
    return aside.name


def _explain(path: Path, error: Exception) -> str:
    if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
        return f"{path} is in use by another process: is a second peruserd running with this state directory?"
    return f"cannot keep state in {path}: {error}"
