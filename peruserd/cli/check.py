"""`peruserd check`: say in plain words what the daemon would do. It changes nothing, on the server or on disk.

There is one exception. An existing state directory has a record of refused passwords, and this command updates it.
"""

import argparse
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from peruserd.cli import leases
from peruserd.cli.connecting import Connected, with_server
from peruserd.cli.output import print_json
from peruserd.cli.parser import EXIT_DONE, EXIT_NOT_DONE
from peruserd.cli.progress import Progress
from peruserd.cli.template_words import template_words
from peruserd.core.cluster.views import Assignment, Feed, Plan, View
from peruserd.core.common.escaping import counted, harmless
from peruserd.core.common.names import decode_database_name, user_document_id
from peruserd.core.configuration.choices import DeletionPolicy, OnReturn
from peruserd.core.configuration.config import DeletionConfig
from peruserd.couch.client import Client
from peruserd.couch.cluster_database import ClusterDatabase
from peruserd.couch.errors import CouchError
from peruserd.couch.listing import databases_with
from peruserd.couch.majority import why_no_majority
from peruserd.couch.pluses import PLUS_LOST, plus_is_lost
from peruserd.couch.session import quoted
from peruserd.couch.shapes import Membership
from peruserd.supervisor.cluster_reader import ClusterReader
from peruserd.supervisor.membership import LeaseObserver
from peruserd.supervisor.peruser_watch import ADVICE, is_peruser_on
from peruserd.supervisor.slashes import slashes_lost

_ON_DELETION = {
    DeletionPolicy.REVOKE: "the user loses access to the database, which stays",
    DeletionPolicy.KEEP: "nothing changes",
    DeletionPolicy.DROP: "the user loses access at once, and the database is deleted {when}",
}


class _Line(msgspec.Struct, frozen=True):
    """One finding. `clear` is false where it prevents the daemon from serving users."""

    about: str
    message: str
    clear: bool


class _Found(msgspec.Struct, frozen=True):
    """All that `--json` prints."""

    clear: bool
    lines: list[_Line]


class _Report:
    """Prints each finding at once, or with `as_json` all of them at the end."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._lines: list[_Line] = []

    def say(self, about: str, message: str, *, clear: bool = True) -> None:
        """Note one finding. A line without `about` continues the subject of the line before."""
        self._lines.append(_Line(about or self._lines[-1].about, message, clear))
        if not self._as_json:
            print(f"{about + ':' if about else '':<15} {harmless(message)}", flush=True)

    def end(self) -> int:
        """Print the JSON, if there is any, and return the exit code."""
        is_clear = all(line.clear for line in self._lines)
        if self._as_json:
            print_json(_Found(is_clear, self._lines))
        return EXIT_DONE if is_clear else EXIT_NOT_DONE


def run(options: argparse.Namespace) -> int:
    """Print one line for each finding; exit 1 where something prevents the daemon from serving users."""
    return with_server(options, lambda connected: _check(connected, options))


def _check(connected: Connected, options: argparse.Namespace) -> int:
    report = _Report(as_json=options.json)
    _look(connected, options.config, report)
    return report.end()


def _look(connected: Connected, path: str | None, report: _Report) -> None:
    config, client, templates = connected.config, connected.client, connected.templates
    report.say("configuration", f"{path or 'defaults'}: valid")
    if (words := _exposed(config.couchdb.password_file)) is not None:
        report.say("password", words)
    report.say("server", _server(connected))
    observer = LeaseObserver(config.cluster.lease_ttl)
    database = ClusterDatabase(client, config.cluster.database, mend=False)
    cluster_reader = ClusterReader(client, config.couchdb, observer, database)
    attachment = cluster_reader.attach()
    view = _with_instance(cluster_reader.read(), attachment.node)
    plan = cluster_reader.plan(view, view)
    if attachment.feed is Feed.DATABASE:
        report.say("node", "no shards here: one listener follows the database's own feed, and serves every user")
        _look_at_majority(connected, attachment.feed, report)
    else:
        _look_at_nodes(connected, attachment.node, view, report)
        _look_at_leases(connected, database, observer, report)
    auth_db = config.couchdb.auth_db
    if not client.database_exists(auth_db):
        words = f"the authentication database {auth_db} does not exist; the daemon would wait for it"
        report.say("users", words, clear=False)
        return
    if connected.credentials is not None and attachment.feed is Feed.SHARD:
        report.say("account", _account(client, auth_db, connected.credentials.username))
    for about, words in leases.sign_up(connected):
        report.say(about, words)
    report.say("users", f"{counted(client.count_user_documents(auth_db), 'user document')} in {auth_db}")
    report.say("databases", _databases(client, config.databases.prefix))
    for words in template_words(templates, config.security.grant):
        report.say("templates", words)
    _look_at_ranges(client, plan, report)
    report.say("on deletion", _on_deletion(config.deletion))


def _look_at_nodes(connected: Connected, node: str, view: View, report: _Report) -> None:
    client = connected.client
    members = client.membership()
    report.say("node", f"{node}; {_connected(members)}")
    _look_at_paths(connected, report)
    others = ", ".join(each for each in view.instances if each != node)
    report.say("instances", f"leases of others: {others or 'none'} (`peruserd plan` watches them for life)")
    if (refusing := _refusing(connected, members.all_nodes)) is not None:
        report.say("account", refusing, clear=False)
    is_on, words = _second_writer(client, members.all_nodes)
    report.say("second writer", words, clear=not is_on)


def _look_at_paths(connected: Connected, report: _Report) -> None:
    """Look for a proxy that changes paths; without one, each copy can be asked by itself."""
    if (lost := slashes_lost(connected.client)) is not None:
        # A proxy that decodes slashes decodes a plus too, and the remedy is the same.
        report.say("paths", str(lost), clear=False)
        return
    if plus_is_lost(connected.client):
        report.say("paths", PLUS_LOST, clear=False)
    _look_at_majority(connected, Feed.SHARD, report)


def _look_at_majority(connected: Connected, feed: Feed, report: _Report) -> None:
    config = connected.config
    why = why_no_majority(connected.client, feed, config.cluster.database, config.couchdb.auth_db)
    if why is not None:
        report.say("majority", why, clear=False)


def _look_at_leases(connected: Connected, database: ClusterDatabase, observer: LeaseObserver, report: _Report) -> None:
    for about, words in leases.describe(connected, database, observer, connected.client.membership()):
        report.say(about, words, clear=not database.state.refused)


def _connected(members: Membership) -> str:
    belonging = set(members.cluster_nodes)
    there = len(belonging.intersection(members.all_nodes))
    words = f"{there} of {counted(len(belonging), 'node')} {'is' if there == 1 else 'are'} connected"
    if not (strays := members.strays):
        return words
    return f"{words}, and {', '.join(strays)}, which {'do' if len(strays) > 1 else 'does'} not belong to the cluster"


def _look_at_ranges(client: Client, plan: Plan, report: _Report) -> None:
    for assignment in plan.assignments:
        words, is_read = _followed(client, assignment)
        report.say("would follow", words, clear=is_read)
    for unreadable in plan.unreadable:
        report.say("cannot read", f"{unreadable}: none of its hosts is connected", clear=False)


def _on_deletion(deletion: DeletionConfig) -> str:
    days = deletion.grace_period / 86_400
    when = f"{days:g} days later" if days else "as soon as the deletion is confirmed"
    words = _ON_DELETION[deletion.policy].format(when=when)
    shut = "; a database that is left stays closed to a new user of the same name"
    return words + shut if deletion.on_return is OnReturn.HOLD else words


def _with_instance(view: View, node: str) -> View:
    """Return the view with a daemon beside this node, because the command says what that daemon would do."""
    return msgspec.structs.replace(view, instances=tuple(sorted({*view.instances, node})))


def _refusing(connected: Connected, nodes: Iterable[str]) -> str | None:
    """Return the words about nodes that refuse the account, if any; each node has a password of its own for it."""
    if connected.credentials is None:
        return None
    if not (refusing := [each for each in sorted(nodes) if _is_refused(connected.client, each)]):
        return None
    return (
        f"{', '.join(refusing)} {'refuse' if len(refusing) > 1 else 'refuses'} {connected.credentials.username}; give "
        'the account the same password on each node: see "The account" in docs/install.md'
    )


def _is_refused(client: Client, node: str) -> bool:
    try:
        answer = client.session.request("GET", f"/_node/{quoted(node)}/_session")
    except CouchError:
        # The node does not answer just now. Other lines say what cannot be read.
        return False
    # CouchDB 3.5 answers a wrong password that another node hands on with this crash.
    return answer.refuses or (answer.status == 500 and answer.reason == "function_clause")


def _second_writer(client: Client, nodes: Iterable[str]) -> tuple[bool, str]:
    """Return whether couch_peruser is on anywhere, and the words about it; each node has its own configuration."""
    found = {node: is_peruser_on(client, node) for node in sorted(nodes)}
    said = []
    if enabled := ", ".join(node for node, is_on in found.items() if is_on):
        said.append(f"couch_peruser is on at {enabled}; {ADVICE}")
    elif False in found.values():
        said.append("couch_peruser is off")
    if silent := ", ".join(node for node, is_on in found.items() if is_on is None):
        said.append(f"whether couch_peruser is on at {silent} cannot be read")
    return bool(enabled), "; ".join(said)


def _exposed(password_file: str | None) -> str | None:
    """Return a warning where other accounts of this machine can read or write the password file."""
    try:
        is_open = password_file is not None and Path(password_file).stat().st_mode & _OTHERS
    except OSError:
        # The password has another source, such as the environment.
        return None
    if not is_open:
        return None
    words = f"every account of this machine can read or write {password_file}"
    return f"{words}: chmod 640, with the group that peruserd runs as"


# An account that can write the file decides which password is sent.
_OTHERS: Final = stat.S_IROTH | stat.S_IWOTH


def _server(connected: Connected) -> str:
    welcome = connected.client.welcome()
    who = "nobody (no credentials)" if connected.credentials is None else connected.credentials.username
    return f"version {welcome.version} at {connected.config.couchdb.url}, as {who}"


def _account(client: Client, auth_db: str, username: str) -> str:
    if client.document_exists(auth_db, user_document_id(username)):
        return f"{username} has a user document, and CouchDB caches it"
    return (
        f"{username} has no user document, so CouchDB searches several nodes for one with every request: "
        'see "The account" in docs/install.md'
    )


def _followed(client: Client, assignment: Assignment) -> tuple[str, bool]:
    """Return the words about a copy that would be followed, and whether it can be read."""
    copy, ownership = assignment.copy, assignment.ownership
    if copy.feed is Feed.DATABASE:
        return f"{copy.database}, the whole database", True
    is_read = False
    try:
        documents = counted(client.count_copy_documents(copy), "user document")
        is_read = True
    except CouchError as error:
        documents = f"cannot be read now: {error}"
    candidates = ", ".join(ownership.candidates)
    return f"{copy.range} on {copy.node}: {documents}; owners are among {candidates}", is_read


def _databases(client: Client, prefix: str) -> str:
    users = others = 0
    with Progress("databases found") as progress:
        for page in databases_with(client, prefix):
            mine = sum(decode_database_name(prefix, name) is not None for name in page)
            users += mine
            others += len(page) - mine
            progress.advance(len(page))
    words = f"{counted(users, 'user database')} with the prefix {prefix!r}"
    if not others:
        return words
    return f"{words}; with the prefix and no user's name: {others:,}, which would not be touched"
