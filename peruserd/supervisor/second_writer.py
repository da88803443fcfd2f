"""CouchDB's built-in couch_peruser beside this program: two writers of the same databases.

Nothing goes wrong with both, because nobody's word but the user document's counts and copies are compared before they
are written over. But each undoes what the other does where they differ: couch_peruser names a user whom this program
has revoked on a stale row, deletes databases where it is told to, and calls some of them by another name. So it is said
in the log, in a metric and by `peruserd check`.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from peruserd.couch.client import Client
from peruserd.couch.errors import CouchError

# The setting changes by an operator's hand, and one small request in this time finds it.
_ASK_SECONDS: Final = 60.0

ADVICE: Final = "switch one of them off: [couch_peruser] enable = false on every node"

log = structlog.get_logger(__name__)


def is_peruser_on(client: Client, node: str) -> bool | None:
    """Say whether couch_peruser is enabled on a node; None where the server does not say. Raises no CouchError."""
    try:
        return client.setting(node, "couch_peruser", "enable") == "true"
    except CouchError:
        # A proxy that keeps the configuration to itself, or a node that is away: both are said elsewhere.
        return None


class SecondWriter:
    """Asks the attached node now and then whether couch_peruser is on. Any thread may read `is_on`."""

    def __init__(self, client: Client, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._lock = threading.Lock()
        self._asked_at = float("-inf")
        self._is_on: bool | None = None

    @property
    def is_on(self) -> bool | None:
        """Say what is known: None while nothing is."""
        return self._is_on

    def look(self, node: str) -> None:
        """Ask, if it is time to, and say in the log what has changed."""
        with self._lock:
            now = self._clock()
            if now - self._asked_at < _ASK_SECONDS:
                return
            self._asked_at = now
        before, self._is_on = self._is_on, is_peruser_on(self._client, node)
        if self._is_on and not before:
            log.warning("couch_peruser is on beside this instance", node=node, advice=ADVICE)
        elif before and self._is_on is False:
            log.info("couch_peruser is off", node=node)
