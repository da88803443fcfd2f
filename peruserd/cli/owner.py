"""`peruserd owner`: which instance serves a user, by what the cluster is now."""

import argparse

from peruserd.cli.connecting import Connected, with_server
from peruserd.cli.parser import EXIT_DONE, EXIT_NOT_DONE
from peruserd.core.hashing import document_hash
from peruserd.core.names import user_document_id
from peruserd.core.ownership import Ownership
from peruserd.core.views import Feed, View
from peruserd.supervisor.watcher import Lookout


def run(options: argparse.Namespace) -> int:
    """Print a line for each user; exit 1 where one has no owner now."""
    return with_server(options, lambda connected: _owners(connected, options.users))


def _owners(connected: Connected, users: list[str]) -> int:
    lookout = Lookout(connected.client, connected.config.couchdb)
    attachment = lookout.attach()
    view = lookout.look()
    code = EXIT_DONE
    for user in users:
        if attachment.feed is Feed.DATABASE:
            print(f"{user}: {attachment.node} (a server without shards has one instance, which serves every user)")
        elif not _explain(user, view):
            code = EXIT_NOT_DONE
    return code


def _explain(user: str, view: View) -> bool:
    if view.shard_map is None:
        print(f"{user}: nobody, because the authentication database does not exist")
        return False
    document_id = user_document_id(user)
    position = document_hash(document_id)
    ranges = view.shard_map.ranges_holding(position)
    if not ranges:
        print(f"{user}: nobody, because no range of the shard map holds its hash {position:08x}")
        return False
    owner = Ownership.of(view.shard_map, ranges[0], view.instances).owner(document_id)
    hosts = [f"{node}{'' if node in view.instances else ' (not alive)'}" for node in view.shard_map.hosts_of(position)]
    where = f"hash {position:08x}, range {', '.join(map(str, ranges))}, hosts in order: {', '.join(hosts)}"
    print(f"{user}: {owner or 'nobody, because no instance is alive'} ({where})")
    return owner is not None
