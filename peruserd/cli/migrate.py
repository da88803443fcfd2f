"""`peruserd migrate`: moving from CouchDB's couch_peruser to peruserd. It reads, and changes nothing.

It prints the equivalent configuration, the differences, and the order of the switch.
"""

import argparse
import time
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from peruserd.cli.connecting import Connected, need_users, with_server
from peruserd.cli.output import CommandError, print_json
from peruserd.cli.parser import EXIT_DONE, EXIT_LATER, EXIT_NOT_DONE
from peruserd.cli.progress import Progress, announce
from peruserd.cli.survey import Survey
from peruserd.core.audit.diagnosis import Rules
from peruserd.core.cluster.views import Feed
from peruserd.core.common.escaping import counted, shown
from peruserd.core.configuration.config import Config
from peruserd.core.migration.differences import Group, Inventory, Item, WayBack, groups, inventory_of, order, way_back
from peruserd.core.migration.settings import (
    Difference,
    Peruser,
    as_configured,
    as_toml,
    differences,
    leading,
    obstacles,
)
from peruserd.couch.client import Client
from peruserd.couch.errors import NotFoundError, RejectedError, UnauthorizedError
from peruserd.couch.peruser import Settings, read_settings
from peruserd.supervisor.attaching import attach

# Printed items of each group; JSON has all.
_MAX_SHOWN: Final = 10

_NOBODY_SAYS: Final = (
    "no node shows its couch_peruser settings; to read them takes a server admin's account and an open /_node"
)

_SHOWN_SETTINGS: Final = ("delete_dbs", "database_prefix", "q", "auth_db", "default_security", "cluster_quiet_period")


class _Found(msgspec.Struct, frozen=True):
    """All findings, as printed as JSON; `differs` has all names of each kind."""

    settings: dict[str, Peruser]
    hidden: dict[str, str]
    setting_differences: list[Difference]
    obstacles: list[str]
    configuration: str
    users: int
    seconds: float
    differs: list[Group]
    order: list[str]
    way_back: WayBack

    @property
    def code(self) -> int:
        """Return 1 where anything differs, and 75 where only some database could not be seen."""
        are_apart = self.hidden or self.setting_differences or self.obstacles
        if are_apart or any(not each.is_unseen for each in self.differs):
            return EXIT_NOT_DONE
        return EXIT_LATER if self.differs else EXIT_DONE


def run(options: argparse.Namespace) -> int:
    """Print the findings; exit 0, or with --check 1 where anything differs."""
    return with_server(options, lambda connected: _migrate(connected, options), connections=options.threads)


def _migrate(connected: Connected, options: argparse.Namespace) -> int:
    began = time.monotonic()
    client = connected.client
    attachment = attach(client, connected.config.couchdb)
    settings = read_settings(client, _nodes(client, attachment.feed))
    if not settings.found:
        raise CommandError(EXIT_NOT_DONE, "settings_hidden", *_hidden(settings), _NOBODY_SAYS)
    peruser = leading(settings.found)
    # The account may come from the url, from which it has been removed.
    config = as_configured(peruser, connected.config, _username(connected))
    if not options.json:
        if not options.check:
            _print_all(_of_settings(settings, peruser, config))
        # This is printed before users are looked at, because there may be none, or no authentication database.
        _print_all(_apart(settings, peruser))
    need_users(client, config.couchdb.auth_db)
    announce("looking at all users, and at each copy of their databases")
    survey = _survey(client, config, attachment.node, attachment.feed, options.threads)
    found = _found(connected, settings, peruser, config, _looked(survey, config), began)
    if options.json:
        print_json(found)
    else:
        _print_all(_in_words(found, whole=not options.check))
    if options.check:
        return found.code
    return EXIT_NOT_DONE if settings.hidden or found.obstacles else EXIT_DONE


def _nodes(client: Client, feed: Feed) -> list[str]:
    """Return the nodes of the cluster, also those that are away, because the output must name them."""
    try:
        members = client.membership()
    except (NotFoundError, RejectedError, UnauthorizedError):
        if feed is Feed.SHARD:
            raise
        # CouchDB 1.x has no such page, and a proxy can block it.
        return ["_local"]
    return sorted({*members.all_nodes, *members.cluster_nodes})


def _username(connected: Connected) -> str | None:
    return None if connected.credentials is None else connected.credentials.username


class _Looked(msgspec.Struct, frozen=True):
    users: int
    inventory: Inventory
    groups: list[Group]


def _survey(client: Client, config: Config, node: str, feed: Feed, threads: int) -> Survey:
    nodes = len(client.membership().cluster_nodes) if feed is Feed.SHARD else None
    rules = Rules(config.databases, config.deletion, nodes)
    return Survey(client, node, feed, config.couchdb.auth_db, rules, threads)


def _looked(survey: Survey, config: Config) -> _Looked:
    with Progress("users found") as progress:
        users = survey.users(progress)
    databases: set[str] = set()
    with Progress("databases found") as progress:
        for name in survey.databases():
            databases.add(name)
            progress.advance(1)
    inventory = inventory_of(users, databases)
    ids = [*sorted(users), *survey.nobodies(users, databases)]
    with Progress("users looked at", len(ids)) as progress:
        found = survey.differing(ids, progress)
    return _Looked(len(users), inventory, groups(found, inventory, config.databases.prefix, config.deletion.policy))


def _found(
    connected: Connected, settings: Settings, peruser: Peruser, config: Config, looked: _Looked, began: float
) -> _Found:
    return _Found(
        settings=settings.found,
        hidden=settings.hidden,
        setting_differences=differences(settings.found),
        obstacles=obstacles(peruser),
        configuration=as_toml(config),
        users=looked.users,
        seconds=round(time.monotonic() - began, 1),
        differs=looked.groups,
        order=order(config.couchdb.url, [*settings.found, *settings.hidden], username=_username(connected)),
        way_back=way_back(looked.inventory, looked.groups, config.databases.prefix, peruser),
    )


# Printing


def _print_all(lines: Iterator[str]) -> None:
    for line in lines:
        print(line, flush=True)


def _of_settings(settings: Settings, peruser: Peruser, config: Config) -> Iterator[str]:
    """Return the lines on couch_peruser's settings, and on the configuration that does the same."""
    on = [node for node, each in settings.found.items() if each.enable]
    yield f"couch_peruser is on at {_names(on)}" if on else "couch_peruser is off on every node that answered"
    for name in _SHOWN_SETTINGS:
        value = getattr(peruser, name)
        yield f"  {name:<21} {str(value).lower() if isinstance(value, bool) else shown(str(value))}"
    yield ""
    yield "peruserd.toml"
    yield from (f"  {line}".rstrip() for line in as_toml(config).splitlines())
    yield ""


def _hidden(settings: Settings) -> Iterator[str]:
    for node, why in settings.hidden.items():
        yield f"the couch_peruser settings of {shown(node)} cannot be read: {shown(why)}"


def _names(nodes: Iterable[str]) -> str:
    return ", ".join(map(shown, nodes))


def _apart(settings: Settings, peruser: Peruser) -> Iterator[str]:
    """Return the lines on settings that differ between nodes, and on those that peruserd cannot imitate."""
    yield from _hidden(settings)
    for each in differences(settings.found):
        values = "; ".join(f"{shown(value)} at {_names(nodes)}" for value, nodes in each.values.items())
        yield f"nodes differ in {each.setting}: {values}"
    yield from map(shown, obstacles(peruser))


def _in_words(found: _Found, *, whole: bool) -> Iterator[str]:
    for group in found.differs:
        yield from _group(group)
    if not whole:
        return
    count = counted(found.users, "user")
    if not found.differs:
        yield f"{count} in {found.seconds:g} s; nothing differs in the databases"
    else:
        yield f"{count} in {found.seconds:g} s"
    yield ""
    yield "The order"
    yield from (f"  {shown(line)}" for line in found.order)
    yield from (f"     {line}" for line in _back(found.way_back))


def _group(group: Group) -> Iterator[str]:
    yield f"{group.what}: {len(group.items):,}"
    yield f"  ({group.then})"
    yield from (f"  {_item(each)}" for each in group.items[:_MAX_SHOWN])
    if len(group.items) > _MAX_SHOWN:
        yield f"  and {len(group.items) - _MAX_SHOWN:,} more, see --json"


def _item(item: Item) -> str:
    return f"{', '.join(map(shown, item.users))}  {shown(item.database)}".rstrip()


def _back(found: WayBack) -> Iterator[str]:
    """Return the lines on users and databases at which couch_peruser stops after a way back."""
    stops = (
        (found.no_database, "deleted users without a database"),
        (found.too_long, "users with a name too long for a database"),
        (found.copies_differ, "databases whose copies of the security object differ"),
    )
    if any(count for count, _ in stops):
        said = ", ".join(f"{count:,} {what}" for count, what in stops if count)
        yield f"couch_peruser stops at each of these, and serves nobody else of the range any more: {said}."
