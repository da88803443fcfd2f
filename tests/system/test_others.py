"""Databases that others make, delete and put back: their users are looked at within seconds, and after any gap."""

import json
from collections.abc import Callable, Iterator

import pytest

from peruserd.core.common.names import database_name
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.system.daemon import Daemon
from tests.system.server import PREFIX, Server
from tests.system.target import Target, open_target
from tests.system.team import Team
from tests.waiting import eventually


@pytest.fixture
def target() -> Iterator[Target]:
    """Give a cluster of three nodes."""
    with open_target(ClusterOptions(nodes=3, q=2, n=3)) as opened:
        yield opened


@pytest.fixture
def daemon(cluster: SimClusterThread, make_daemon: Callable[..., Daemon]) -> Daemon:
    """An instance that is not started yet. It saves its place in the list after each poll."""
    return make_daemon(url=cluster.urls[0], config={"couchdb": {"long_poll_timeout": 1}})


def put_back(target: Target, names: list[str]) -> None:
    """Delete databases and make them again, as a restore does; every other one is open to everybody."""
    for place, name in enumerate(names):
        path = f"/{database_name(PREFIX, name)}"
        assert target.request("DELETE", path).status_code in (200, 202)
        assert target.request("PUT", path, node=1 + place % 3, params={"q": "1"}).status_code in (201, 202)
        if place % 2:
            assert target.request("PUT", f"{path}/_security", json={}).status_code == 200


def test_databases_that_were_put_back_are_their_users_again(team: Team) -> None:
    """Ten were deleted and made again, half of them public; nobody else signs up."""
    names = team.target.new_names(10)
    team.target.sign_up(names)
    team.wait_until_served(names)
    put_back(team.target, names)
    team.wait_until_served(names, within_seconds=60.0)


def test_databases_that_were_deleted_are_made_again_by_their_owners(team: Team) -> None:
    """Each once, and no more than that is written."""
    names = team.target.new_names(8)
    team.target.sign_up(names)
    team.wait_until_served(names)
    created = len(names) * 2
    eventually(lambda: team.total("peruserd_databases_created_total") == len(names), "the first creations are counted")
    for name in names:
        team.target.request("DELETE", f"/{database_name(PREFIX, name)}")
    team.wait_until_served(names, within_seconds=60.0)
    eventually(lambda: team.total("peruserd_databases_created_total") >= created, "every creation is counted")
    assert team.total("peruserd_databases_created_total") == created
    eventually(lambda: team.total("peruserd_looks_total", reason="others") >= len(names), "the looks are counted")


def wait_until_seen_to(daemon: Daemon, server: Server) -> None:
    """Wait until the instance has saved that it is done with everything in the list of databases."""
    file = daemon.state / "directory.json"
    end = server.get("_node", "_local", "_dbs")["update_seq"]
    eventually(lambda: file.exists() and json.loads(file.read_text())["sequence"] >= end, "all is seen to")


def served(server: Server, daemon: Daemon, names: list[str]) -> None:
    """Start the instance, and wait until it has served users who sign up."""
    daemon.start().wait_until_scanned()
    server.sign_up(names)
    eventually(lambda: not server.unserved(names), "everybody is served")


def test_what_others_did_while_the_instance_was_stopped_is_seen_to(server: Server, daemon: Daemon) -> None:
    """Reading continues at the saved place of the list, and no other user is looked at."""
    names = [f"user-{number}" for number in range(8)]
    served(server, daemon, names)
    wait_until_seen_to(daemon, server)
    assert daemon.stop() == 0
    for name in names[:3]:
        server.ask("DELETE", database_name(PREFIX, name))
    server.put(database_name(PREFIX, names[0]))
    daemon.start()
    eventually(lambda: not server.unserved(names), "everybody is served")
    assert daemon.metrics().total("peruserd_scans_total") == 0
    assert daemon.metrics().total("peruserd_looks_total") <= len(names)


@pytest.mark.parametrize("lost", ["the place", "the list", "the place, and names cannot be asked for"])
def test_after_a_gap_names_are_compared(cluster: SimClusterThread, server: Server, daemon: Daemon, lost: str) -> None:
    """An unknown place, or one in another list, says nothing about the time in between.

    Where a proxy refuses the question for many names, each user is looked at.
    """
    names = [f"user-{number}" for number in range(8)]
    served(server, daemon, names)
    wait_until_seen_to(daemon, server)
    assert daemon.stop() == 0
    server.ask("DELETE", database_name(PREFIX, names[0]))
    server.ask("DELETE", database_name(PREFIX, names[1]))
    server.put(database_name(PREFIX, names[1]))
    file = daemon.state / "directory.json"
    if "cannot be asked" in lost:
        cluster.fail(1, 403, method="POST", path_regex="_dbs/_revs_diff")
    if lost.startswith("the place"):
        file.write_text("{")
    else:
        file.write_text(json.dumps({**json.loads(file.read_text()), "uuid": "of another node"}))
    daemon.start()
    eventually(lambda: not server.unserved(names), "everybody is served")
    assert len(daemon.lines("the names of all users' databases are compared")) == 1


def test_deletions_are_reported_where_that_is_configured(server: Server, daemon: Daemon) -> None:
    """The user is in quarantine, with a kind of its own, until somebody restores the database."""
    daemon.config["databases"] = {"when_deleted": "report"}
    served(server, daemon, ["alice", "bob"])
    server.ask("DELETE", database_name(PREFIX, "alice"))
    daemon.wait_for_total("peruserd_failures_total", 1, kind="database_deleted")
    daemon.wait_for_total("peruserd_quarantined_users", 1)
    assert server.unserved(["alice", "bob"]) == ["alice"]
    server.put(database_name(PREFIX, "alice"))
    eventually(lambda: not server.unserved(["alice"]), "the user is served")
    eventually(lambda: daemon.gauge("peruserd_quarantined_users") == 0, "nobody is in quarantine")
