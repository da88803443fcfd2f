"""The fate of an encoded plus sign in a path, on its way to the server.

CouchDB takes a plus that stands in a path as it is for a space, so a proxy that decodes `%2B` makes another name of one
with a plus. That can be a prefix of databases, a document of a template, or the name of a node.
"""

from typing import Final

from peruserd.couch.client import Client

_PROBE: Final = "/_node/peruserd%2Bprobe/_dbs/_dbs"

# CouchDB says which node it does not know.
_LOST: Final = "no such node: peruserd probe"

PLUS_LOST: Final = (
    "something between this host and CouchDB decodes %2B in paths, and CouchDB reads a space there, so a prefix, a "
    "template or a node with a + in its name is taken for another one; give the node's own address in couchdb.url, or "
    "let the proxy pass paths on as they are (nginx: proxy_pass without a path part; Apache: nocanon)"
)


def plus_is_lost(client: Client) -> bool:
    """Say whether a plus that is encoded in a path becomes another character; on a server with `/_node` pages.

    Another answer than CouchDB's own says nothing of it. Raises CouchError.
    """
    answer = client.session.request("GET", _PROBE)
    return answer.status == 404 and answer.reason == _LOST
