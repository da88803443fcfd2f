"""The claim on a state directory: one instance at a time, and the name of the one before it.

A lock that the kernel gives back when its holder ends, however it ends, proves the predecessor dead; so a restart need
not wait for its own old lease to run out.
"""

import fcntl
import os
import secrets
from pathlib import Path
from typing import Final, Self

import msgspec

_FILE: Final = "instance.json"


class InUseError(Exception):
    """Another process holds the state directory."""


class _Record(msgspec.Struct, frozen=True):
    incarnation: str


class Claim:
    """A state directory held by this process until it ends.

    `incarnation` is this start's name, `replaces` that of the start before it, None where there was none or its record
    cannot be read.
    """

    def __init__(self, descriptor: int, incarnation: str, replaces: str | None) -> None:
        self._descriptor = descriptor
        self.incarnation = incarnation
        self.replaces = replaces

    @classmethod
    def take(cls, directory: Path) -> Self:
        """Take the directory; raises InUseError where another process has it, OSError where it cannot be written."""
        # Python's descriptors are not inherited, so no listener keeps the lock for a supervisor that died.
        descriptor = os.open(directory / _FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            replaces = _recorded(os.pread(descriptor, 4096, 0))
            incarnation = secrets.token_hex(8)
            record = msgspec.json.encode(_Record(incarnation))
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, record, 0)
        except BlockingIOError as error:
            os.close(descriptor)
            raise InUseError(f"{directory} is in use by another peruserd") from error
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor, incarnation, replaces)

    def release(self) -> None:
        """Give the directory back; the record stays."""
        os.close(self._descriptor)


def _recorded(content: bytes) -> str | None:
    try:
        return msgspec.json.decode(content, type=_Record).incarnation
    except msgspec.MsgspecError:
        return None
