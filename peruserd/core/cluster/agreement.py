"""The part of the configuration that all instances of a cluster must share.

An instance that differs is named, not fought.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import Any, Final

import msgspec

from peruserd.core.cluster.leases import Lease
from peruserd.core.configuration.config import Config, DatabasesConfig
from peruserd.core.users.templates import Templates

_DIGITS: Final = 16


def databases_digest(config: DatabasesConfig) -> str:
    """Return a digest of what user databases depend on. Where it is another one, all of them are looked at again."""
    return sha256(msgspec.json.encode(msgspec.to_builtins(config), order="deterministic")).hexdigest()[:_DIGITS]


def configuration_digest(config: Config, templates: Templates) -> str:
    """Return a digest of the part that must be the same: whose databases are made, how, and what follows a deletion.

    Two instances that differ in it serve the same users in different ways, whichever owns them at the moment.
    """
    shared: dict[str, Any] = {
        "auth_db": config.couchdb.auth_db,
        "databases": msgspec.to_builtins(config.databases),
        "security": msgspec.to_builtins(config.security),
        "templates": templates.digest,
        "deletion": msgspec.to_builtins(config.deletion),
    }
    return sha256(msgspec.json.encode(shared, order="deterministic")).hexdigest()[:_DIGITS]


def differing(digest: str, leases: Iterable[Lease]) -> tuple[Lease, ...]:
    """Return the leases that tell of another configuration, sorted by node; one without a digest tells nothing."""
    found = (lease for lease in leases if lease.digest not in ("", digest) and not lease.released)
    return tuple(sorted(found, key=lambda lease: (lease.node, lease.incarnation)))
