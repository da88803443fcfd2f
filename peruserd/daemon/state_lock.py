"""The lock on a state directory, for one instance at a time, and the record that the last holder left.

The kernel releases the lock whenever its holder ends. So to hold the lock proves that the predecessor has ended, and a
restart need not wait for its own old lease to expire. The record names the instances that the predecessor took for
alive, and the new start expects these.
"""

import fcntl
import os
import secrets
from pathlib import Path
from typing import Final, Self

import msgspec

from peruserd.core.configuration.problems import TemporaryError

_FILE: Final = "instance.json"

# The names of a cluster's nodes take less than this.
_MAX_BYTES: Final = 1 << 20


class _Record(msgspec.Struct, frozen=True):
    incarnation: str
    instances: tuple[str, ...] | None = None


class StateLock:
    """A state directory that this process holds until it ends.

    - `incarnation` is the name of this start.
    - `replaces` is the name of the start before it.
    - `expected` are the instances that the earlier start took for alive.

    The last two are None if there was no earlier start, or if its record cannot be read.
    """

    def __init__(self, descriptor: int, incarnation: str, before: _Record | None) -> None:
        self._descriptor = descriptor
        self.incarnation = incarnation
        self.replaces = None if before is None else before.incarnation
        self.expected = None if before is None else before.instances

    @classmethod
    def take(cls, directory: Path) -> Self:
        """Take the directory; raises TemporaryError if another process holds it, OSError if it is not writable."""
        # Children do not inherit Python's descriptors, so no listener keeps the lock after its supervisor has died.
        descriptor = os.open(directory / _FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            before = _read(descriptor)
            state_lock = cls(descriptor, secrets.token_hex(8), before)
            state_lock.remember(state_lock.expected)
        except BlockingIOError as error:
            os.close(descriptor)
            problem = f"state.directory: {directory} is in use by another peruserd; each needs a directory of its own"
            raise TemporaryError([problem]) from error
        except BaseException:
            os.close(descriptor)
            raise
        return state_lock

    def remember(self, instances: tuple[str, ...] | None) -> None:
        """Write the live instances into the record; raises OSError."""
        record = msgspec.json.encode(_Record(self.incarnation, instances))
        # One write covers a longer old record to its end. So if this process is killed, the record can still be read.
        os.pwrite(self._descriptor, record.ljust(os.fstat(self._descriptor).st_size), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Release the directory; the record stays."""
        os.close(self._descriptor)


def _read(descriptor: int) -> _Record | None:
    try:
        return msgspec.json.decode(os.pread(descriptor, _MAX_BYTES, 0), type=_Record)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
