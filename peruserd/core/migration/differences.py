"""Moving from couch_peruser: how its databases differ from peruserd's, and the order of the steps.

The findings are those of the audit, with the configuration that corresponds to couch_peruser's settings. The words say
what peruserd will do about each kind when it starts.
"""

import shlex
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import Final
from urllib.parse import quote

import msgspec

from peruserd.core.audit.diagnosis import Diagnosis
from peruserd.core.audit.findings import UNSEEN, Finding
from peruserd.core.common.names import UnservableNameError, database_name, user_name
from peruserd.core.configuration.choices import DeletionPolicy
from peruserd.core.migration.settings import Peruser, shared, unpadded_names


class More(StrEnum):
    """Kinds beside the findings of an audit. They only matter when moving from couch_peruser."""

    SHARED = "shared"
    DELETED_WITH_DATABASE = "deleted_with_database"


class Inventory(msgspec.Struct, frozen=True):
    """All that exists: the names of live users, the names of deleted users, and the databases."""

    live: frozenset[str]
    deleted: frozenset[str]
    databases: frozenset[str]


def inventory_of(users: Mapping[str, bool], databases: Iterable[str]) -> Inventory:
    """Return the inventory of these user documents, by id and whether they are live, and of these databases."""
    names = {name: is_live for each, is_live in users.items() if (name := user_name(each)) is not None}
    live = frozenset(name for name, is_live in names.items() if is_live)
    return Inventory(live, frozenset(names) - live, frozenset(databases))


class Item(msgspec.Struct, frozen=True):
    """One item of a group. Usually it is one user. Several users can share a database, or a database has no user."""

    users: tuple[str, ...]
    database: str
    words: str = ""


class Group(msgspec.Struct, frozen=True):
    """All items with the same difference. `what` describes it, and `then` says what peruserd does about it."""

    kind: str
    what: str
    then: str
    items: tuple[Item, ...]

    @property
    def is_unseen(self) -> bool:
        """Say whether the group is no difference, but only something that could not be read."""
        return self.kind in UNSEEN


class WayBack(msgspec.Struct, frozen=True):
    """The obstacles on the way back: each stops couch_peruser (up to 3.5) for good on its range.

    - `no_database`: how many deleted users have no database.
    - `too_long`: how many users have a name for which no database can exist.
    - `copies_differ`: how many databases have copies with different security objects.
    """

    no_database: int
    too_long: int
    copies_differ: int


def groups(found: Iterable[Diagnosis], inventory: Inventory, prefix: str, policy: DeletionPolicy) -> list[Group]:
    """Return the groups of differences, those that need the operator first. Empty groups are left out."""
    unpadded = unpadded_names(prefix, inventory.live | inventory.deleted)
    of_others = set(unpadded.values())
    items: dict[str, list[Item]] = {}
    for each in found:
        database = _database(prefix, each.user)
        for kind in each.findings:
            if kind is Finding.NO_USER and database in of_others:
                # The database belongs to a user, under couch_peruser's name for it.
                continue
            if kind is Finding.MISSING and Finding.UNPADDED in each.findings:
                # The user has a database, under couch_peruser's name for it.
                continue
            name = unpadded.get(each.user, database) if kind is Finding.UNPADDED else database
            items.setdefault(kind.value, []).append(Item((each.user,), name, each.words))
    together = shared(prefix, inventory.live)
    items[More.SHARED] = [Item(each.users, each.database) for each in together if each.database in inventory.databases]
    if policy is DeletionPolicy.DROP:
        items[More.DELETED_WITH_DATABASE] = _with_database(prefix, inventory)
    return [Group(kind, *_WORDS[kind], tuple(items[kind])) for kind in _WORDS if items.get(kind)]


def way_back(inventory: Inventory, differing: Iterable[Group], prefix: str, peruser: Peruser) -> WayBack:
    """Return what would stop couch_peruser with these settings if it was switched on again."""
    copies_differ = sum(len(each.items) for each in differing if each.kind == Finding.COPIES_DIFFER)
    unpadded = unpadded_names(prefix, inventory.deleted)
    without = sum(unpadded.get(each, _database(prefix, each)) not in inventory.databases for each in inventory.deleted)
    too_long = sum(_database(prefix, each) == "" for each in inventory.live)
    return WayBack(0 if peruser.delete_dbs else without, too_long, copies_differ)


def order(url: str, nodes: Collection[str], *, username: str | None) -> list[str]:
    """Return the steps of the move and of the way back, in words, one line each."""
    account = f"-u {shlex.quote(username)} " if username else ""
    # A person will paste these lines into a shell, and the names may come from a server that is not CouchDB.
    addresses = [shlex.quote(f"{url}/_node/{quote(node, safe='@')}/_config/{_ENABLE}") for node in sorted(nodes)]
    return [
        "1. Read what differs above; docs/migrating.md says what to do about it, before or after.",
        "2. Put the configuration on each machine; `peruserd check` there exits 1 as long as couch_peruser is on.",
        "3. Switch couch_peruser off on every node, and in its configuration files where these say enable = true:",
        *(f"   curl {account}-X PUT {address} -d '\"false\"'" for address in addresses),
        "4. Start peruserd on every machine, and wait until /readyz says ok.",
        "5. Run `peruserd audit`, and `peruserd migrate --check` once more.",
        "The way back: stop peruserd on every machine, then switch couch_peruser on. Read docs/migrating.md before.",
    ]


_ENABLE: Final = "couch_peruser/enable"

_ALONE: Final = "peruserd leaves them alone"

_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    More.SHARED: (
        "databases that several users share, because couch_peruser leaves out digits",
        "peruserd makes each of them a database of its own; what is in the shared one is for you to divide",
    ),
    Finding.UNPADDED: (
        "users whose database has another name, because couch_peruser leaves out digits",
        "peruserd makes them an empty one; replicate what is in the old one into it, then delete the old one",
    ),
    More.DELETED_WITH_DATABASE: (
        "deleted users whose database is still there",
        "peruserd deletes these databases, as delete_dbs says; the breaker stops it where there are many",
    ),
    Finding.NO_USER: ("databases of names without a user document", _ALONE),
    Finding.UNREADABLE: ("security objects that cannot be understood", "peruserd keeps these users in quarantine"),
    Finding.OPTIONS: ("databases that were made with other options", _ALONE),
    Finding.TEMPLATE: (
        "databases whose documents of templates are missing or out of date",
        "`peruserd templates rollout` brings them",
    ),
    Finding.COPIES_DIFFER: (
        "databases whose copies of the security object differ",
        "`peruserd audit --repair` mends them",
    ),
    Finding.PUBLIC: ("databases that everybody may read and write", "peruserd closes them"),
    Finding.NOT_NAMED: ("databases that do not name their user", "peruserd gives these users access"),
    Finding.STILL_NAMED: ("deleted users who still have access", "peruserd takes their access away"),
    Finding.HELD: ("databases that are kept shut, by [deletion] on_return", "the operator decides"),
    Finding.MISSING: ("users without a database", "peruserd makes them one"),
    Finding.COPY_BEHIND: (
        "users of whom a copy of the authentication database does not know the newest",
        "internal replication should bring it; peruserd serves what other copies know",
    ),
    Finding.COPIES_SILENT: ("databases of which a copy could not be read", "run this again when all nodes are there"),
    Finding.UNCONFIRMED: ("users of whom it cannot be told whether they are there", "run this again later"),
}


def _with_database(prefix: str, inventory: Inventory) -> list[Item]:
    databases = ((user, _database(prefix, user)) for user in sorted(inventory.deleted))
    return [Item((user,), database) for user, database in databases if database in inventory.databases]


def _database(prefix: str, user: str) -> str:
    """Return the name of a user's database; empty if no such database can exist."""
    try:
        return database_name(prefix, user)
    except UnservableNameError:
        return ""
