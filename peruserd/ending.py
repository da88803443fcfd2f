"""The end of an instance: what happens after SIGTERM, in order, and the time limit of each part.

1. The signal's handler starts the clock of the last resort, and wakes the loop: `supervisor.signals`.
2. The loop asks each listener to stop: `supervisor.loop`, `supervisor.fleet`. A listener that does not end is aborted,
   then killed: `core.processes.lifecycle`.
3. A listener reads no more, finishes the work in flight, saves its checkpoint, and ends: `listener.listener`.
4. The requests of the cluster watch and all waits for a token are interrupted: `daemon.instance`.
5. The last lease hands the users over to other instances: `supervisor.lease_renewer`.
6. The other parts end in the reverse order of their starts: `daemon.instance`.

The limits fit together into the unit's TimeoutStopSec. After that systemd sends SIGKILL, and the lease is not released.
Other instances then wait for its time to live. So the process ends without a part that does not end in time. All its
threads are daemon threads, and a listener ends with its supervisor.
"""

import threading
import time
from typing import Final

import structlog

from peruserd import tracebacks

FLEET_SECONDS: Final = 15.0
"""The listeners may take this long after the signal. To ask, abort and kill them takes less."""

LEASE_SECONDS: Final = 5.0
"""The last lease may take this long, including the end of a renewal under way."""

LEASE_GRACE_SECONDS: Final = 1.0
"""A renewal under way may go on for this part of `LEASE_SECONDS`. It takes milliseconds if the server answers."""

PART_SECONDS: Final = 1.0
"""Each other part may take this long. Its requests were interrupted, but a write to a slow disk cannot be."""

PARTS_SECONDS: Final = 4.0
"""All other parts together may take this long, whatever their number."""

LAST_RESORT_SECONDS: Final = 27.0
"""The process ends itself this long after the signal, even if a part hangs, and logs the stack of each thread."""

log = structlog.get_logger(__name__)


class _Clock:
    """The time by which all waits for parts end; infinite before the end has begun."""

    ends_at = float("inf")


def arm_last_resort() -> None:
    """Begin the end: limit all waits, and end the process after `LAST_RESORT_SECONDS`, for certain.

    The last resort works even if no Python thread runs any more.
    """
    tracebacks.end_later(LAST_RESORT_SECONDS)
    _Clock.ends_at = min(_Clock.ends_at, time.monotonic() + FLEET_SECONDS + LEASE_SECONDS + PARTS_SECONDS)


def join(thread: threading.Thread, seconds: float = PART_SECONDS) -> bool:
    """Wait for a thread to end, and return whether it ended in time; a thread that did not is logged.

    Once the end has begun, the time of all parts together is limited as well.
    """
    thread.join(max(0.0, min(seconds, _Clock.ends_at - time.monotonic())))
    if thread.is_alive():
        log.warning("a part of the instance does not end, and is left behind", part=thread.name)
        return False
    return True
