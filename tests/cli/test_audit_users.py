"""`peruserd audit --user`: users who are not there, who were deleted, or whose name allows no database."""

import json
from collections.abc import Iterator

import pytest

from peruserd.core.common.names import database_name
from peruserd.core.configuration.config import DatabasesConfig
from peruserd.couch.client import Client
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.cli.audit_command import Command, served
from tests.couch.connecting import connect
from tests.listener.provisioner_harness import delete_user


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """Three nodes, the authentication database with two ranges."""
    with SimClusterThread(ClusterOptions()) as running:
        yield running


@pytest.fixture
def client(cluster: SimClusterThread) -> Client:
    """A client of node 1."""
    return connect(cluster.urls[0])


def test_a_name_that_can_have_no_database_is_said(command: Command) -> None:
    """A database that cannot exist is neither wrong nor right."""
    code, said, error = command.run("--user", "x" * 200)
    assert (code, said) == (1, "")
    assert "200 bytes" in error


def test_a_name_that_nobody_has_is_not_taken_for_right(client: Client, command: Command) -> None:
    """The exit code is 1, and it is said whether a database of that name is there."""
    client.create_database(database_name("userdb-", "left"), DatabasesConfig())
    code, said, _ = command.run("--user", "nobody", "left", "org.couchdb.user:nobody", "nobody")
    lines = said.splitlines()
    assert code == 1
    assert lines[0] == f"nobody: there is no such user; the database {database_name('userdb-', 'nobody')} is not there"
    assert lines[1] == f"left: there is no such user; the database {database_name('userdb-', 'left')} is there"
    assert lines[2].endswith("a name is given without 'org.couchdb.user:', which begins the id of its document")
    assert lines[-1].startswith("3 users in ")
    assert lines[-1].endswith(", 3 not there")
    code, found, result = command.listed("--user", "nobody", "left")
    assert (code, found) == (1, {"left": ["no_user"]})
    assert [(each["user"], each["database_exists"]) for each in result["unknown"]] == [
        ("nobody", False),
        ("left", True),
    ]
    _, _, result = command.listed("--user", "org.couchdb.user:nobody")
    assert result["unknown"][0]["hint"].startswith("a name is given without ")


def test_a_user_who_is_deleted_as_it_should_be_is_right(
    cluster: SimClusterThread, client: Client, command: Command
) -> None:
    """Whether access is gone can be asked of a deleted user; the answer says that the user was deleted."""
    (user,) = served(cluster, 1)
    delete_user(client, user)
    client.delete_database(database_name("userdb-", user))
    code, said, _ = command.run("--user", user)
    assert (code, said.splitlines()[0]) == (
        0,
        f"{user}: the user was deleted; the database {database_name('userdb-', user)} is not there",
    )
    assert command.listed("--user", user)[2]["deleted"][0]["user"] == user


def test_a_name_is_not_called_unknown_while_a_node_that_may_know_it_is_away(
    cluster: SimClusterThread, command: Command
) -> None:
    """A later try can help, so the code is 75."""
    cluster.stop_node(3)
    code, said, _ = command.run("--user", "nobody")
    assert code == 75
    assert said.startswith("nobody: there is no such user as far as can be seen without node3@127.0.0.1; ")


def test_names_that_can_have_no_database_are_all_said(command: Command) -> None:
    """Also as JSON, and also those whose bytes are no Unicode."""
    code, said, error = command.run("--json", "--user", "", "\udcff")
    assert (code, json.loads(said)["error"]) == (1, "unservable_name")
    assert error.splitlines() == [
        'peruserd: "": the user name is empty',
        "peruserd: \\udcff: the user name is not valid Unicode",
    ]
