"""The use of the machine by this process. Only the process itself can read it, because it forbids core dumps."""

import os
import resource
import time
from pathlib import Path
from typing import Final

from peruserd.core.processes.messages import Usage

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_SELF: Final = Path("/proc/self")


def measure() -> Usage | None:
    """Return the present use, None where there is no /proc; takes 0.1 ms."""
    try:
        resident_pages = int((_SELF / "statm").read_bytes().split()[1])
        # One descriptor is subtracted: the one by which this directory is read.
        descriptors = sum(1 for _ in (_SELF / "fd").iterdir()) - 1
        threads = sum(1 for _ in (_SELF / "task").iterdir())
    except OSError:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Usage(
        time.process_time(),
        resident_pages * _PAGE_BYTES,
        descriptors,
        threads,
        None if limit == resource.RLIM_INFINITY else limit,
    )
