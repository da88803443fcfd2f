"""Shortages of the machine, told apart from faults of the program: they can pass, and a restart does not cure them."""

import errno
from typing import Final

NO_THREAD: Final = "can't start new thread"
"""Python's words for a machine or an account that may have no more threads."""

_SCARCE: Final = frozenset({errno.ENOMEM, errno.EAGAIN, errno.ENFILE, errno.EMFILE, errno.ENOSPC, errno.EDQUOT})


def is_shortage(error: BaseException) -> bool:
    """Say whether an error means that memory, processes, threads, descriptors or room on a disk are used up."""
    if isinstance(error, OSError):
        return error.errno in _SCARCE
    return isinstance(error, MemoryError) or str(error) == NO_THREAD


def is_of_others(error: OSError) -> bool:
    """Say whether such an error has its cause outside of this process, whose own descriptors can be used up as well."""
    return is_shortage(error) and error.errno != errno.EMFILE
