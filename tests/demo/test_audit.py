"""The last look of the demo."""

from collections.abc import Iterator
from typing import Any

import pytest

from peruserd.demo.audit import Audit, audit
from peruserd.simcluster import ClusterOptions, SimClusterThread

PREFIX = "userdb-"
# The database of `user000000`.
DATABASE = "userdb-75736572303030303030"
MINE = {"names": ["user000000"], "roles": ["_admin"]}
SHARED = {"names": ["user000000", "eve"], "roles": ["_admin"]}


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """A cluster with one user whose database is right."""
    with SimClusterThread(ClusterOptions(nodes=2, n=2)) as running:
        running.seed_users(1, provisioned_prefix=PREFIX)
        yield running


def faults(cluster: SimClusterThread) -> tuple[str, ...]:
    """Return what the audit says is wrong; that nobody made a database over HTTP is said of every user here."""
    found: Audit = audit(cluster, ["user000000"], PREFIX)
    *wrong, made = found.wrong
    assert made == "user000000: created 0 times"
    assert found.secured == (not wrong)
    return tuple(wrong)


def test_a_database_that_is_its_user_s_alone_is_right(cluster: SimClusterThread) -> None:
    """Every copy names the user in both sections, and nobody else."""
    assert faults(cluster) == ()


@pytest.mark.parametrize(
    "security",
    [
        {},
        {"admins": MINE},
        {"admins": MINE, "members": SHARED},
        {"admins": SHARED, "members": MINE},
        {"admins": MINE, "members": {"names": ["user000000"], "roles": ["staff"]}},
    ],
    ids=["public", "not a member", "another member", "another admin", "members by role"],
)
def test_one_copy_that_lets_others_in_is_a_fault(cluster: SimClusterThread, security: dict[str, Any]) -> None:
    """A clustered read would show the other copy."""
    cluster.set_copy_security(2, DATABASE, security)
    assert faults(cluster) == ("user000000: not secured in every copy",)
