"""Whether encoded slashes reach the server: a shard is named `shards%2F…` in paths, and some proxies decode that.

Then no copy can be read, and the server says of each only that it is not there. So the reason is asked for by itself,
and said as one sentence instead of one for each range.
"""

import structlog

from peruserd.couch.client import Client
from peruserd.couch.errors import CouchError, InterruptedRequestError, RefusedError
from peruserd.couch.slashes import SlashFate, fate_of_slashes

_WORDS = {
    SlashFate.DECODED: "something between this host and CouchDB decodes %2F in paths",
    SlashFate.REFUSED: "something between this host and CouchDB does not let paths with %2F pass",
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
    """Ask the server, and return what keeps encoded slashes from it; None where nothing does. Raises CouchError."""
    fate = fate_of_slashes(client)
    return SlashesLostError(f"{_WORDS[fate]}, {_ADVICE}") if fate in _WORDS else None


class SlashWatch:
    """Asks at each look: a proxy can begin to decode at any time, and a poll under way hides that for half a minute.

    Any thread may read `trouble`.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._found: SlashesLostError | None = None

    @property
    def trouble(self) -> str | None:
        """Say why no copy can be read; None where nothing is known to stand in the way."""
        return None if self._found is None else str(self._found)

    def look(self) -> SlashesLostError | None:
        """Ask, and return why no copy can be read; None where nothing is known of that.

        A question without an answer says nothing.
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
