"""The times of refused passwords on disk, which all processes of an instance share with its commands.

One small file in the state directory. Its lock, which the kernel gives back when its holder ends, lets one of them ask
at a time. It is written over in place: a rename would make it belong to whoever wrote last, and commands run as root.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import structlog

from peruserd.core.common.decoders import json_decoder

FILE_NAME: Final = "refusals.json"

# More than the few times take.
_MAX_BYTES: Final = 4_096

log = structlog.get_logger(__name__)


class BusyError(Exception):
    """Another process is asking just now."""


class Refusals(msgspec.Struct, frozen=True):
    """The record: what is in it, and how to write it. `write` never raises: a full disk must not stop a login."""

    times: tuple[float, ...]
    write: Callable[[tuple[float, ...]], None]


class _Record(msgspec.Struct, frozen=True):
    refusals: tuple[float, ...] = ()


class RefusalFile:
    """The file in this state directory. Where it cannot be used, this process knows of its own refusals alone."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        self._kept: tuple[float, ...] = ()
        self._logged = False

    @contextmanager
    def held(self) -> Iterator[Refusals]:
        """Hold the record while the password may be on its way; raises BusyError where another process does."""
        try:
            descriptor = self._open()
        except BlockingIOError as error:
            raise BusyError from error
        except OSError as error:
            # A missing state directory is not worth a word: no daemon has run here, and no command makes one.
            if not isinstance(error, FileNotFoundError):
                self._log_once(error)
            yield Refusals(self._kept, self._keep)
            return
        try:
            yield Refusals((*self._kept, *_read(descriptor)), lambda times: self._write(descriptor, times))
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        """Return the file, open and locked; raises OSError, and BlockingIOError where another process holds it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            owner = self._path.parent.stat()
            if os.geteuid() == 0 and os.fstat(descriptor).st_uid != owner.st_uid:
                # A command of root's made it, and the daemon has another account.
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
            # One write goes over the end of a longer record, so that there is one to read whenever this process ends.
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
        # The disk fails, or a crash or a person has left something else there.
        return ()
