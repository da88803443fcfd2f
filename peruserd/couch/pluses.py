"""Finds out whether an encoded plus sign in a path reaches the server unchanged.

CouchDB reads a plain plus in a path as a space. So if a proxy decodes `%2B`, a name with a plus becomes another name.
That can be a prefix of databases, a document of a template, or the name of a node.
"""

from typing import Final

from peruserd.couch.client import Client

_PROBE: Final = "/_node/peruserd%2Bprobe/_dbs/_dbs"

# CouchDB names the node that it does not know.
_LOST: Final = "no such node: peruserd probe"

PLUS_LOST: Final = (
    "something between this host and CouchDB decodes %2B in paths, and CouchDB reads a space there, so a prefix, a "
    "template or a node with a + in its name is taken for another one; give the node's own address in couchdb.url, or "
    "let the proxy pass paths on as they are (nginx: proxy_pass without a path part; Apache: nocanon)"
)


def plus_is_lost(client: Client) -> bool:
    """Say whether an encoded plus in a path becomes another character, on a server with `/_node` pages.

    An answer that is not CouchDB's proves nothing. Raises CouchError.
    """
    answer = client.session.request("GET", _PROBE)
    return answer.status == 404 and answer.reason == _LOST
