"""The time limits for the end of an instance, part by part. Together they fit into the unit's TimeoutStopSec.

After TimeoutStopSec systemd sends SIGKILL, and the lease is not released. Other instances then wait for its time to
live. So each wait has a limit. The process ends without a part that does not end in time: all threads are daemon
threads, and a listener ends with its supervisor.
"""

import faulthandler
import threading
from typing import Final

import structlog

FLEET_SECONDS: Final = 15.0
"""The listeners may take this long after the signal. To ask, abort and kill them takes less."""

LEASE_SECONDS: Final = 5.0
"""The last lease may take this long, including the end of a renewal under way."""

LEASE_GRACE_SECONDS: Final = 1.0
"""A renewal under way may go on for this part of `LEASE_SECONDS`. It takes milliseconds if the server answers."""

PART_SECONDS: Final = 1.0
"""Each other part may take this long. Its requests were interrupted before, but a connect is not interruptible."""

PARTS: Final = 4
"""The other parts: the directory watch, the watch of the journal, the HTTP page, and the login thread."""

LAST_RESORT_SECONDS: Final = 27.0
"""The process ends itself this long after the signal, even if a part hangs, and logs the stack of each thread."""

log = structlog.get_logger(__name__)


def arm_last_resort() -> None:
    """End the process after `LAST_RESORT_SECONDS`, for certain. It works even if no Python thread runs any more."""
    faulthandler.dump_traceback_later(LAST_RESORT_SECONDS, exit=True)


def join(thread: threading.Thread, seconds: float = PART_SECONDS) -> bool:
    """Wait for a thread to end, and return whether it ended in time; a thread that did not is logged."""
    thread.join(seconds)
    if thread.is_alive():
        log.warning("a part of the instance does not end, and is left behind", part=thread.name)
        return False
    return True
