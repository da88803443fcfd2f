"""The judgement of system tests whether a user is served."""

import pytest

from peruserd.core.common.names import database_name
from peruserd.core.users.security import Security, first
from peruserd.simcluster import ClusterOptions
from tests.system.server import PREFIX, Server
from tests.system.target import open_simulated

STRANGER = {"admins": first("alice")["admins"], "members": {"names": ["alice", "mallory"], "roles": ["_admin"]}}
GROUP = {"admins": first("alice")["admins"], "members": {"names": ["alice"], "roles": ["_admin", "staff"]}}


@pytest.mark.parametrize(
    ("security", "served"),
    [(first("alice"), True), (first("bob"), False), (STRANGER, False), (GROUP, False), ({}, False)],
)
def test_a_user_is_served_by_a_database_that_is_theirs_alone(security: Security, served: bool) -> None:  # noqa: FBT001
    """A database that lets a stranger in counts as wrong, so no test passes beside a leak."""
    database = database_name(PREFIX, "alice")
    with open_simulated(ClusterOptions(nodes=1, n=1)) as target:
        server = Server(target.urls[0], (target.username, target.password))
        assert not target.is_served("alice")
        assert not server.is_served("alice")
        assert target.request("PUT", f"/{database}").status_code == 201
        assert target.request("PUT", f"/{database}/_security", json=security).status_code == 200
        assert (target.is_served("alice"), server.is_served("alice")) == (served, served)
        server.close()
