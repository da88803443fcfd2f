"""Moving in from couch_peruser: what its databases have that peruserd's would not, and in which order to switch.

The findings are the audit's, by the configuration that does what couch_peruser does. The words say what peruserd does
about each kind when it starts.
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
from peruserd.core.configuration.config import DeletionPolicy
from peruserd.core.migration.settings import Peruser, shared, unpadded_names


class More(StrEnum):
    """Kinds that are no findings of an audit: they are only of interest when one moves."""

    SHARED = "shared"
    DELETED_WITH_DATABASE = "deleted_with_database"


class Roll(msgspec.Struct, frozen=True):
    """All that there is: the names of users whose document is there, of those who were deleted, and the databases."""

    live: frozenset[str]
    deleted: frozenset[str]
    databases: frozenset[str]


def roll_of(users: Mapping[str, bool], databases: Iterable[str]) -> Roll:
    """Return the roll of these user documents, by id and whether they are not deleted, and of these databases."""
    names = {name: is_live for each, is_live in users.items() if (name := user_name(each)) is not None}
    live = frozenset(name for name, is_live in names.items() if is_live)
    return Roll(live, frozenset(names) - live, frozenset(databases))


class Item(msgspec.Struct, frozen=True):
    """One user, or one database, of a group. Several users share a database, or a database has no user."""

    users: tuple[str, ...]
    database: str
    words: str = ""


class Group(msgspec.Struct, frozen=True):
    """All that differs in the same way; `what` says how, `then` what peruserd does about it when it starts."""

    kind: str
    what: str
    then: str
    items: tuple[Item, ...]

    @property
    def is_unseen(self) -> bool:
        """Say whether it is no difference, but something that could not be seen."""
        return self.kind in UNSEEN


class WayBack(msgspec.Struct, frozen=True):
    """The things that stop couch_peruser (up to 3.5) for good on their range, and so are in the way back.

    `no_database` counts deleted users who have no database, `too_long` users whose name no database can have, and
    `copies_differ` databases whose copies of the security object differ.
    """

    no_database: int
    too_long: int
    copies_differ: int


def groups(found: Iterable[Diagnosis], roll: Roll, prefix: str, policy: DeletionPolicy) -> list[Group]:
    """Return what differs, the kinds that need a hand first; those of which there is nothing are left out."""
    unpadded = unpadded_names(prefix, roll.live | roll.deleted)
    of_others = set(unpadded.values())
    items: dict[str, list[Item]] = {}
    for each in found:
        database = _database(prefix, each.user)
        for kind in each.findings:
            if kind is Finding.NO_USER and database in of_others:
                # It is somebody's, under the name that couch_peruser gives it.
                continue
            if kind is Finding.MISSING and Finding.UNPADDED in each.findings:
                # There is one, under that name.
                continue
            name = unpadded.get(each.user, database) if kind is Finding.UNPADDED else database
            items.setdefault(kind.value, []).append(Item((each.user,), name, each.words))
    together = shared(prefix, roll.live)
    items[More.SHARED] = [Item(each.users, each.database) for each in together if each.database in roll.databases]
    if policy is DeletionPolicy.DROP:
        items[More.DELETED_WITH_DATABASE] = _with_database(prefix, roll)
    return [Group(kind, *_WORDS[kind], tuple(items[kind])) for kind in _WORDS if items.get(kind)]


def way_back(roll: Roll, differing: Iterable[Group], prefix: str, peruser: Peruser) -> WayBack:
    """Return what would stop couch_peruser with these settings, where it was switched on again."""
    copies_differ = sum(len(each.items) for each in differing if each.kind == Finding.COPIES_DIFFER)
    unpadded = unpadded_names(prefix, roll.deleted)
    without = sum(unpadded.get(each, _database(prefix, each)) not in roll.databases for each in roll.deleted)
    too_long = sum(_database(prefix, each) == "" for each in roll.live)
    return WayBack(0 if peruser.delete_dbs else without, too_long, copies_differ)


def order(url: str, nodes: Collection[str], *, username: str | None) -> list[str]:
    """Return in words, a line each, in which order to switch and how to go back."""
    account = f"-u {shlex.quote(username)} " if username else ""
    # Anything may have answered for the server, and a person will paste this into a shell.
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


def _with_database(prefix: str, roll: Roll) -> list[Item]:
    databases = ((user, _database(prefix, user)) for user in sorted(roll.deleted))
    return [Item((user,), database) for user, database in databases if database in roll.databases]


def _database(prefix: str, user: str) -> str:
    """Return the name of a user's database; none where there can be no such database."""
    try:
        return database_name(prefix, user)
    except UnservableNameError:
        return ""
