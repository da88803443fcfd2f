"""The times of refused passwords on disk, for the instance and its commands together.

They are in one small file in the state directory. Its lock lets only one process send the password at a time; the
kernel releases the lock when its holder ends. The file is overwritten in place: a rename would change its owner,
because commands run as root.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import structlog

from peruserd import threads
from peruserd.core.common.decoders import json_decoder

FILE_NAME: Final = "refusals.json"

# The few times take less than this.
_MAX_BYTES: Final = 4_096

log = structlog.get_logger(__name__)


class BusyError(Exception):
    """Another process holds the lock."""


class Refusals(msgspec.Struct, frozen=True):
    """The times on record. `write` replaces them, and never raises: a full disk must not stop a login."""

    times: tuple[float, ...]
    write: Callable[[tuple[float, ...]], None]


class _Record(msgspec.Struct, frozen=True):
    refusals: tuple[float, ...] = ()


class RefusalFile:
    """The file in this state directory. If it cannot be used, this process knows only its own refusals.

    A disk that does not answer is waited for, however long, because a password may not be sent without a record.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        self._kept: tuple[float, ...] = ()
        self._logged = False

    @contextmanager
    def held(self) -> Iterator[Refusals]:
        """Hold the lock while the password is being sent; raises BusyError if another process holds it."""
        try:
            with threads.WAITING:
                descriptor = self._open()
        except BlockingIOError as error:
            raise BusyError from error
        except OSError as error:
            # A missing state directory is not logged: no daemon has run here, and commands do not make one.
            if not isinstance(error, FileNotFoundError):
                self._log_once(error)
            yield Refusals(self._kept, self._keep)
            return
        try:
            with threads.WAITING:
                known = (*self._kept, *_read(descriptor))
            yield Refusals(known, lambda times: self._write(descriptor, times))
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        """Return the open and locked file; raises OSError, and BlockingIOError if another process holds it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            owner = self._path.parent.stat()
            if os.geteuid() == 0 and os.fstat(descriptor).st_uid != owner.st_uid:
                # A command made the file as root, and the daemon has another account.
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _keep(self, times: tuple[float, ...]) -> None:
        self._kept = times

    def _write(self, descriptor: int, times: tuple[float, ...]) -> None:
        record = msgspec.json.encode(_Record(times))
        try:
            # One write covers a longer old record to its end. So if this process is killed, the record can still be
            # read.
            with threads.WAITING:
                os.pwrite(descriptor, record.ljust(os.fstat(descriptor).st_size), 0)
        except OSError as error:
            self._log_once(error)
            self._kept = times
        else:
            self._kept = ()

    def _log_once(self, error: OSError) -> None:
        if not self._logged:
            log.warning("refusals of the password cannot be shared", file=str(self._path), error=str(error))
        self._logged = True


def _read(descriptor: int) -> tuple[float, ...]:
    try:
        return json_decoder(_Record).decode(os.pread(descriptor, _MAX_BYTES, 0)).refusals
    except (OSError, RecursionError, msgspec.MsgspecError):
        # The disk fails, or the file has other content after a crash or an edit.
        return ()
