"""The lines of commands about leases: their database and its repair, instances that differ, and open sign-up."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from peruserd.core.cluster.agreement import configuration_digest
from peruserd.core.cluster.leases import Lease
from peruserd.core.configuration.config import Config, DatabasesConfig
from peruserd.core.users.templates import NO_TEMPLATES
from peruserd.couch.client import Client
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.cli.running import peruserd
from tests.couch.connecting import connect, make_lease_database

pytestmark = pytest.mark.processes

NODES = ("node1@127.0.0.1", "node2@127.0.0.1", "node3@127.0.0.1", "node4@127.0.0.1")


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """Run three nodes of one cluster, and a fourth that has not joined it."""
    with SimClusterThread(ClusterOptions(nodes=4, spare=1)) as running:
        yield running


@pytest.fixture
def client(cluster: SimClusterThread) -> Client:
    """A client of node 1."""
    return connect(cluster.urls[0])


def check(config: str, code: int = 0) -> list[tuple[str, str]]:
    """Run `check`, and return its lines as pairs of subject and words."""
    checked = peruserd("check", "--config", config)
    assert checked.returncode == code, checked.stdout + checked.stderr
    return [(line[:15].strip().rstrip(":"), line[16:]) for line in checked.stdout.splitlines()]


def about(lines: list[tuple[str, str]], what: str) -> list[str]:
    """Return the words about something."""
    return [words for each, words in lines if each == what]


def test_check_says_that_the_daemon_makes_the_database_and_does_not_make_it(
    config: str, cluster: SimClusterThread
) -> None:
    """A new cluster has no such database yet, and that is no obstacle."""
    (words,) = about(check(config), "leases")
    assert words == "kept in the database peruserd, which the first instance that runs makes"
    assert cluster.databases() == ["_users"]


def test_check_says_how_many_copies_answer(config: str, client: Client) -> None:
    """With all copies there is nothing to repair."""
    make_lease_database(client)
    lines = check(config)
    assert about(lines, "leases") == ["in the database peruserd: 3 of 3 copies answer"]
    assert about(lines, "to mend") == []


def test_check_prints_the_commands_that_give_another_node_a_copy(
    config: str, client: Client, cluster: SimClusterThread
) -> None:
    """Node 3 is gone and node 4 has joined; the first command carries the whole shard map, with the new copy in it."""
    make_lease_database(client)
    cluster.join_node(4)
    cluster.stop_node(3)
    cluster.replicate()
    lines = check(config)
    assert about(lines, "leases") == ["in the database peruserd: 2 of 4 copies answer"]
    start, give = about(lines, "to mend")
    assert NODES[2] in start
    assert NODES[3] in give
    put, sync = (shlex.split(words) for about_, words in lines if about_ == "")
    assert put[put.index("-X") + 1] == "PUT"
    assert put[-1].endswith("/_node/_local/_dbs/peruserd")
    assert sync[-1].endswith("/peruserd/_sync_shards")
    document = json.loads(put[put.index("-d") + 1])
    before = client.shard_map_document(NODES[0], "peruserd")
    (covered,) = before["by_range"]
    assert document["by_range"][covered] == [*before["by_range"][covered], NODES[3]]
    assert document["by_node"] == {**before["by_node"], NODES[3]: [covered]}
    assert document["changelog"] == [*before["changelog"], ["add", covered, NODES[3]]]
    assert (document["_rev"], document["shard_suffix"]) == (before["_rev"], before["shard_suffix"])
    assert "pass" not in "".join([*put, *sync])


def test_check_without_any_copy_says_what_is_left_to_do(config: str, client: Client, cluster: SimClusterThread) -> None:
    """If no host of the database can return, it is made anew, without its contents."""
    make_lease_database(client)
    cluster.join_node(4)
    cluster.replicate()
    for node in (1, 2, 3):
        cluster.stop_node(node)
    text = Path(config).read_text().replace(cluster.urls[0], cluster.urls[3])
    Path(config).write_text(text)
    checked = peruserd("check", "--config", config)
    assert "0 of 4 copies answer" in checked.stdout
    assert "cannot be read or trusted: no copy of the database peruserd answers" in checked.stdout
    assert "-X DELETE" in checked.stdout


def test_somebody_elses_database_is_named_and_ends_the_daemon(
    config: str, client: Client, cluster: SimClusterThread, tmp_path: Path
) -> None:
    """`check` says so with 1, `run` with 78, because another name has to be chosen; nothing is written to it."""
    client.session.request("PUT", "/peruserd").expect(201)
    client.session.request("PUT", "/peruserd/recipe", body={"salt": 1}).expect(201)
    before = cluster.snapshot_copies("peruserd"), cluster.snapshot_security("peruserd")
    (words,) = about(check(config, code=1), "leases")
    assert "somebody else's" in words
    environment = {"PERUSERD_HTTP_LISTEN": "127.0.0.1:0", "PERUSERD_STATE_DIRECTORY": str(tmp_path / "state")}
    ran = peruserd("run", "--config", config, environment=environment, ends_at_once=True)
    assert ran.returncode == 78
    assert "set cluster.database to a name that is free" in ran.stderr
    assert (cluster.snapshot_copies("peruserd"), cluster.snapshot_security("peruserd")) == before


def test_check_and_plan_name_who_has_another_configuration(config: str, client: Client) -> None:
    """The line is no obstacle, and instances with the same configuration are not named."""
    make_lease_database(client)
    same, other = configuration_digest(Config(), NO_TEMPLATES), "0" * 16
    client.put_lease("peruserd", Lease(NODES[1], "b", 1, digest=other, version="9.9\x1b[2J"))
    client.put_lease("peruserd", Lease(NODES[2], "c", 1, digest=same))
    (words,) = about(check(config), "configuration")[1:]
    assert NODES[1] in words
    assert NODES[2] not in words
    planned = peruserd("plan", "--no-wait", "--config", config)
    assert (
        f"instances with other settings for databases, rights, templates or deletion than this command's: {NODES[1]}"
        in planned.stdout
    )
    assert "\x1b" not in planned.stdout + words
    document = msgspec.json.decode(peruserd("plan", "--no-wait", "--json", "--config", config).stdout)
    assert (document["differing"], document["leases_readable"]) == ([NODES[1]], True)


@pytest.mark.parametrize("command", [["plan"], ["owner", "bob"]])
def test_commands_say_that_leases_cannot_be_read(config: str, client: Client, command: list[str]) -> None:
    """Unreadable leases say nothing about any instance, so the plan is not known either."""
    client.create_database("peruserd", DatabasesConfig())
    client.put_document("peruserd", "somebody", {"else": True})
    answered = peruserd(*command, "--config", config)
    assert answered.returncode == 1
    assert "leases cannot be read" in answered.stderr
    assert "the database peruserd is somebody else's" in answered.stderr


@pytest.mark.parametrize("command", [["plan"], ["owner", "bob"]])
def test_before_the_first_start_commands_say_that_there_was_none(config: str, command: list[str]) -> None:
    """A new operator who looks first learns that nothing is broken, and how to start an instance."""
    answered = peruserd(*command, "--config", config)
    assert answered.returncode == 1
    said = answered.stdout + answered.stderr
    assert "no instance has run here yet (there is no database peruserd)" in said
    assert "`peruserd run --config FILE`" in said
    assert "cannot be read" not in said
    planned = json.loads(peruserd("plan", "--json", "--config", config).stdout)
    assert planned["never_started"] is True


def test_check_says_that_anybody_can_sign_up_and_that_this_is_fine(config: str, cluster: SimClusterThread) -> None:
    """A database without members is open to all, as many applications want it."""
    assert about(check(config), "sign-up") == []
    cluster.open_users()
    (words,) = about(check(config), "sign-up")
    assert "anybody can sign up" in words
    assert "that is safe" in words
