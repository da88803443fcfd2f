"""How many file descriptors the processes of an instance need. Measured on Linux with Python 3.11."""

from typing import Final

# The HTTP page (128 connections at most), the control socket, and what the process has from its start.
_SUPERVISOR: Final = 192

# A pipe, a pidfd, and two descriptors of `multiprocess`.
_FOR_EACH_LISTENER: Final = 4

# The feed, the scan, the audit, the state file, and what the process has from its start.
_LISTENER: Final = 48


def needed(listeners: int, share: int) -> int:
    """Return the limit that each process needs, where each listener works on `share` users at once.

    A listener has one connection for each of them. All processes have the same limit, so the largest need counts.
    """
    return max(_SUPERVISOR + _FOR_EACH_LISTENER * listeners, _LISTENER + share)
