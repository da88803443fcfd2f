"""`peruserd audit` without a daemon: its lists in words and as JSON, and its exit codes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from peruserd.core.common.names import database_name, user_document_id
from peruserd.core.configuration.config import DatabasesConfig
from peruserd.couch.client import Client
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.cli.audit_command import Command, served
from tests.cli.running import peruserd
from tests.couch.connecting import connect


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """Three nodes, the authentication database with two ranges."""
    with SimClusterThread(ClusterOptions()) as running:
        yield running


@pytest.fixture
def client(cluster: SimClusterThread) -> Client:
    """A client of node 1."""
    return connect(cluster.urls[0])


def test_where_nothing_differs_it_is_0(cluster: SimClusterThread, command: Command) -> None:
    """All users of all ranges are looked at, and nothing is written."""
    served(cluster, 120)
    code, said, _ = command.run()
    assert (code, said.splitlines()) == (0, [said.strip()])
    assert said.startswith("120 users in ")
    assert said.strip().endswith(", 0 differ")
    assert cluster.writes() == []


def test_what_differs_is_listed_with_what_would_be_done(
    cluster: SimClusterThread, client: Client, command: Command
) -> None:
    """A line for each user, a sum for each kind, and the advice; the exit code is 1."""
    missing, public, right = served(cluster, 3)
    client.delete_database(database_name("userdb-", missing))
    client.put_security(database_name("userdb-", public), {})
    client.create_database(database_name("userdb-", "nobody"), DatabasesConfig())
    code, said, _ = command.run()
    lines = said.splitlines()
    assert code == 1
    assert lines[0] == "nobody  userdb-6e6f626f6479  no_user: no document of this user is known, so it is left alone"
    assert lines[1] == f"{missing}  {database_name('userdb-', missing)}  missing: the database is made"
    assert lines[2].endswith("not_named, public: the security object is written to all copies")
    assert not any(line.startswith(right) for line in lines)
    assert [line.split() for line in lines[3:7]] == [
        ["missing", "1"],
        ["not_named", "1"],
        ["public", "1"],
        ["no_user", "1"],
    ]
    assert "4 users in" in lines[7]
    assert lines[8] == "`peruserd audit --repair` lets the running daemon repair 2 of them"


def test_users_and_kinds_can_be_chosen(cluster: SimClusterThread, client: Client, command: Command) -> None:
    """`--user` looks only at these users, even if they do not exist; `--ignore` skips known findings."""
    missing, options = served(cluster, 2)
    client.delete_database(database_name("userdb-", missing))
    client.delete_database(database_name("userdb-", options))
    client.create_database(database_name("userdb-", options), DatabasesConfig(q=4))
    assert command.listed("--user", missing, "never")[:2] == (1, {missing: ["missing"]})
    code, found, result = command.listed("--user", "never")
    assert (code, found, result["unknown"][0]["user"]) == (1, {}, "never")
    assert command.listed("--user", options)[1] == {options: ["not_named", "options"]}
    code, found, result = command.listed("--ignore", "missing", "not_named")
    assert (code, found, result["findings"]) == (1, {options: ["options"]}, {"options": 1})
    assert command.listed("--ignore", "missing", "not_named", "options")[0] == 0


def test_users_whom_any_copy_knows_are_found(cluster: SimClusterThread, client: Client, command: Command) -> None:
    """One copy has lost them, and node 1 is asked; their databases are looked at, and the copy is named."""
    users = served(cluster, 4)
    cluster.forget_documents(1, "_users", [user_document_id(each) for each in users[:2]])
    client.delete_database(database_name("userdb-", users[0]))
    code, found, result = command.listed()
    assert (code, found) == (1, {users[0]: ["missing", "copy_behind"], users[1]: ["copy_behind"]})
    assert "node1@127.0.0.1" in result["left"][1]["words"]


@pytest.mark.parametrize("outcome", [403, 500])
def test_a_copy_that_is_closed_is_passed_over(
    cluster: SimClusterThread, client: Client, command: Command, outcome: int
) -> None:
    """A proxy blocks the copies of another node, and the other copies of its ranges show the same users."""
    users = served(cluster, 4)
    client.delete_database(database_name("userdb-", users[0]))
    cluster.fail(1, outcome, path_regex="node3.*_changes")
    assert command.listed()[:2] == (1, {users[0]: ["missing"]})


def test_deleted_users_are_looked_at(cluster: SimClusterThread, client: Client, command: Command) -> None:
    """The feed shows a tombstone; its user must be named nowhere."""
    (user,) = served(cluster, 1)
    path = f"/_users/{user_document_id(user)}"
    rev = client.session.request("GET", path).expect(200).decode(dict[str, Any])["_rev"]
    client.session.request("DELETE", path, params={"rev": rev}).expect(200, 202)
    assert command.listed()[:2] == (1, {user: ["still_named"]})
    assert command.run(PERUSERD_DELETION_POLICY="keep")[0] == 0


def test_what_cannot_be_seen_is_75_and_not_listed_without_end(cluster: SimClusterThread, command: Command) -> None:
    """An absent node is no difference, but it is not known either that nothing differs."""
    served(cluster, 30)
    cluster.stop_node(3)
    code, said, _ = command.run()
    assert code == 75
    assert "… and 20 users more that could not be seen whole" in said
    assert "0 differ, 30 could not be seen whole" in said
    code, found, _ = command.listed()
    assert (code, len(found)) == (75, 30)


def test_names_cannot_steer_the_terminal(cluster: SimClusterThread, command: Command) -> None:
    """Users choose the names that an operator sees."""
    cluster.add_user("evil\x1b[31m", "pass")
    code, said, _ = command.run()
    assert code == 1
    assert said.startswith("evil\\x1b[31m  userdb-")


def test_a_server_without_shards_is_audited(client: Client, cluster: SimClusterThread, command: Command) -> None:
    """One copy of everything, by the database's own feed."""
    missing, _ = served(cluster, 2)
    client.delete_database(database_name("userdb-", missing))
    code, said, _ = command.run("--json", PERUSERD_COUCHDB_FEED="database")
    assert (code, [each["user"] for each in json.loads(said)["left"]]) == (1, [missing])


def test_templates_that_are_out_of_date_are_listed_and_no_repair_brings_them(
    cluster: SimClusterThread, client: Client, command: Command, tmp_path: Path
) -> None:
    """The exit code is 1, the words name the rollout, and `--repair` has nobody to name to the daemon."""
    right, missing = served(cluster, 2)
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "logo.json").write_text('{"_id": "logo", "of": "{user}"}', encoding="utf-8")
    client.session.request("PUT", f"/{database_name('userdb-', right)}/logo", body={"of": right}).expect(201)
    cluster.clear_requests()
    assert command.listed()[0] == 0
    configured = {"PERUSERD_TEMPLATES_DIRECTORY": str(tmp_path)}
    code, said, _ = command.run(**configured)
    assert code == 1
    words = "template: `peruserd templates rollout` brings logo (missing)"
    assert said.splitlines()[0] == f"{missing}  {database_name('userdb-', missing)}  {words}"
    assert "--repair" not in said
    code, said, _ = command.run("--json", "--repair", "--dry-run", **configured)
    result = json.loads(said)
    assert (code, result["findings"], result["sent"]) == (1, {"template": 1}, [])
    assert result["left"][0]["remedy"] == "operator"
    assert command.run("--ignore", "template", **configured)[0] == 0
    assert cluster.writes() == []


def test_a_server_that_is_away_is_75_and_a_wrong_configuration_78(tmp_path: Path) -> None:
    """The codes are those of all commands."""
    assert peruserd("audit", environment={"PERUSERD_COUCHDB_URL": "http://127.0.0.1:9"}).returncode == 75
    assert peruserd("audit", "--config", str(tmp_path / "none.toml")).returncode == 78
    assert peruserd("audit", "--repair", "--config", str(tmp_path / "none.toml")).returncode == 78
    assert peruserd("audit", "--ignore", "nonsense").returncode == 2


def test_it_says_what_it_does_where_no_bar_can(cluster: SimClusterThread, client: Client, command: Command) -> None:
    """A second look takes seconds, so a log says that there is one."""
    (user,) = served(cluster, 1)
    client.delete_database(database_name("userdb-", user))
    assert command.run()[2].splitlines() == [
        "peruserd: looking at all users, and at each copy of their databases",
        "peruserd: looking at 1 user once more, in 0 s",
    ]
