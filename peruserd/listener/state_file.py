"""The SQLite files of listeners: opened under an exclusive lock, judged, set aside, and removed.

`listener.store` says what such a file holds.
"""

import os
import sqlite3
from pathlib import Path
from typing import Final

# The message of an error can quote a damaged text from the file, and then Python cannot decode the message.
FAILURES: Final = (sqlite3.Error, UnicodeDecodeError)

# The errors of SQLite that say nothing about the contents of the file. Extended codes have these in the low byte.
_OF_THE_MACHINE: Final = frozenset(
    getattr(sqlite3, f"SQLITE_{name}")
    for name in ("PERM", "BUSY", "LOCKED", "NOMEM", "INTERRUPT", "IOERR", "FULL", "CANTOPEN", "PROTOCOL")
)
_PRIMARY: Final = 0xFF

# The version is raised whenever the meaning of the file changes: a file of another version is set aside.
_VERSION: Final = 2

# A file is removed at most once for each life of a listener, so the second try succeeds.
_TRIES: Final = 3
_SCHEMA: Final = """
    CREATE TABLE progress (id INTEGER PRIMARY KEY CHECK (id = 1), saved BLOB NOT NULL);
    CREATE TABLE quarantine (document_id TEXT PRIMARY KEY, entry BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE doubt (document_id TEXT PRIMARY KEY) WITHOUT ROWID;
"""

# These tables are independent of the version, because losing one of them costs no scan.
_AUDIT: Final = "CREATE TABLE IF NOT EXISTS audit (id INTEGER PRIMARY KEY CHECK (id = 1), rounds BLOB NOT NULL)"
_TEST: Final = "CREATE TABLE IF NOT EXISTS test (filler BLOB)"
_DELETIONS: Final = "CREATE TABLE IF NOT EXISTS deletions (id TEXT PRIMARY KEY, entry BLOB NOT NULL) WITHOUT ROWID"


class UnusableError(Exception):
    """A state file exists and cannot be trusted."""


class UnreadableError(Exception):
    """A value in a state file differs from the one that was written."""


def connect(path: Path) -> sqlite3.Connection:
    """Open or create a file, for this process alone. Raises UnusableError, sqlite3.Error and UnicodeDecodeError."""
    before = _inode(path)
    for _ in range(_TRIES):
        try:
            connection = _connect(path)
        except (UnusableError, *FAILURES):
            if (now := _inode(path)) == before:
                raise
        else:
            now = _inode(path)
            if now is not None and now == (before or now):
                return connection
            connection.close()
        # Another listener has removed the file between its opening and the lock on it.
        before = now
    raise sqlite3.OperationalError(f"{path.name} is removed again and again")


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
            raise UnusableError("it is damaged")  # noqa: TRY301 - one place closes the connection
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={_VERSION}; COMMIT;")
        elif version != _VERSION:
            raise UnusableError(f"it is of version {version}, not {_VERSION}")  # noqa: TRY301 - as above
        connection.execute(_DELETIONS)
        connection.execute(_AUDIT)
        connection.execute(_TEST)
        # A damaged header can forbid writes. Nothing else would show that before the first write.
        connection.executescript(f"BEGIN; PRAGMA user_version={_VERSION}; ROLLBACK;")
    except FAILURES as error:
        connection.close()
        if is_of_the_file(error):
            raise UnusableError(str(error)) from error
        raise
    except UnusableError:
        connection.close()
        raise
    return connection


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def remove(path: Path, connection: sqlite3.Connection) -> None:
    """Remove an open file for good. Raises OSError and sqlite3.Error.

    The lock keeps every other process out until the connection is closed.
    """
    # Without a write-ahead log, nothing of this file is left that the next file of this name could meet.
    connection.execute("PRAGMA journal_mode=DELETE")
    path.unlink()


def doubts_of(connection: sqlite3.Connection) -> set[str]:
    """Return the ids of the documents in doubt; raises UnreadableError and sqlite3.Error."""
    doubts: set[str] = set()
    for (document_id,) in connection.execute("SELECT document_id FROM doubt"):
        if not isinstance(document_id, str):
            raise UnreadableError(f"{document_id!r} is no document id")
        doubts.add(document_id)
    return doubts


def is_of_the_file(error: Exception) -> bool:
    """Say whether the file is to blame. If the disk is full, or another process has the file, it may be sound.

    An error without a code is about a value in the file, such as a damaged text or a value of another type.
    """
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is None or code & _PRIMARY not in _OF_THE_MACHINE


def odd_file(path: Path) -> str | None:
    """Return the name of an unusable file among SQLite's files: in its place is a folder, or a file of root's."""
    for each in (path, *_beside(path)):
        is_there = os.path.lexists(each)
        if is_there and not (each.is_file() and os.access(each, os.R_OK | os.W_OK)):
            return each.name
    return None


def _beside(path: Path) -> tuple[Path, ...]:
    """Return the paths of the files that SQLite keeps beside a file."""
    return tuple(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))


def set_aside(path: Path) -> str:
    """Rename a file and SQLite's files beside it, without overwriting an earlier one; return the new name."""
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}.unusable-{number}")):
        number += 1
    for old, new in zip((path, *_beside(path)), (aside, *_beside(aside)), strict=True):
        if os.path.lexists(old):
            old.rename(new)
    return aside.name
