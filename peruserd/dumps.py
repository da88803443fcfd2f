"""Forbids core dumps of processes that know a password or a session: other accounts may be able to read a dump."""

import ctypes
import os
from typing import Final

_PR_SET_DUMPABLE: Final = 4


def forbid() -> str | None:
    """Forbid core dumps of this process and its children; return why that failed, or None.

    The setting holds until the next exec, so each program makes it for itself. A limit of 0 for the size of core files
    would not be enough, because the kernel ignores it when it pipes dumps to a program. From here on other processes of
    the same account cannot inspect this one: only the process itself can list its open descriptors, for example.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0:
        return None
    return os.strerror(ctypes.get_errno())
