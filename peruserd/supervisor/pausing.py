"""The pauses of the supervisor's threads after failed requests."""

from typing import Final

from peruserd.core.common.backoff import Backoff
from peruserd.couch.errors import RefusedError, UnreachableError

_BACKOFF: Final = Backoff(initial_seconds=1.0, max_seconds=15.0)

# A server that is away costs one refused connection. At its return the instance must see what has changed meanwhile.
_AWAY: Final = Backoff(initial_seconds=1.0, max_seconds=2.0)

# While the server does not let the instance in, no request is sent. A try then costs nothing.
_SHUT_SECONDS: Final = 1.0


class Pauses:
    """The pauses of one thread, which grow with its failures in a row.

    A server that comes back may answer with errors at first. Then the pauses begin anew, because the failures before
    were those of a server that was away, or did not let the instance in.
    """

    def __init__(self) -> None:
        self._unanswered = 0

    def after(self, error: Exception, failures: int) -> float:
        """Return the seconds to wait after the last of `failures` failures in a row; `error` may be any exception."""
        if isinstance(error, RefusedError | UnreachableError):
            self._unanswered = failures
            return _SHUT_SECONDS if isinstance(error, RefusedError) else _AWAY.bound(failures)
        if failures <= self._unanswered:
            # A success has begun a new row meanwhile.
            self._unanswered = 0
        return _BACKOFF.bound(failures - self._unanswered)
