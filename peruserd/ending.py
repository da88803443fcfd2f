"""How long the end of an instance may take, part by part, so that all of it fits into the unit's TimeoutStopSec.

After that systemd sends SIGKILL, and a lease that was not released stays: other instances wait for its time to live. So
nothing is waited for without a limit. A part that does not end is left behind: all threads are daemon threads, and a
listener ends with its supervisor.
"""

import faulthandler
import threading
from typing import Final

import structlog

FLEET_SECONDS: Final = 15.0
"""The listeners may take this long, from the signal on. It is longer than it takes to ask, abort and kill them."""

LEASE_SECONDS: Final = 5.0
"""The last lease may take this long, with the rest of the one before it."""

LEASE_GRACE_SECONDS: Final = 1.0
"""A renewal under way may go on for this part of `LEASE_SECONDS`. It takes milliseconds where the server answers."""

PART_SECONDS: Final = 1.0
"""Each other part may take this long. Its requests were interrupted before, but not the making of a connection."""

PARTS: Final = 4
"""The parts: the watches of the shard map and of the journal, the HTTP page, and the thread that logs in."""

LAST_RESORT_SECONDS: Final = 27.0
"""The process ends itself this long after the signal, whatever hangs, and says where each thread stands."""

log = structlog.get_logger(__name__)


def arm_last_resort() -> None:
    """End the process after a while; nothing takes that back. It works also where no thread of Python runs any more."""
    faulthandler.dump_traceback_later(LAST_RESORT_SECONDS, exit=True)


def join(thread: threading.Thread, seconds: float = PART_SECONDS) -> bool:
    """Wait for the end of a thread, and return whether it came in time; that it did not is logged."""
    thread.join(seconds)
    if thread.is_alive():
        log.warning("a part of the instance does not end, and is left behind", part=thread.name)
        return False
    return True
