"""Finds out which life of a database's name has ended, by a node's list of databases.

CouchDB's tombstone of a shard map keeps the content of the map, including the suffix of the shards (measured on 3.5.0).
The tombstone survives a compaction of the list.
"""

import msgspec

from peruserd.core.deletions.lives import newest
from peruserd.couch.client import Client
from peruserd.couch.errors import UnexpectedAnswerError
from peruserd.couch.paths import map_path
from peruserd.couch.shapes import Suffixed


class _Leaf(Suffixed, frozen=True, rename={"deleted": "_deleted"}):
    deleted: bool = False


class _Open(msgspec.Struct, frozen=True):
    ok: _Leaf | None = None


def ended_life(client: Client, database: str) -> str | None:
    """Return the suffix of the newest life of a database that was deleted; raises CouchError.

    Returns None if the database exists, if it never did, or if the server has no list. Returns the empty text if the
    list does not tell one life from another.
    """
    if not client.has_directory:
        return None
    answer = client.session.request("GET", map_path("_local", database), params={"open_revs": "all"})
    leaves = [each.ok for each in answer.expect(200).decode(list[_Open]) if each.ok is not None]
    if any(not each.deleted for each in leaves):
        return None
    try:
        return newest(each.suffix for each in leaves)
    except ValueError as error:
        raise UnexpectedAnswerError(f"{answer.request}: {error}") from error
