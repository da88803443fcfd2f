"""How long the supervisor's threads wait before they ask a node again that did not answer as it should."""

from typing import Final

from peruserd.core.common.backoff import Backoff
from peruserd.couch.errors import RefusedError

_BACKOFF: Final = Backoff(initial_seconds=1.0, max_seconds=15.0)

# While the server does not let the instance in nothing is sent, so to try is to look whether it does now.
_SHUT_SECONDS: Final = 1.0


def pause_after(error: Exception, failures: int) -> float:
    """Return the seconds to wait after the last of so many failures in a row, which may be one that nobody foresaw."""
    return _SHUT_SECONDS if isinstance(error, RefusedError) else _BACKOFF.bound(failures)
