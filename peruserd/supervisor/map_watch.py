"""The map watch: a thread that waits for the authentication database's shard map to change, and says so at once.

From that moment new documents go to the copies that the new map names, and nobody listens to those before the watcher
has looked. The map of the cluster database is watched as well, whose new copies must be looked at. The watcher would
find out by itself, one interval later: this only makes the look come sooner, so where it fails nothing is lost but
time.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from peruserd import ending
from peruserd.couch.client import Client
from peruserd.couch.errors import CouchError, InterruptedRequestError
from peruserd.couch.sources import LONG_POLL_SECONDS, DirectorySource
from peruserd.supervisor.pausing import pause_after

# Between two polls. The maps of all databases are listed, many a second where many users sign up: polls twice a second
# were some 7 % of all that three nodes had to do for 500 users at once (counted in Erlang's reductions), once a second
# half of that.
_LEAST_SECONDS: Final = 1.0

# A server without shards can turn out to have some, behind a proxy that hid them.
_NO_SHARDS_SECONDS: Final = 10.0

log = structlog.get_logger(__name__)


class MapWatch:
    """Calls `on_change` of a database when its shard map was written, as the node that `node` returns hears of it.

    `node` raises CouchError while it is unknown and returns None while there are no shards, and so nothing to watch.
    The client's session serves this alone: to interrupt it ends the wait.
    """

    def __init__(
        self,
        client: Client,
        *,
        node: Callable[[], str | None],
        on_change: Mapping[str, Callable[[], None]],
        long_poll_seconds: float = LONG_POLL_SECONDS,
    ) -> None:
        self._client = client
        self._node = node
        self._on_change = on_change
        self._long_poll_seconds = long_poll_seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="map watch", daemon=True)
        self.failures = 0

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more; returns once the thread has ended, or does not in time."""
        self._stopped.set()
        self._client.session.interrupt()
        ending.join(self._thread)

    def _run(self) -> None:
        pause = 0.0
        while not self._stopped.wait(pause):
            try:
                if (node := self._node()) is None:
                    pause = _NO_SHARDS_SECONDS
                    continue
                self._follow(DirectorySource(self._client, node, self._long_poll_seconds))
            except InterruptedRequestError:
                return
            except CouchError as error:
                pause = self._failed(error.kind, error)
            except Exception as error:
                log.exception("unforeseen failure of the map watch")
                pause = self._failed("unforeseen", error)

    def _follow(self, source: DirectorySource) -> None:
        since = source.end()
        while not self._stopped.wait(_LEAST_SECONDS):
            page = source.poll(since)
            since = page.last_seq
            if self.failures:
                log.info("changes of the shard map can be waited for again", failures=self.failures)
                self.failures = 0
            for name in {row.id for row in page.results}.intersection(self._on_change):
                self._on_change[name]()

    def _failed(self, kind: str, error: Exception) -> float:
        self.failures += 1
        if self.failures == 1:
            log.info("changes of the shard map are seen by looks alone", kind=kind, error=str(error))
        return pause_after(error, self.failures)
