"""`peruserd check`: what the daemon would do, in plain words. It changes nothing, on the server or on disk.

Where the daemon has a state directory already, its record of refused passwords is kept up to date, too.
"""

import argparse
from collections.abc import Iterable

import msgspec

from peruserd.cli import leases
from peruserd.cli.connecting import Connected, with_server
from peruserd.cli.parser import EXIT_DONE, EXIT_NOT_DONE
from peruserd.cli.template_words import template_words
from peruserd.core.config import DeletionConfig, DeletionPolicy, OnReturn
from peruserd.core.names import decode_database_name, user_document_id
from peruserd.core.views import Assignment, Feed, Plan, View
from peruserd.couch.client import Client, Membership
from peruserd.couch.cluster_database import ClusterDatabase
from peruserd.couch.errors import CouchError
from peruserd.couch.listing import databases_with
from peruserd.supervisor.presence import Onlooker
from peruserd.supervisor.second_writer import ADVICE, is_peruser_on
from peruserd.supervisor.slashes import slashes_lost
from peruserd.supervisor.watcher import Lookout

_ON_DELETION = {
    DeletionPolicy.REVOKE: "the user loses access to the database, which stays",
    DeletionPolicy.KEEP: "nothing changes",
    DeletionPolicy.DROP: "the user loses access at once, and the database is deleted {when}",
}


def run(options: argparse.Namespace) -> int:
    """Print one line for each thing found; exit 1 where something stands in the way of serving users."""
    return with_server(options, lambda connected: _check(connected, options.config))


def _check(connected: Connected, path: str | None) -> int:
    config, client, templates = connected.config, connected.client, connected.templates
    _say("configuration", f"{path or 'defaults'}: valid")
    _say("server", _server(connected))
    onlooker = Onlooker(config.cluster.lease_ttl)
    database = ClusterDatabase(client, config.cluster.database, mend=False)
    lookout = Lookout(client, config.couchdb, onlooker, database)
    attachment = lookout.attach()
    view = _with_instance(lookout.look(), attachment.node)
    plan = lookout.plan(view, view)
    is_clear = True
    if attachment.feed is Feed.DATABASE:
        _say("node", "no shards here: one listener follows the database's own feed, and serves every user")
    else:
        members = client.membership()
        _say("node", f"{attachment.node}; {_connected(members)}")
        if (lost := slashes_lost(client)) is not None:
            _say("paths", str(lost))
        others = [each for each in view.instances if each != attachment.node]
        _say("instances", f"leases of others: {', '.join(others) or 'none'} (`peruserd plan` watches them for life)")
        for about, words in leases.describe(connected, database, onlooker, members):
            _say(about, words)
        others_write, words = _second_writer(client, members.all_nodes)
        _say("second writer", words)
        is_clear = lost is None and not others_write
    auth_db = config.couchdb.auth_db
    if not client.database_exists(auth_db):
        _say("users", f"the authentication database {auth_db} does not exist; the daemon would wait for it")
        return EXIT_NOT_DONE
    if connected.credentials is not None and attachment.feed is Feed.SHARD:
        _say("account", _account(client, auth_db, connected.credentials.username))
    for about, words in leases.sign_up(connected):
        _say(about, words)
    _say("users", f"{client.count_user_documents(auth_db):,} user documents in {auth_db}")
    _say("databases", _databases(client, config.databases.prefix))
    for words in template_words(templates, config.security.grant):
        _say("templates", words)
    all_read = _say_what_is_followed(client, plan)
    _say("on deletion", _on_deletion(config.deletion))
    return EXIT_DONE if is_clear and all_read and not database.state.refused else EXIT_NOT_DONE


def _connected(members: Membership) -> str:
    belonging = set(members.cluster_nodes)
    words = f"{len(belonging.intersection(members.all_nodes))} of {len(belonging)} nodes are connected"
    if not (strays := members.strays):
        return words
    return f"{words}, and {', '.join(strays)}, which {'do' if len(strays) > 1 else 'does'} not belong to the cluster"


def _say_what_is_followed(client: Client, plan: Plan) -> bool:
    """Print a line for each range, and say whether all can be read."""
    followed = [_followed(client, assignment) for assignment in plan.assignments]
    for words, _ in followed:
        _say("would follow", words)
    for unreadable in plan.unreadable:
        _say("cannot read", f"{unreadable}: none of its hosts is connected")
    return not plan.unreadable and all(is_read for _, is_read in followed)


def _on_deletion(deletion: DeletionConfig) -> str:
    days = deletion.grace_period / 86_400
    when = f"{days:g} days later" if days else "as soon as the deletion is confirmed"
    words = _ON_DELETION[deletion.policy].format(when=when)
    shut = "; a database that is left is kept shut when its name is used again"
    return words + shut if deletion.on_return is OnReturn.HOLD else words


def _with_instance(view: View, node: str) -> View:
    """Return the view as it would be with a daemon beside the node, which is what is asked for."""
    return msgspec.structs.replace(view, instances=tuple(sorted({*view.instances, node})))


def _say(what: str, words: str) -> None:
    print(f"{what + ':' if what else '':<15} {words}", flush=True)


def _second_writer(client: Client, nodes: Iterable[str]) -> tuple[bool, str]:
    """Say whether couch_peruser is on anywhere, and in words where; each node has a configuration of its own."""
    found = {node: is_peruser_on(client, node) for node in sorted(nodes)}
    said = []
    if enabled := ", ".join(node for node, is_on in found.items() if is_on):
        said.append(f"couch_peruser is on at {enabled}; {ADVICE}")
    elif False in found.values():
        said.append("couch_peruser is off")
    if silent := ", ".join(node for node, is_on in found.items() if is_on is None):
        said.append(f"whether couch_peruser is on at {silent} cannot be read")
    return bool(enabled), "; ".join(said)


def _server(connected: Connected) -> str:
    welcome = connected.client.welcome()
    who = "nobody (no credentials)" if connected.credentials is None else connected.credentials.username
    return f"version {welcome.version} at {connected.config.couchdb.url}, as {who}"


def _account(client: Client, auth_db: str, username: str) -> str:
    if client.document_exists(auth_db, user_document_id(username)):
        return f"{username} has a user document, which CouchDB keeps at hand"
    return (
        f"{username} has no user document, and CouchDB looks for one on several nodes with every request: "
        'see "The account" in the README'
    )


def _followed(client: Client, assignment: Assignment) -> tuple[str, bool]:
    """Say what would be followed, and whether it can be read."""
    copy, ownership = assignment.copy, assignment.ownership
    if copy.feed is Feed.DATABASE:
        return f"{copy.database}, the whole database", True
    is_read = False
    try:
        documents = f"{client.count_copy_documents(copy):,} documents"
        is_read = True
    except CouchError as error:
        documents = f"cannot be read now: {error}"
    candidates = ", ".join(ownership.candidates)
    return f"{copy.range} on {copy.node}: {documents}; owners are among {candidates}", is_read


def _databases(client: Client, prefix: str) -> str:
    users = others = 0
    for page in databases_with(client, prefix):
        mine = sum(decode_database_name(prefix, name) is not None for name in page)
        users += mine
        others += len(page) - mine
    words = f"{users:,} user databases with the prefix {prefix!r}"
    return words + (f"; {others:,} more bear the prefix but no user's name, and would not be touched" if others else "")
