"""The time by the clocks of CouchDB nodes, in whole seconds."""

from datetime import UTC, datetime
from typing import Final

from peruserd.couch.client import Client
from peruserd.couch.session import quoted

# The form of a server's date (RFC 9110, 5.6.7).
_FORM: Final = "%a, %d %b %Y %H:%M:%S GMT"


def node_clock(client: Client, node: str) -> float | None:
    """Return the time by a node's own clock, in seconds of the wall clock; None if the node does not say.

    A relayed answer usually bears the date of the node that relays it. `_uuids` is the exception, because its handler
    sets the header itself (`couch_httpd_misc_handlers:handle_uuids_req`). Raises CouchError.
    """
    answer = client.session.request("GET", f"/_node/{quoted(node)}/_uuids", params={"count": "1"})
    return _moment(answer.expect(200).date)


def server_clock(client: Client) -> float | None:
    """Return the time by the clock of the server that answers; None if it does not say. Raises CouchError."""
    return _moment(client.session.request("GET", "/").expect(200).date)


def _moment(date: str) -> float | None:
    try:
        return datetime.strptime(date, _FORM).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
