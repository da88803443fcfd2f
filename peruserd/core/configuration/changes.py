"""The difference between the settings in force and those of a file that was read again, and what each change needs.

Each key of the configuration has one effect here. A key takes effect in a running instance, or not before a restart.
The settings in force are therefore a mixture after a reload: the new values of all keys that can be taken over, and the
old ones of the others.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import msgspec

from peruserd.core.configuration.config import Config


class Effect(StrEnum):
    """What the change of a key needs in a running instance."""

    AT_ONCE = "at once"
    LISTENERS = "listeners are started again"
    RESTART = "restart"


EFFECTS: Final[dict[str, Effect]] = {
    "couchdb.url": Effect.RESTART,
    "couchdb.username": Effect.AT_ONCE,
    "couchdb.password_file": Effect.AT_ONCE,
    "couchdb.auth_db": Effect.RESTART,
    "couchdb.node": Effect.RESTART,
    "couchdb.ca_file": Effect.RESTART,
    "couchdb.client_cert": Effect.RESTART,
    "couchdb.client_key": Effect.RESTART,
    "couchdb.connect_timeout": Effect.RESTART,
    "couchdb.read_timeout": Effect.RESTART,
    "couchdb.long_poll_timeout": Effect.RESTART,
    "couchdb.feed": Effect.RESTART,
    "databases.prefix": Effect.RESTART,
    "databases.q": Effect.LISTENERS,
    "databases.n": Effect.LISTENERS,
    "databases.placement": Effect.LISTENERS,
    "databases.partitioned": Effect.LISTENERS,
    "databases.when_deleted": Effect.LISTENERS,
    "security.grant": Effect.LISTENERS,
    "templates.directory": Effect.LISTENERS,
    "deletion.policy": Effect.LISTENERS,
    "deletion.grace_period": Effect.AT_ONCE,
    "deletion.max_drops": Effect.AT_ONCE,
    "deletion.per_seconds": Effect.AT_ONCE,
    "deletion.on_return": Effect.LISTENERS,
    "cluster.database": Effect.RESTART,
    "cluster.poll_interval": Effect.AT_ONCE,
    "cluster.quiet_period": Effect.AT_ONCE,
    "cluster.lease_interval": Effect.AT_ONCE,
    "cluster.lease_ttl": Effect.AT_ONCE,
    "provisioning.max_in_flight": Effect.AT_ONCE,
    "provisioning.max_new_per_minute": Effect.AT_ONCE,
    "audit.interval": Effect.AT_ONCE,
    "audit.rate": Effect.AT_ONCE,
    "http.listen": Effect.RESTART,
    "http.users": Effect.AT_ONCE,
    "http.ready_lag": Effect.AT_ONCE,
    "http.hosts": Effect.RESTART,
    "state.directory": Effect.RESTART,
    "log.format": Effect.AT_ONCE,
    "log.level": Effect.AT_ONCE,
    "log.users": Effect.AT_ONCE,
    "log.audit_file": Effect.AT_ONCE,
}
"""The effect of each key, by its full path."""

TEMPLATES: Final = "templates.directory"
"""The key that stands for the content of the directory as well."""

_ADDRESS: Final = "couchdb.url"
_ACCOUNT: Final = "couchdb.username"
_ACCOUNTS: Final = (_ACCOUNT, "couchdb.password_file")
_SERVER: Final = "couchdb."


class Settings(msgspec.Struct, frozen=True):
    """All that a reload can change.

    `account` is the name of the account at the server; None if requests carry none. `templates` is a digest of the
    templates' content.
    """

    config: Config
    account: str | None = None
    templates: str = ""


class Changes(msgspec.Struct, frozen=True):
    """The keys with other values, by their effect and in the order of the configuration.

    `kept` are the keys whose old values stay in force until peruserd is started again.
    """

    at_once: tuple[str, ...] = ()
    listeners: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.at_once or self.listeners or self.kept)

    @property
    def keeps_account(self) -> bool:
        """Say whether the account and its password stay as they are."""
        return _ADDRESS in self.kept or any(key in self.kept for key in _ACCOUNTS)


def compare(before: Settings, after: Settings) -> Changes:
    """Return what differs between the settings in force and those that were read now.

    Two rules say more than the table of effects:

    - If the address of the server has changed, the whole of `[couchdb]` waits for the restart. Otherwise the new
      server's password would be sent to the old server.
    - An instance that has started without an account gets one by a restart only, and the other way round.
    """
    found: dict[Effect, list[str]] = {effect: [] for effect in Effect}
    changed = list(_changed(before, after))
    moves = _ADDRESS in changed
    has_no_account = None in (before.account, after.account)
    for key in changed:
        waits = (moves and key.startswith(_SERVER)) or (has_no_account and key in _ACCOUNTS)
        found[Effect.RESTART if waits else EFFECTS[key]].append(key)
    return Changes(tuple(found[Effect.AT_ONCE]), tuple(found[Effect.LISTENERS]), tuple(found[Effect.RESTART]))


def taken_over(before: Config, after: Config, changes: Changes) -> Config:
    """Return the configuration in force: the new one, with the old values of the keys that are kept."""
    tables = {}
    for table in msgspec.structs.fields(Config):
        old, new = getattr(before, table.name), getattr(after, table.name)
        kept = {
            key.name: getattr(old, key.name)
            for key in msgspec.structs.fields(old)
            if f"{table.name}.{key.name}" in changes.kept
        }
        tables[table.name] = msgspec.structs.replace(new, **kept)
    return Config(**tables)


def _changed(before: Settings, after: Settings) -> Iterator[str]:
    for table in msgspec.structs.fields(Config):
        old, new = getattr(before.config, table.name), getattr(after.config, table.name)
        for key in msgspec.structs.fields(old):
            path = f"{table.name}.{key.name}"
            if getattr(old, key.name) != getattr(new, key.name) or _differs_beside(path, before, after):
                yield path


def _differs_beside(path: str, before: Settings, after: Settings) -> bool:
    """Say whether a key with the same value has changed, because the templates or the account's name did."""
    return (path == TEMPLATES and before.templates != after.templates) or (
        path == _ACCOUNT and before.account != after.account
    )
