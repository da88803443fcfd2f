"""The time by the clocks of CouchDB nodes, to the second."""

from datetime import UTC, datetime
from typing import Final

from peruserd.couch.client import Client
from peruserd.couch.session import quoted

# The one form in which a server may send a date (RFC 9110, 5.6.7).
_FORM: Final = "%a, %d %b %Y %H:%M:%S GMT"


def node_clock(client: Client, node: str) -> float | None:
    """Return the time by a node's own clock, as seconds of the wall clock; None where it does not say.

    An answer that is relayed from another node bears the date of the node that relays it, except this one, for which
    CouchDB itself sets the header (`couch_httpd_misc_handlers:handle_uuids_req`). Raises CouchError.
    """
    answer = client.session.request("GET", f"/_node/{quoted(node)}/_uuids", params={"count": "1"})
    return _moment(answer.expect(200).date)


def server_clock(client: Client) -> float | None:
    """Return the time by the clock of the server that answers; None where it does not say. Raises CouchError."""
    return _moment(client.session.request("GET", "/").expect(200).date)


def _moment(date: str) -> float | None:
    try:
        return datetime.strptime(date, _FORM).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
