"""The final check of the demo: every user has a database, it is private in every copy, and it was made once."""

from collections.abc import Iterable
from typing import Any

import msgspec

from peruserd.core.common.names import database_name
from peruserd.core.users.security import first
from peruserd.simcluster import ControlClient


class Audit(msgspec.Struct, frozen=True):
    """The findings: the number of users with a database, how many of these are right in every copy, and the faults."""

    provisioned: int
    secured: int
    wrong: tuple[str, ...]


def audit(cluster: ControlClient, users: Iterable[str], prefix: str) -> Audit:
    """Check the copies themselves, behind the API: a clustered read shows only one copy, and copies can disagree."""
    wrong = []
    provisioned = secured = 0
    existing = set(cluster.databases())
    creations = cluster.creations()
    expected = {database_name(prefix, user): user for user in users}
    for database, user in expected.items():
        if database not in existing:
            wrong.append(f"{user}: no database")
            continue
        provisioned += 1
        objects = _copies(cluster.snapshot_security(database))
        if objects and all(each == first(user) for each in objects):
            secured += 1
        else:
            wrong.append(f"{user}: not secured in every copy")
        if creations.get(database) != 1:
            wrong.append(f"{user}: created {creations.get(database, 0)} times")
    strangers = sorted(name for name in existing if name.startswith(prefix) and name not in expected)
    wrong += [f"{name}: nobody's database" for name in strangers]
    return Audit(provisioned, secured, tuple(wrong))


def _copies(by_node: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [security for copies in by_node.values() for security in copies.values()]
