"""The fate of an encoded slash in a path, on its way to the server."""

from enum import Enum
from typing import Final

from peruserd.couch.client import Client
from peruserd.couch.errors import UnexpectedAnswerError
from peruserd.couch.shapes import Named

# This names a database that cannot be, unless something makes a slash of the %2F on the way: then it is a node's page.
_PROBE: Final = "/_node%2F_local"

# Statuses that say nothing of the path.
_OF_THE_MOMENT: Final = frozenset({401, 408, 429})


class SlashFate(Enum):
    """The fate of an encoded slash on its way to the server."""

    KEPT = "kept"
    DECODED = "decoded"
    REFUSED = "refused"


def fate_of_slashes(client: Client) -> SlashFate:
    """Find out whether a slash that is encoded in a path reaches the server so; on one that has `/_node` pages.

    CouchDB refuses the path that is asked for in its own words. An answer to the other path proves that something has
    decoded the slash. A redirection, or a refusal in other words, says something of the slash only where the other path
    is open. Raises CouchError where nothing follows.
    """
    answer = client.session.request("GET", _PROBE)
    if answer.status == 200:
        answer.decode(Named)
        return SlashFate.DECODED
    if answer.status in _OF_THE_MOMENT or not 300 <= answer.status < 500:
        raise UnexpectedAnswerError(f"{answer.request}: {answer.status}")
    if answer.status >= 400 and answer.has_reason:
        return SlashFate.KEPT
    if client.node_name() is None:
        raise UnexpectedAnswerError(f"{answer.request}: {answer.status}, and nodes have no pages here")
    return SlashFate.DECODED if answer.status < 400 else SlashFate.REFUSED
