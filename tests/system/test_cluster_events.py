"""Faults of servers and disks, on the simulated cluster: every user is served in the end."""

import shutil
from collections.abc import Callable, Iterator

import pytest

from peruserd.simcluster import ClusterOptions
from tests.system.daemon import Daemon
from tests.system.simulated import sim, writes
from tests.system.target import Target, open_simulated
from tests.system.team import Team
from tests.waiting import eventually


@pytest.fixture
def target() -> Iterator[Target]:
    """Give a simulated cluster of three nodes."""
    with open_simulated(ClusterOptions(nodes=3, q=2, n=3)) as opened:
        yield opened


def test_an_instance_waits_for_a_node_that_is_not_up_yet(target: Target, make_daemon: Callable[..., Daemon]) -> None:
    """Started before its node, the daemon waits and then serves."""
    assert target.sim is not None
    target.sim.stop_node(1)
    instance = make_daemon(url=target.urls[0], username=target.username, password=target.password).start()
    eventually(lambda: instance.lines("waiting for CouchDB"), "it says that it waits")
    target.sim.start_node(1)
    instance.wait_until_ready()


def test_a_lost_state_directory_costs_a_scan_that_writes_nothing(team: Team) -> None:
    """Everything is read again, and as everything is right nothing is written."""
    names = team.target.new_names(50)
    team.target.sign_up(names)
    team.wait_until_served(names)
    for each in team.instances:
        each.stop()
        shutil.rmtree(each.state)
    sim(team).clear_requests()
    for each in team.instances:
        each.start()
    for each in team.instances:
        each.wait_until_scanned()
    # Until the instances have found each other again, two may look at the same user.
    assert team.total("peruserd_users_provisioned_total") >= 50
    assert writes(team).get("security", 0) == 0
    assert sim(team).creations() == {}


def test_a_damaged_state_file_is_set_aside_and_scanned_for(team: Team) -> None:
    """The file is neither trusted nor thrown away; the range is scanned and nothing is lost."""
    names = team.target.new_names(20)
    team.target.sign_up(names)
    team.wait_until_served(names)
    instance = team.instances[0]
    instance.stop()
    files = [file for file in instance.state.iterdir() if file.suffix == ".sqlite"]
    for file in files:
        file.write_bytes(b"this is no database" * 100)
    instance.start()
    instance.wait_until_ready()
    aside = [file for file in instance.state.iterdir() if "unusable" in file.name]
    assert len(aside) == len(files) == 2
    eventually(lambda: instance.metrics().total("peruserd_scans_total") == 2, "both ranges were scanned to the end")


@pytest.mark.parametrize("outcome", [500, "cut", "cut-after", "cut-mid"])
def test_a_server_that_fails_now_and_then_delays_users_and_loses_none(team: Team, outcome: int | str) -> None:
    """Errors and broken connections on writes are tried again until each user is served."""
    for node in (1, 2, 3):
        sim(team).fail(node, outcome, probability=0.3, method="PUT", path_regex="userdb")
    names = team.target.new_names(60)
    team.target.sign_up(names)
    eventually(lambda: team.total("peruserd_failures_total") >= 1, "something has failed")
    sim(team).clear_faults()
    team.wait_until_served(names)
    eventually(lambda: team.total("peruserd_quarantined_users") == 0, "quarantine is empty again")


def test_a_database_that_is_no_users_is_never_touched(team: Team) -> None:
    """Databases with the prefix and no user's name stay untouched during all other events."""
    strangers = ["userdb-", "userdb-xyz", "userdb-6", "userdb-ff", "other"]
    for name in strangers:
        assert team.target.request("PUT", f"/{name}").status_code == 201
    before = {name: sim(team).snapshot_security(name) for name in strangers}
    (user,) = names = team.target.new_names(1)
    team.target.sign_up(names)
    team.wait_until_served(names)
    team.target.delete_user(user)
    team.wait_until_ready()
    assert {name: sim(team).snapshot_security(name) for name in strangers} == before
