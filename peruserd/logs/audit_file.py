"""The file of the audit lines, if there is one: appended to by all processes of an instance, and fit for logrotate.

Each line is one write at the end of the file, so lines of several processes never mix, also if the file is truncated.
Each line first looks whether the path still leads to the open file:

- Another file at the path is taken at once.
- A file that was renamed is written to for a moment more, because logrotate makes the next one itself.
- A file that was removed is made anew at once, because nobody would ever read its lines.

A line that cannot be written is an error of the caller, so that it goes elsewhere.
"""

import os
import stat
import threading
import time
from pathlib import Path
from typing import Final

from peruserd.core.configuration.decoding import ConfigError
from peruserd.core.configuration.problems import error_of

# The group of the file, such as `adm`, may read it.
_MODE: Final = 0o640

# A rotation takes less time from renaming the file to making the next one.
_ROTATION_SECONDS: Final = 1.0

_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK


class AuditFile:
    """A file that lines are appended to. Any thread may call."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._gone_since: float | None = None
        self._is_torn = False
        self.after_fork()

    def after_fork(self) -> None:
        """Forget who held the lock, because no other thread is in a process that was just forked."""
        # The same thread can come twice: Python runs the ends of objects anywhere, and they can fail.
        self._lock = threading.RLock()

    def write_line(self, line: str) -> None:
        """Append a line. Raises OSError or ConfigError, and then a part of it may be in the file."""
        with self._lock:
            descriptor = self._current()
            # What is left of a line that did not fit must not spoil this one.
            end = b"\n" if self._is_torn and _ends_within_a_line(self.path) else b""
            content = end + f"{line}\n".encode()
            written = os.write(descriptor, content)
            if written < len(content):
                self._is_torn = self._is_torn or written > 0
                raise OSError("only a part of a line could be written")
            self._is_torn = False

    def open(self) -> int:
        """Open the file at the path, if need be anew. Raises ConfigError, and the next line tries again."""
        with self._lock:
            before, self._descriptor = self._descriptor, None
            if before is not None:
                os.close(before)
            self._descriptor = descriptor = _opened(self.path)
            self._gone_since, self._is_torn = None, False
            return descriptor

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            before, self._descriptor = self._descriptor, None
            if before is not None:
                os.close(before)

    def _current(self) -> int:
        """Return the descriptor of the file that the path leads to."""
        if self._descriptor is not None and not self._is_elsewhere(self._descriptor):
            return self._descriptor
        return self.open()

    def _is_elsewhere(self, descriptor: int) -> bool:
        mine = os.fstat(descriptor)
        try:
            at_path = Path(self.path).stat()
        except OSError:
            self._gone_since = self._gone_since or time.monotonic()
            return mine.st_nlink == 0 or time.monotonic() - self._gone_since >= _ROTATION_SECONDS
        self._gone_since = None
        return not os.path.samestat(at_path, mine)


def _ends_within_a_line(path: str) -> bool:
    """Say whether the last line of a file has no end. It can have got one, or the file can be empty again."""
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read(1) not in (b"", b"\n")


def _opened(path: str) -> int:
    try:
        descriptor = _made(path)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
    except OSError as error:
        raise error_of(f"log.audit_file: cannot open {path}: {error.strerror}", error) from error
    except ValueError as error:
        raise ConfigError([f"log.audit_file: {path!r} can be no path: {error}"]) from error
    raise ConfigError([f"log.audit_file: {path} is no regular file"])


def _made(path: str) -> int:
    try:
        descriptor = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, _MODE)
    except FileExistsError:
        return os.open(path, _FLAGS)
    # A service's mask may allow less than the mode of this file.
    os.fchmod(descriptor, _MODE)
    return descriptor
