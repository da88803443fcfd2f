"""The use of the machine by this process. Only the process itself may look: it forbids others to, with its dumps."""

import os
import time
from pathlib import Path
from typing import Final

from peruserd.core.processes.messages import Usage

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_SELF: Final = Path("/proc/self")


def measure() -> Usage | None:
    """Return it as it is now, None where there is no /proc; takes 0.1 ms."""
    try:
        resident_pages = int((_SELF / "statm").read_bytes().split()[1])
        # The directory that is being read is open meanwhile, and nothing of the process's own.
        descriptors = sum(1 for _ in (_SELF / "fd").iterdir()) - 1
        threads = sum(1 for _ in (_SELF / "task").iterdir())
    except OSError:
        return None
    return Usage(time.process_time(), resident_pages * _PAGE_BYTES, descriptors, threads)
