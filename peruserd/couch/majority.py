"""Finds the ranges of a database without a majority of their copies, by a request to each copy.

A clustered read does not show that, because a minority answers it as well. Nothing is written.
"""

from typing import Final

from peruserd.core.cluster.views import Copy, Feed
from peruserd.core.ownership.ranges import Range, ShardMap
from peruserd.couch.client import Client
from peruserd.couch.copies import copies_of
from peruserd.couch.errors import CouchError, InterruptedRequestError, RefusedError, TimedOutError
from peruserd.couch.paths import copy_path
from peruserd.couch.probe import ServerProbe
from peruserd.couch.revisions import COPY_SECONDS

_MAX_NAMED: Final = 5

_ADVICE: Final = (
    "so users there cannot be served; start these nodes, or mend the network between the nodes. A node that is gone "
    "for good has to be taken out of the cluster and out of the shard map"
)


def why_no_majority(client: Client, feed: Feed, own: str, auth_db: str) -> str | None:
    """Return a text with the ranges of `auth_db` whose copies have no majority; None if there are none.

    Raises CouchError if the map of the ranges cannot be read.
    """
    if feed is Feed.DATABASE:
        why = ServerProbe(client, own, auth_db).without_majority(auth_db)
        return None if why is None else f"{why}, {_ADVICE}"
    shard_map = client.shard_map("_local", auth_db)
    return None if shard_map is None else _in_words(shard_map, _silent(client, shard_map))


def _silent(client: Client, shard_map: ShardMap) -> set[tuple[Range, str]]:
    """Return the copies that cannot be read, by range and node. After a time-out a node is not asked again."""
    silent: set[tuple[Range, str]] = set()
    hanging: set[str] = set()
    for copy in copies_of(shard_map, shard_map.hosts):
        if copy.node in hanging or not _is_read(client, copy, hanging):
            silent.add((copy.range, copy.node))
    return silent


def _is_read(client: Client, copy: Copy, hanging: set[str]) -> bool:
    try:
        client.session.request("GET", copy_path(copy), within_seconds=COPY_SECONDS).expect(200)
    except (InterruptedRequestError, RefusedError):
        raise
    except TimedOutError:
        hanging.add(copy.node)
        return False
    except CouchError:
        return False
    return True


def _in_words(shard_map: ShardMap, silent: set[tuple[Range, str]]) -> str | None:
    lacking = shard_map.without_majority(silent)
    if not lacking:
        return None
    nodes = sorted({node for each in lacking for node in shard_map.hosts[each] if (each, node) in silent})
    ranges = [str(each) for each in lacking]
    more = f" and {len(ranges) - _MAX_NAMED} more" if len(ranges) > _MAX_NAMED else ""
    named = ", ".join(ranges[:_MAX_NAMED]) + more
    where = f"not on {', '.join(nodes)}" if nodes else "the shard map names none"
    return f"no majority of the copies of {shard_map.database} answers, in the ranges {named}: {where}; {_ADVICE}"
