"""The lock on a state directory: one instance at a time, and what the one before it left.

A lock that the kernel gives back when its holder ends, however it ends, proves the predecessor dead; so a restart need
not wait for its own old lease to run out. And the instances that it believed in are those to expect.
"""

import fcntl
import os
import secrets
from pathlib import Path
from typing import Final, Self

import msgspec

_FILE: Final = "instance.json"

# More than the names of any cluster's nodes take.
_MAX_BYTES: Final = 1 << 20


class InUseError(Exception):
    """Another process holds the state directory."""


class _Record(msgspec.Struct, frozen=True):
    incarnation: str
    instances: tuple[str, ...] | None = None


class StateLock:
    """A state directory held by this process until it ends.

    `incarnation` is this start's name, `replaces` that of the start before it and `expected` the instances that one
    believed in last; both None where there was none or its record cannot be read.
    """

    def __init__(self, descriptor: int, incarnation: str, before: _Record | None) -> None:
        self._descriptor = descriptor
        self.incarnation = incarnation
        self.replaces = None if before is None else before.incarnation
        self.expected = None if before is None else before.instances

    @classmethod
    def take(cls, directory: Path) -> Self:
        """Take the directory; raises InUseError where another process has it, OSError where it cannot be written."""
        # Python's descriptors are not inherited, so no listener keeps the lock for a supervisor that died.
        descriptor = os.open(directory / _FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            before = _read(descriptor)
            state_lock = cls(descriptor, secrets.token_hex(8), before)
            state_lock.remember(state_lock.expected)
        except BlockingIOError as error:
            os.close(descriptor)
            raise InUseError(f"{directory} is in use by another peruserd") from error
        except BaseException:
            os.close(descriptor)
            raise
        return state_lock

    def remember(self, instances: tuple[str, ...] | None) -> None:
        """Write down which instances are believed in; raises OSError."""
        record = msgspec.json.encode(_Record(self.incarnation, instances))
        # In one write, over the end of a longer one: whenever this process ends, there is a record that can be read.
        os.pwrite(self._descriptor, record.ljust(os.fstat(self._descriptor).st_size), 0)

    def release(self) -> None:
        """Give the directory back; the record stays."""
        os.close(self._descriptor)


def _read(descriptor: int) -> _Record | None:
    try:
        return msgspec.json.decode(os.pread(descriptor, _MAX_BYTES, 0), type=_Record)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
