"""The pause of the supervisor's threads after a failed request."""

from typing import Final

from peruserd.core.common.backoff import Backoff
from peruserd.couch.errors import RefusedError

_BACKOFF: Final = Backoff(initial_seconds=1.0, max_seconds=15.0)

# While the server does not let the instance in, no request is sent. A try then costs nothing.
_SHUT_SECONDS: Final = 1.0


def pause_after(error: Exception, failures: int) -> float:
    """Return the seconds to wait after the last of `failures` failures in a row; `error` may be any exception."""
    return _SHUT_SECONDS if isinstance(error, RefusedError) else _BACKOFF.bound(failures)
