"""Detects CouchDB's built-in couch_peruser, which would write to the same databases as this program.

Both can run together without harm to data: only the user document decides, and copies are compared before they are
written over. But where the two differ, each undoes the work of the other:

- couch_peruser can act on an old row and name a user whom this program has revoked.
- It deletes databases if its configuration says so.
- It uses other names for some databases.

So the log, a metric and `peruserd check` report it.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from peruserd.couch.client import Client
from peruserd.couch.errors import CouchError

# Only an operator changes the setting, so one small request in this time is enough.
_ASK_SECONDS: Final = 60.0

ADVICE: Final = "switch one of them off: [couch_peruser] enable = false on every node"

log = structlog.get_logger(__name__)


def is_peruser_on(client: Client, node: str) -> bool | None:
    """Say whether couch_peruser is enabled on a node; None if the server does not say. Raises no CouchError."""
    try:
        return client.setting(node, "couch_peruser", "enable") == "true"
    except CouchError:
        # A proxy closes the configuration, or the node is away. Other parts report both.
        return None


class PeruserWatch:
    """Asks the attached node once a minute whether couch_peruser is on. Any thread may read `is_on`."""

    def __init__(self, client: Client, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._lock = threading.Lock()
        self._asked_at = float("-inf")
        self._is_on: bool | None = None

    @property
    def is_on(self) -> bool | None:
        """Say whether couch_peruser is on; None while that is not known."""
        return self._is_on

    def check(self, node: str) -> None:
        """Ask the node if it is time to, and log a change."""
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
