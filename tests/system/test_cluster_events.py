"""What a cluster goes through, on the simulated one, whose controls make it happen: every user is served in the end."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from peruserd.simcluster import ClusterOptions, SimClusterProcess
from tests.system.daemon import Daemon
from tests.system.processes import eventually
from tests.system.signing_up import SigningUp
from tests.system.target import Target, open_simulated
from tests.system.team import Team


@pytest.fixture
def target() -> Iterator[Target]:
    """Give a simulated cluster of three nodes."""
    with open_simulated(ClusterOptions(nodes=3, q=2, n=3)) as opened:
        yield opened


def sim(team: Team) -> SimClusterProcess:
    """Return the cluster's controls."""
    assert team.target.sim is not None
    return team.target.sim


def writes(team: Team) -> dict[str, int]:
    """Return how many requests that write were made since the counts were cleared, by kind of path."""
    counts: dict[str, int] = {}
    for (_, method, kind), count in sim(team).requests().items():
        if method in ("PUT", "DELETE"):
            counts[kind] = counts.get(kind, 0) + count
    return counts


def test_a_node_that_dies_takes_no_user_with_it(team: Team) -> None:
    """While a node is down its documents move to the other owners; when it is back everything agrees."""
    names = team.target.new_names(150)
    with SigningUp(team.target, names[:60]):
        pass
    sim(team).stop_node(3)
    with SigningUp(team.target, names[60:], nodes=(1, 2)):
        pass
    # Copies on the dead node are its own affair until it is back: what the living show must be right.
    eventually(
        lambda: all(team.target.security(name) and name in str(team.target.security(name)) for name in names),
        "all users are served by the living nodes",
    )
    sim(team).start_node(3)
    team.wait_until_ready()


def test_copies_that_disagree_after_a_partition_are_brought_together(team: Team) -> None:
    """What only a minority took (202, no_majority) is done again until it is whole, although a read shows it right."""
    with partitioned(team, [[1], [2, 3]]):
        names = team.target.new_names(30)
        team.target.sign_up(names, node=1)
        eventually(lambda: team.total("peruserd_failures_total") >= 1, "something was refused by the minority")
    team.wait_until_served(names)


def test_users_sign_up_while_every_range_is_split(team: Team) -> None:
    """Old ranges and halves overlap for a while; nobody is lost and nobody's database is made twice."""
    names = team.target.new_names(200)
    sim(team).set_split_delay(0.3)
    with SigningUp(team.target, names):
        sim(team).split("_users")
    team.wait_until_served(names)
    eventually(
        lambda: all(len(each.listeners()) == 4 for each in team.instances), "each instance listens to the four halves"
    )
    assert set(sim(team).creations().values()) == {1}


def test_the_authentication_database_deleted_and_made_again_is_followed(team: Team) -> None:
    """Another database of the same name has other shards; its users are served too, and the old ones' data stays."""
    before = team.target.new_names(10)
    team.target.sign_up(before)
    team.wait_until_served(before)
    assert team.target.request("DELETE", "/_users").status_code == 200
    eventually(lambda: not any(each.is_ready for each in team.instances), "the instances see that it is gone")
    assert team.target.request("PUT", "/_users").status_code == 201
    after = team.target.new_names(10)
    team.target.sign_up(after)
    team.wait_until_served(after)
    assert team.target.unserved(before) == []


def test_an_instance_waits_for_an_authentication_database_that_is_not_there(
    target: Target, make_daemon: Callable[..., Daemon]
) -> None:
    """A new cluster may have none yet: the daemon says so, stays up, and begins once there is one."""
    target.request("DELETE", "/_users")
    instance = make_daemon(url=target.urls[0], username=target.username, password=target.password).start()
    eventually(lambda: "does not exist" in str(instance.lines("plan")), "it says what it waits for")
    assert not instance.is_ready
    assert instance.get("/healthz").status_code == 200
    target.request("PUT", "/_users")
    instance.wait_until_ready()


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
    team.wait_until_ready()
    assert team.total("peruserd_users_provisioned_total") == 50
    assert writes(team).get("security", 0) == 0
    assert sim(team).creations() == {}


def test_a_damaged_state_file_is_set_aside_and_scanned_for(team: Team) -> None:
    """It is not trusted and not thrown away; the range is scanned and nothing is lost."""
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
    assert instance.metrics().total("peruserd_scans_total") == 2


def test_a_copy_built_from_scratch_is_not_taken_for_the_old_one(team: Team) -> None:
    """A checkpoint of the copy that was there says nothing of the one that is: its numbers begin again."""
    names = team.target.new_names(40)
    team.target.sign_up(names)
    team.wait_until_served(names)
    for covered in ("00000000-7fffffff", "80000000-ffffffff"):
        sim(team).rebuild_copy(2, "_users", covered)
    later = team.target.new_names(40)
    team.target.sign_up(later)
    team.wait_until_served(later)


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
    """Names that bear the prefix and encode nobody stay as they are, whatever happens around them."""
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


def test_with_the_policy_drop_a_deleted_users_database_goes(target: Target, make_daemon: Callable[..., Daemon]) -> None:
    """The database of a user deleted while the daemon looks on is dropped; the others' stay."""
    team = Team(target, make_daemon, {"deletion": {"policy": "drop"}})
    gone, stays = names = team.target.new_names(2)
    team.target.sign_up(names)
    team.wait_until_served(names)
    team.target.delete_user(gone)
    eventually(lambda: team.target.security(gone) is None, "the database is dropped")
    assert team.target.is_served(stays)
    eventually(lambda: team.total("peruserd_databases_dropped_total") == 1, "the drop is counted")


@contextmanager
def partitioned(team: Team, groups: list[list[int]]) -> Iterator[None]:
    """Cut the cluster in two while the context lasts."""
    sim(team).partition(groups)
    try:
        yield
    finally:
        sim(team).heal()
