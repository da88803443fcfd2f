"""How long the supervisor's threads wait before they ask a node again that did not answer as it should."""

from typing import Final

from peruserd.core.backoff import Backoff
from peruserd.core.quarantine import Advice
from peruserd.couch.errors import CouchError

_BACKOFF: Final = Backoff(first_seconds=1.0, most_seconds=15.0)

# CouchDB 3.4 and later lock an account for a while that is refused again and again.
_REFUSED_SECONDS: Final = 60.0


def pause_after(error: CouchError, failures: int) -> float:
    """Return the seconds to wait after the last of so many failures in a row."""
    return _REFUSED_SECONDS if error.advice is Advice.ASK_OPERATOR else _BACKOFF.bound(failures)
