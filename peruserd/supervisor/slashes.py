"""Whether encoded slashes reach the server: paths name a shard `shards%2F…`, and some proxies decode that.

Behind such a proxy no copy can be read, and the server answers only that each copy is missing. So a request of its own
finds the reason, and one sentence replaces one error for each range.
"""

import structlog

from peruserd.couch.client import Client
from peruserd.couch.errors import CouchError, InterruptedRequestError, RefusedError
from peruserd.couch.slashes import SlashHandling, probe_slashes

_WORDS = {
    SlashHandling.DECODED: "something between this host and CouchDB decodes %2F in paths",
    SlashHandling.REFUSED: "something between this host and CouchDB does not let paths with %2F pass",
}

_ADVICE = (
    "so no copy of a shard can be read; give the node's own address in couchdb.url, or let the proxy pass paths on as "
    "they are (nginx: proxy_pass without a path part; Apache: AllowEncodedSlashes NoDecode and nocanon)"
)

log = structlog.get_logger(__name__)


class SlashesLostError(CouchError):
    """Paths with encoded slashes do not reach the server as they are."""

    kind = "slashes_lost"


def slashes_lost(client: Client) -> SlashesLostError | None:
    """Return the error if encoded slashes do not reach the server; None if they do. Raises CouchError."""
    handling = probe_slashes(client)
    return SlashesLostError(f"{_WORDS[handling]}, {_ADVICE}") if handling in _WORDS else None


class SlashWatch:
    """Asks again each time: a proxy can begin to decode at any moment, and a long poll hides that for half a minute.

    Any thread may read `trouble`.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._found: SlashesLostError | None = None

    @property
    def trouble(self) -> str | None:
        """Say why no copy can be read; None if no reason is known."""
        return None if self._found is None else str(self._found)

    def check(self) -> SlashesLostError | None:
        """Ask the server, and return why no copy can be read; None if no reason is known.

        A request without an answer counts as no reason.
        """
        try:
            found = slashes_lost(self._client)
        except (InterruptedRequestError, RefusedError):
            raise
        except CouchError as error:
            log.debug("it cannot be told whether paths with %2F pass", kind=error.kind, error=str(error))
            self._found = None
        else:
            if self._found is not None and found is None:
                log.info("paths with %2F reach CouchDB as they are")
            self._found = found
        return self._found
