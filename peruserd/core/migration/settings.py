"""Moving from CouchDB's built-in couch_peruser to peruserd: its settings, and the corresponding configuration.

The meaning and the defaults of the settings are those of CouchDB 2.1 to 3.5 (`couch_peruser`, `config`). An invalid
number or boolean counts as not given.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from peruserd.core.audit.diagnosis import unpadded_name
from peruserd.core.common.names import UnservableNameError, check_prefix, decode_database_name
from peruserd.core.configuration.choices import DeletionPolicy
from peruserd.core.configuration.config import MAX_SHARDS, Config, DatabasesConfig, DeletionConfig, Table

Values = Mapping[tuple[str, str], str | None]
"""The settings of a node by section and key; None stands for a setting that is not given."""

SECTION: Final = "couch_peruser"

SETTINGS: Final = (
    (SECTION, "enable"),
    (SECTION, "delete_dbs"),
    (SECTION, "database_prefix"),
    (SECTION, "q"),
    (SECTION, "cluster_quiet_period"),
    (SECTION, "cluster_start_period"),
    ("couch_httpd_auth", "authentication_db"),
    ("chttpd_auth", "authentication_db"),
    ("couchdb", "default_security"),
)
"""The settings that decide what couch_peruser does, by section and key."""


class Peruser(msgspec.Struct, frozen=True):
    """The settings of couch_peruser on one node.

    `users_elsewhere` is the database in which CouchDB itself looks for users, if couch_peruser follows another one.
    """

    enable: bool = False
    delete_dbs: bool = False
    database_prefix: str = "userdb-"
    q: int = 1
    cluster_quiet_period: int = 60
    cluster_start_period: int = 5
    auth_db: str = "_users"
    users_elsewhere: str | None = None
    default_security: str = "admin_only"


class Difference(msgspec.Struct, frozen=True):
    """A setting that differs between nodes: each value with its nodes, sorted."""

    setting: str
    values: dict[str, tuple[str, ...]]


class Sharing(msgspec.Struct, frozen=True):
    """A database that several users share, because couch_peruser gives them the same name."""

    database: str
    users: tuple[str, ...]


def peruser_of(values: Values) -> Peruser:
    """Return the effective settings of couch_peruser on a node."""
    default = Peruser()
    auth_db = values.get(("couch_httpd_auth", "authentication_db")) or default.auth_db
    of_couchdb = values.get(("chttpd_auth", "authentication_db")) or default.auth_db
    return Peruser(
        enable=_boolean(values, "enable"),
        delete_dbs=_boolean(values, "delete_dbs"),
        database_prefix=values.get((SECTION, "database_prefix")) or default.database_prefix,
        q=_integer(values, "q", default.q),
        cluster_quiet_period=abs(_integer(values, "cluster_quiet_period", default.cluster_quiet_period)),
        cluster_start_period=abs(_integer(values, "cluster_start_period", default.cluster_start_period)),
        auth_db=auth_db,
        users_elsewhere=None if of_couchdb == auth_db else of_couchdb,
        default_security=values.get(("couchdb", "default_security")) or default.default_security,
    )


def leading(found: Mapping[str, Peruser]) -> Peruser:
    """Return the settings to use if nodes differ: those of most nodes with couch_peruser on, or else of most nodes.

    Raises ValueError if there are no settings.
    """
    if not found:
        raise ValueError("no node's settings could be read")
    enabled = [each for each in found.values() if each.enable] or list(found.values())
    return max(enabled, key=enabled.count)


def differences(found: Mapping[str, Peruser]) -> list[Difference]:
    """Return the settings that differ between nodes."""
    differing = []
    for setting in msgspec.structs.fields(Peruser):
        nodes: dict[str, list[str]] = {}
        for node in sorted(found):
            nodes.setdefault(_shown(getattr(found[node], setting.name)), []).append(node)
        if len(nodes) > 1:
            differing.append(Difference(setting.name, {value: tuple(each) for value, each in nodes.items()}))
    return differing


def obstacles(peruser: Peruser) -> list[str]:
    """Return in words which settings no configuration of peruserd can imitate."""
    said = []
    try:
        check_prefix(peruser.database_prefix)
    except ValueError as error:
        said.append(f"the prefix {peruser.database_prefix!r} cannot be kept: {error}")
    if not 1 <= peruser.q <= MAX_SHARDS:
        said.append(f"q = {peruser.q} cannot be kept: a database has from 1 to {MAX_SHARDS:,} shards")
    if peruser.users_elsewhere is not None:
        said.append(
            f"couch_peruser follows {peruser.auth_db!r}, and CouchDB looks for users in {peruser.users_elsewhere!r}; "
            "decide which one couchdb.auth_db is to name"
        )
    return said


def as_configured(peruser: Peruser, config: Config, username: str | None = None) -> Config:
    """Return `config` changed so that peruserd does the same as couch_peruser, with the account `username`.

    Without `delete_dbs` couch_peruser removes a deleted user from the security object, and keeps the database.
    """
    q = min(max(1, peruser.q), MAX_SHARDS)
    policy = DeletionPolicy.DROP if peruser.delete_dbs else DeletionPolicy.REVOKE
    grace = 0.0 if peruser.delete_dbs else DeletionConfig().grace_period
    databases: DatabasesConfig = msgspec.structs.replace(config.databases, prefix=peruser.database_prefix, q=q)
    return msgspec.structs.replace(
        config,
        couchdb=msgspec.structs.replace(
            config.couchdb, auth_db=peruser.auth_db, username=username or config.couchdb.username
        ),
        databases=databases,
        deletion=msgspec.structs.replace(config.deletion, policy=policy, grace_period=grace),
    )


def as_toml(config: Config) -> str:
    """Return the text of the configuration for the move: the keys that matter, with comments.

    It never contains a password.
    """
    return "\n".join(_toml_lines(config)) + "\n"


def _toml_lines(config: Config) -> Iterator[str]:
    couchdb, databases, deletion = config.couchdb, config.databases, config.deletion
    yield "# Does what couch_peruser does here. Keys that are left out have their defaults, see `peruserd config`."
    yield ""
    yield "[couchdb]"
    yield f"url = {_quoted(couchdb.url)}  # on each machine the address of its own node"
    if couchdb.username is not None:
        yield f"username = {_quoted(couchdb.username)}"
    yield f"{'' if couchdb.password_file else '# '}password_file = {_quoted(couchdb.password_file or _PASSWORD_FILE)}"
    # For example the `ca_file` of a private authority, without which the daemon could not reach the server.
    yield from _others(couchdb, "url", "username", "password_file")
    yield ""
    yield "[databases]"
    yield f"prefix = {_quoted(databases.prefix)}"
    yield f"q = {databases.q}"
    yield from _others(databases, "prefix", "q")
    yield ""
    yield "[deletion]"
    if deletion.policy is DeletionPolicy.DROP:
        yield "# As with delete_dbs = true: a deleted user's database goes at once. With a longer grace_period, in"
        yield "# seconds, a deletion by mistake can be taken back. More than max_drops in per_seconds stop all drops"
        yield "# until `peruserd deletions resume`."
        yield 'policy = "drop"'
        yield f"grace_period = {deletion.grace_period:g}"
    else:
        yield "# As with delete_dbs = false: a deleted user loses access, and the database stays."
        yield f'policy = "{deletion.policy.value}"'
    yield from _others(deletion, "policy", "grace_period")
    for table in sorted({*config.__struct_fields__} - {"couchdb", "databases", "deletion"}):
        if others := list(_others(getattr(config, table))):
            yield from ("", f"[{table}]", *others)


def _others(table: Table, *said: str) -> Iterator[str]:
    """Yield the lines of a table's remaining keys that do not have their default."""
    for field in msgspec.structs.fields(table):
        value = getattr(table, field.name)
        if field.name not in said and value != field.default:
            yield f"{field.name} = {_quoted(value) if isinstance(value, str) else _shown(value)}"


_PASSWORD_FILE: Final = "/etc/peruserd/couchdb-password"  # noqa: S105 - the file's name, not a password


def shared(prefix: str, users: Iterable[str]) -> list[Sharing]:
    """Return the databases that several of these users share under couch_peruser, sorted.

    Only a name with a byte below 0x10 can share a database, because couch_peruser writes one digit for such a byte.
    Another user of the database has a name of the same kind, or the name that the digits encode.
    """
    users = set(users)
    by_database: dict[str, set[str]] = {}
    for user in users:
        database = _unpadded(prefix, user)
        if database is None:
            continue
        found = by_database.setdefault(database, {user})
        found.add(user)
        if (other := decode_database_name(prefix, database)) in users and other is not None:
            found.add(other)
    return [
        Sharing(each, tuple(sorted(by_database[each]))) for each in sorted(by_database) if len(by_database[each]) > 1
    ]


def unpadded_names(prefix: str, users: Iterable[str]) -> dict[str, str]:
    """Return couch_peruser's names of databases, for those users for whom peruserd's name differs."""
    found = ((user, _unpadded(prefix, user)) for user in users)
    return {user: database for user, database in found if database is not None}


def _unpadded(prefix: str, user: str) -> str | None:
    try:
        return unpadded_name(prefix, user)
    except UnservableNameError:
        return None


def _boolean(values: Values, key: str) -> bool:
    return values.get((SECTION, key)) == "true"


def _integer(values: Values, key: str, default: int) -> int:
    value = values.get((SECTION, key)) or ""
    digits = value.removeprefix("-").removeprefix("+") if len(value) < _MAX_DIGITS else ""
    return int(value) if digits.isascii() and digits.isdecimal() else default


# Nobody sets a number with more digits.
_MAX_DIGITS: Final = 12


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "not given" if value is None else str(value)


def _quoted(text: str) -> str:
    """Return a text as a TOML string, with an escape for each character that could control a terminal."""
    return "".join(
        each if each.isprintable() else f"\\U{ord(each):08x}" for each in json.dumps(text, ensure_ascii=False)
    )
