"""The writes to the state directory that nobody may wait for, in a thread of their own.

A disk that hangs, such as one over a network, takes a write and never ends it. The supervisor's loop and its other
threads must go on meanwhile, because a restart would wait for the same disk. The thread also asks how much room is
left, because that question hangs as well.
"""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from peruserd import threads
from peruserd.repeated_task import RepeatedTask

_ASK_SECONDS: Final = 10.0

# An older answer is none: the disk hangs.
_FRESH_SECONDS: Final = 60.0

Put = Callable[[str, Callable[[], None]], None]
"""Takes a write by the name of what is written. The write handles its own errors."""


class Room(msgspec.Struct, frozen=True):
    """The room for the state, in bytes. What root alone may use does not count."""

    free: int
    size: int
    read_only: bool


class StateWrites:
    """Makes these writes, one after the other. Of several writes with one name only the last one is made."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: dict[str, Callable[[], None]] = {}
        self._asked: tuple[float, Room] | None = None
        self._task = RepeatedTask("state-writer", self._turn, at_end=self._write_all)

    def start(self) -> None:
        """Start the thread."""
        self._task.start()

    def stop(self) -> None:
        """Make the writes that wait, and end the thread; returns after the time that a part may take to end."""
        self._task.stop()
        self._task.join()

    def put(self, name: str, write: Callable[[], None]) -> None:
        """Have a write made soon; returns at once. For any thread."""
        with self._lock:
            self._waiting[name] = write
        self._task.soon()

    @property
    def room(self) -> Room | None:
        """Return the room for the state; None while the directory does not say. For any thread."""
        asked = self._asked
        return asked[1] if asked is not None and self._clock() - asked[0] <= _FRESH_SECONDS else None

    def _turn(self) -> float:
        self._write_all()
        with threads.WAITING:
            room = _room_of(self._directory)
        self._asked = None if room is None else (self._clock(), room)
        return _ASK_SECONDS

    def _write_all(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for write in waiting.values():
            # A disk that does not answer is no fault of this thread.
            with threads.WAITING:
                write()


def _room_of(directory: Path) -> Room | None:
    try:
        found = os.statvfs(directory)
    except OSError:
        # The directory is gone or cannot be read. The metrics about writes of the state show that.
        return None
    return Room(
        free=found.f_bavail * found.f_frsize,
        size=found.f_blocks * found.f_frsize,
        read_only=bool(found.f_flag & os.ST_RDONLY),
    )
