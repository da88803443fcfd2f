"""The lines of `peruserd check` about leases: their database, whether it can be read, and instances that differ."""

import shlex
import time
from collections.abc import Iterator
from typing import Final

import msgspec

from peruserd.cli.connecting import Connected
from peruserd.core.cluster.agreement import configuration_digest, differing
from peruserd.core.cluster.more_copies import nodes_to_add, with_copies
from peruserd.core.users.security import MalformedSecurityError, is_public
from peruserd.couch.cluster_database import ClusterDatabase, DatabaseState
from peruserd.couch.session import quoted
from peruserd.couch.shapes import Membership
from peruserd.supervisor.membership import LeaseObserver

Line = tuple[str, str]
"""The subject of a line, and its words."""

_ABOUT: Final = "leases"


def describe(
    connected: Connected, database: ClusterDatabase, observer: LeaseObserver, members: Membership
) -> Iterator[Line]:
    """Return the lines, in their order."""
    state = database.state
    if state.to_be_made:
        yield _ABOUT, f"kept in the database {database.name}, which the first instance that runs makes"
    elif not state.hosts and not state.refused:
        yield _ABOUT, f"cannot be kept yet: {state.why}"
    elif not state.usable:
        yield _ABOUT, f"cannot be read or trusted: {state.why}"
    if state.hosts and not state.refused:
        yield _ABOUT, f"in the database {database.name}: {len(state.live)} of {state.expected} copies answer"
        yield from _mending(connected, database, state, members)
    yield from _apart(connected, observer)


def _mending(
    connected: Connected, database: ClusterDatabase, state: DatabaseState, members: Membership
) -> Iterator[Line]:
    if len(state.live) >= state.expected:
        return
    away = sorted(set(state.hosts).difference(members.all_nodes))
    if away:
        yield "to mend", f"start {', '.join(away)} again, unless it is gone for good"
    if not state.live:
        yield "to mend", "if all of them are gone for good, delete the database; the daemon makes a new, empty one:"
        yield "", _curl(connected, "DELETE", f"/{quoted(database.name)}")
        return
    able = set(members.all_nodes).intersection(members.cluster_nodes)
    nodes = nodes_to_add(state.hosts, state.live, able, state.expected)
    if not nodes:
        return
    node = connected.client.node_name() or "_local"
    changed = with_copies(connected.client.shard_map_document(node, database.name), nodes)
    yield "to mend", f"give {', '.join(nodes)} a copy, by these two commands (the password is asked for):"
    yield (
        "",
        _curl(connected, "PUT", f"/_node/_local/_dbs/{quoted(database.name)}", msgspec.json.encode(changed).decode()),
    )
    yield "", _curl(connected, "POST", f"/{quoted(database.name)}/_sync_shards")


def _curl(connected: Connected, method: str, path: str, body: str | None = None) -> str:
    user = connected.credentials.username if connected.credentials is not None else "ADMIN"
    words = ["curl", "-u", user, "-X", method, "-H", "Content-Type: application/json"]
    words += [] if body is None else ["-d", body]
    return " ".join(map(shlex.quote, [*words, connected.config.couchdb.url + path]))


def _apart(connected: Connected, observer: LeaseObserver) -> Iterator[Line]:
    living = observer.living(time.monotonic())
    for lease in differing(configuration_digest(connected.config, connected.templates), living):
        instance = f"the instance beside {lease.node} (version {lease.version})"
        yield (
            "configuration",
            f"{instance} has other settings for databases or deletions; users get those of the one that serves them",
        )


def sign_up(connected: Connected) -> Iterator[Line]:
    """Return a line where anybody can sign up; the authentication database must be there."""
    auth_db = connected.config.couchdb.auth_db
    try:
        is_open = is_public(connected.client.security(auth_db))
    except MalformedSecurityError as error:
        yield "sign-up", f"the security object of {auth_db} cannot be understood: {error}"
        return
    if is_open:
        fine = "that is safe, because no instance trusts what is written there"
        yield "sign-up", f"{auth_db} has no members, so anybody can sign up and read the names of all; {fine}"
