"""No core dump of a process that knows a password or a session: a dump is a file, and others may read it."""

import ctypes
import os
from typing import Final

_PR_SET_DUMPABLE: Final = 4


def forbid() -> str | None:
    """Forbid core dumps of this process and of what it forks; return why that failed, None where it did not.

    It holds until the next exec, so each program says it for itself. A limit of 0 for the size of core files would not
    be enough: the kernel takes no notice of it where it pipes dumps to a program. From here on other processes of the
    same account cannot look into this one: its open descriptors, for one, are known to itself alone.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0:
        return None
    return os.strerror(ctypes.get_errno())
