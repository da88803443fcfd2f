"""The part of the configuration that all instances of a cluster must share.

An instance with another configuration is reported, but not acted against.
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
    """Return a digest of the configuration of user databases. If it changes, all databases are looked at again."""
    return sha256(msgspec.json.encode(msgspec.to_builtins(config), order="deterministic")).hexdigest()[:_DIGITS]


def configuration_digest(config: Config, templates: Templates) -> str:
    """Return a digest of the shared part: whose databases are created, how, and what follows a deletion.

    Two instances that differ in this part would serve the same users in different ways.
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
    """Return the leases with another configuration, sorted by node. A lease without a digest is not counted."""
    found = (lease for lease in leases if lease.digest not in ("", digest) and not lease.released)
    return tuple(sorted(found, key=lambda lease: (lease.node, lease.incarnation)))
