"""The state of a listener on disk: one SQLite file for each shard copy, written by that copy's listener alone.

It holds:

- the progress
- the quarantine
- the documents *in doubt*: their security object was being written when the process ended. It must be written again
  whatever a read shows, because copies can disagree and a read shows only one.

Losing the file costs a scan. An unusable file is set aside, never trusted.
"""

import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Self, TypeVar

import msgspec
import structlog

from peruserd.core.audit.rounds import Rounds
from peruserd.core.deletions.journal import Entry
from peruserd.core.feed.progress import SavedProgress
from peruserd.core.scheduling.records import Erasure
from peruserd.core.users.quarantine import Quarantined
from peruserd.listener.group_commit import GroupCommit
from peruserd.listener.state_file import (
    FAILURES,
    UnreadableError,
    UnusableError,
    connect,
    doubts_of,
    is_of_the_file,
    odd_file,
    set_aside,
)

T = TypeVar("T")

_SAVED: Final = msgspec.msgpack.Decoder(SavedProgress)
_QUARANTINED: Final = msgspec.msgpack.Decoder(Quarantined)
_ENTRY: Final = msgspec.msgpack.Decoder(Entry)
_ROUNDS: Final = msgspec.msgpack.Decoder(Rounds)

# More than any single write takes, apart from a large quarantine's or journal's.
_TEST_BYTES: Final = 65_536

# A write takes milliseconds, if the disk answers at all.
_CLOSE_SECONDS: Final = 1.0

log = structlog.get_logger(__name__)


class StoreError(Exception):
    """The state cannot be read or written: a full disk, wrong permissions, another process on the same file."""


class DiskError(StoreError):
    """The disk takes no writes now, as when it is full. The file may be sound, and a later write may succeed."""


class Store:
    """One open state file. Any thread may call; the store has locks of its own.

    On a disk that hangs, each call waits as long as the disk, apart from `remove_later` and `close`.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.Lock()
        self._saved: SavedProgress | None = None
        self._intents = GroupCommit(self._record_intents)
        # The documents whose quarantine entry, and those whose doubt, is deleted with the next save. Each change of
        # these sets is one step for all threads, so nobody waits for a lock, or for the disk, to note one.
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
        except UnusableError as error:
            reason = str(error)
        except (OSError, *FAILURES) as error:
            raise StoreError(_explain(path, error)) from error
        try:
            aside = set_aside(path)
            log.warning("state file set aside; its range will be scanned", file=path.name, aside=aside, reason=reason)
            return cls._open(path)
        except (OSError, *FAILURES, UnusableError) as error:
            raise StoreError(_explain(path, error)) from error

    @classmethod
    def _open(cls, path: Path) -> Self:
        if (odd := odd_file(path)) is not None:
            raise UnusableError(f"{odd} is no file that this account can read and write")
        connection = connect(path)
        try:
            store = cls(path, connection)
            store.load()
            store.deletions()
            store.rounds()
        except (UnreadableError, *FAILURES) as error:
            connection.close()
            if not is_of_the_file(error):
                raise
            raise UnusableError(f"it holds something else than expected: {error}") from error
        return store

    def load(self) -> tuple[SavedProgress | None, list[Quarantined], set[str]]:
        """Return the progress (None in a new file), the quarantine, and the ids of the documents in doubt."""
        with self._lock:
            saved = self._connection.execute("SELECT id, saved FROM progress").fetchone()
            entries = self._connection.execute("SELECT document_id, entry FROM quarantine").fetchall()
            doubts = doubts_of(self._connection)
        return (
            None if saved is None else _decoded(_SAVED, saved[1]),
            [_decoded(_QUARANTINED, entry) for _, entry in entries],
            doubts,
        )

    def save(self, saved: SavedProgress) -> None:
        """Write the progress and the removals that `remove_later` noted, if anything is new."""
        with self._lock:
            released, certain = self._released.copy(), self._certain.copy()
            if saved == self._saved and not released and not certain:
                # This is the common case: long polls that end with nothing, all day.
                return
            self._write(
                ("INSERT OR REPLACE INTO progress VALUES (1, ?)", [(msgspec.msgpack.encode(saved),)]),
                ("DELETE FROM quarantine WHERE document_id = ?", [(each,) for each in released]),
                ("DELETE FROM doubt WHERE document_id = ?", [(each,) for each in certain]),
            )
            # Only now, because a write that fails is made again. Others may have been noted meanwhile.
            self._released -= released
            self._certain -= certain
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
        self._intents.write(document_id)

    def _record_intents(self, document_ids: Sequence[str]) -> None:
        with self._lock:
            self._certain.difference_update(document_ids)
            self._write(("INSERT OR IGNORE INTO doubt VALUES (?)", [(each,) for each in document_ids]))

    def remove_later(self, document_id: str, what: Erasure) -> None:
        """Remove a user's quarantine, doubt or both with the next `save`.

        If the process dies before that, the next one finds the entry again, and repeats work that was done.
        """
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
        except UnreadableError:
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
        """Close the file, unless a write is under way that does not end. The end of the process closes it then."""
        if not self._lock.acquire(timeout=_CLOSE_SECONDS):
            log.warning("state file is left open, because a write to it does not end", file=self.path.name)
            return
        try:
            self._connection.close()
        finally:
            self._lock.release()

    def _write(self, *statements: tuple[str, Sequence[tuple[object, ...]]]) -> None:
        try:
            with self._connection:
                self._connection.execute("BEGIN")
                for statement, rows in statements:
                    self._connection.executemany(statement, rows)
        except FAILURES as error:
            kind = StoreError if is_of_the_file(error) else DiskError
            raise kind(_explain(self.path, error)) from error


def _entry(row: object) -> Entry | None:
    try:
        return _decoded(_ENTRY, row)
    except UnreadableError:
        return None


def _decoded(decoder: msgspec.msgpack.Decoder[T], value: object) -> T:
    """Return the decoded value. SQLite keeps a type with each value, so a damaged value can have any type."""
    if not isinstance(value, bytes):
        raise UnreadableError(f"{value!r} has another type than was written")
    try:
        return decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableError(str(error)) from error


def _explain(path: Path, error: Exception) -> str:
    if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
        return f"{path} is in use by another process: is a second peruserd running with this state directory?"
    return f"cannot keep state in {path}: {error}"
