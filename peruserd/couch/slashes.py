"""Finds out whether an encoded slash in a path reaches the server unchanged."""

from enum import Enum
from typing import Final

from peruserd.couch.client import Client
from peruserd.couch.errors import UnexpectedAnswerError
from peruserd.couch.shapes import Named

# No database can have this name. If a proxy decodes the %2F, the path becomes that of a node's page.
_PROBE: Final = "/_node%2F_local"

# Statuses that say nothing about the path.
_OF_THE_MOMENT: Final = frozenset({401, 408, 429})


class SlashHandling(Enum):
    """The handling of an encoded slash on its way to the server."""

    KEPT = "kept"
    DECODED = "decoded"
    REFUSED = "refused"


def probe_slashes(client: Client) -> SlashHandling:
    """Find out whether an encoded slash in a path reaches a server with `/_node` pages unchanged.

    The result follows from the answer:

    - If CouchDB refuses the path in its own words, the slash is kept.
    - If the answer is the node's page, a proxy has decoded the slash.
    - A redirection, or a refusal in other words, counts only if the node's page itself is open.

    Raises CouchError if the answer proves nothing.
    """
    answer = client.session.request("GET", _PROBE)
    if answer.status == 200:
        answer.decode(Named)
        return SlashHandling.DECODED
    if answer.status in _OF_THE_MOMENT or not 300 <= answer.status < 500:
        raise UnexpectedAnswerError(f"{answer.request}: {answer.status}")
    if answer.status >= 400 and answer.has_reason:
        return SlashHandling.KEPT
    if client.node_name() is None:
        raise UnexpectedAnswerError(f"{answer.request}: {answer.status}, and nodes have no pages here")
    return SlashHandling.DECODED if answer.status < 400 else SlashHandling.REFUSED
