"""Deletions as an operator sees them: daemons beside each node of the simulated cluster, and the commands."""

import contextlib
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from peruserd.core.common.names import database_name
from peruserd.simcluster import ClusterOptions
from tests.cli.running import peruserd
from tests.system.daemon import Daemon
from tests.system.simulated import sim
from tests.system.target import PREFIX, Target, open_simulated
from tests.system.team import SHORT_LEASES, Team
from tests.waiting import eventually

AT_ONCE = {"deletion": {"policy": "drop", "grace_period": 0}}
LATER = {"deletion": {"policy": "drop"}}


@pytest.fixture
def target() -> Iterator[Target]:
    """Give a simulated cluster of three nodes."""
    with open_simulated(ClusterOptions(nodes=3, q=2, n=3)) as opened:
        yield opened


def served(team: Team, count: int, *, documents: bool = True) -> list[str]:
    """Sign users up, wait until they are served, and write something into their databases."""
    names = team.target.new_names(count)
    team.target.sign_up(names)
    team.wait_until_served(names)
    for name in names if documents else ():
        assert team.target.request("PUT", f"/{database_name(PREFIX, name)}/doc", json={"a": 1}).ok
    return names


def is_there(team: Team, name: str) -> bool:
    """Say whether a user's database is there."""
    return team.target.security(name) is not None


def has_access(team: Team, name: str) -> bool:
    """Say whether any copy of a user's database names the user."""
    return any(name in json.dumps(each) for each in team.target.copies(name))


def deletions(instance: Daemon, *arguments: str) -> Any:
    """Run `peruserd deletions` with an instance's configuration; return what it printed as JSON."""
    ran = peruserd("deletions", *arguments, "--json", "--config", str(instance.directory / "peruserd.toml"))
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def waiting(team: Team) -> list[str]:
    """Return the users whose deletion waits, by the journal."""
    return sorted(each["user"] for each in deletions(team.instances[0], "list")["deletions"])


def test_a_deleted_users_database_goes_at_once_without_a_grace_period(
    target: Target, make_daemon: Callable[..., Daemon]
) -> None:
    """The database of a deleted user is dropped, the others stay, and the drop is counted and logged."""
    team = Team(target, make_daemon, AT_ONCE)
    gone, stays = served(team, 2)
    team.target.delete_user(gone)
    eventually(lambda: not is_there(team, gone), "the database is dropped")
    assert team.target.is_served(stays)
    eventually(lambda: team.total("peruserd_databases_dropped_total") == 1, "the drop is counted")
    lines = [line for each in team.instances for line in each.lines("audit") if line["action"] == "drop"]
    (line,) = lines
    assert line["database"] == database_name(PREFIX, gone)
    assert isinstance(line["sequence"], int)
    assert line["revision"].startswith("2-")


def test_users_deleted_in_the_moment_of_their_making_are_dropped_for_all_that(
    target: Target, make_daemon: Callable[..., Daemon]
) -> None:
    """A deletion while the database appears, and copies that are behind, are not forgotten."""
    team = Team(target, make_daemon, AT_ONCE)
    sim(team).set_replication_delay(0.3)
    names = team.target.new_names(24)

    def come_and_go(some: list[str]) -> None:
        with contextlib.closing(target.another()) as other:
            for name in some:
                other.sign_up([name])
                eventually(partial(other.security, name), "the database appears")
                other.delete_user(name)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(come_and_go, (names[start::6] for start in range(6))))
    eventually(lambda: not any(is_there(team, name) for name in names), "all are dropped")
    eventually(lambda: waiting(team) == [], "nothing waits any more")


def test_with_a_grace_period_access_goes_at_once_and_the_data_waits(
    target: Target, make_daemon: Callable[..., Daemon]
) -> None:
    """The user is out, the deletion is listed, and `cancel` keeps the data; `drop-now` of another does not wait."""
    team = Team(target, make_daemon, LATER)
    kept, gone = served(team, 2)
    for name in (kept, gone):
        team.target.delete_user(name)
    eventually(lambda: waiting(team) == sorted([kept, gone]), "both deletions wait")
    eventually(lambda: not has_access(team, kept) and not has_access(team, gone), "access is taken away")
    eventually(lambda: team.total("peruserd_deletions_waiting") == 2, "they are counted")
    assert is_there(team, kept)
    deletions(team.instances[1], "cancel", kept)
    deletions(team.instances[2], "drop-now", gone)
    eventually(lambda: not is_there(team, gone), "the database is dropped")
    eventually(lambda: waiting(team) == [], "nothing waits any more")
    assert is_there(team, kept)


def test_a_user_who_comes_back_has_everything_again(target: Target, make_daemon: Callable[..., Daemon]) -> None:
    """A new sign-up of that name within the grace period is let in, and the deletion ends."""
    team = Team(target, make_daemon, LATER)
    (name,) = served(team, 1)
    team.target.delete_user(name)
    eventually(lambda: waiting(team) == [name], "the deletion waits")
    eventually(lambda: not has_access(team, name), "access is taken away")
    team.target.sign_up([name])
    team.wait_until_served([name])
    eventually(lambda: waiting(team) == [], "the deletion is over")
    assert team.target.request("GET", f"/{database_name(PREFIX, name)}/doc").ok


def test_a_freed_name_is_kept_shut_until_released(target: Target, make_daemon: Callable[..., Daemon]) -> None:
    """With `hold`, a new user of a deleted user's name gets in only by the operator's order."""
    team = Team(target, make_daemon, {"deletion": {"on_return": "hold"}})
    opened, emptied = served(team, 2)
    for name in (opened, emptied):
        team.target.delete_user(name)
    eventually(lambda: not has_access(team, opened) and not has_access(team, emptied), "access is taken away")
    team.target.sign_up([opened, emptied])
    eventually(lambda: waiting(team) == sorted([opened, emptied]), "both returns wait")
    assert not has_access(team, opened)
    deletions(team.instances[0], "release", opened)
    deletions(team.instances[0], "drop-now", emptied)
    team.wait_until_served([opened, emptied])
    assert team.target.request("GET", f"/{database_name(PREFIX, opened)}/doc").ok
    assert team.target.request("GET", f"/{database_name(PREFIX, emptied)}/doc").status_code == 404


def test_a_mass_deletion_is_stopped_and_waits_for_the_operator(
    target: Target, make_daemon: Callable[..., Daemon]
) -> None:
    """Too many drops stop all drops of all instances; the metric shows that, and `resume` lets them go on."""
    config = {"deletion": {"policy": "drop", "grace_period": 0, "max_drops": 4, "per_seconds": 3_600}}
    team = Team(target, make_daemon, config)
    names = served(team, 10)
    for name in names:
        team.target.delete_user(name)
    eventually(lambda: team.total("peruserd_deletion_breaker_open") == 3, "every instance knows of the stop")
    left = [name for name in names if is_there(team, name)]
    # Instances that begin a drop at the same moment count each other's, so it can stop before the last one allowed.
    assert 6 <= len(left) < 10
    eventually(lambda: waiting(team) == sorted(left), "the rest waits")
    assert not any(has_access(team, name) for name in left)
    first, *rest = left
    ran = peruserd(
        "deletions", "resume", "--only", first, "--config", str(team.instances[0].directory / "peruserd.toml")
    )
    assert ran.returncode == 0, ran.stderr
    eventually(lambda: not is_there(team, first), "the one that was named is dropped")
    assert all(is_there(team, name) for name in rest)
    # More deletions may remain than the breaker allows before it stops again.
    while any(is_there(team, name) for name in rest):
        deletions(team.instances[1], "resume")
        eventually(
            lambda: not any(is_there(team, name) for name in rest) or team.total("peruserd_deletion_breaker_open") == 3,
            "all are dropped, or it has stopped again",
        )


def test_what_waits_outlives_every_process_and_its_disk(target: Target, make_daemon: Callable[..., Daemon]) -> None:
    """All instances are killed and their state is lost while a deletion waits; another owner carries it out."""
    team = Team(target, make_daemon, {**LATER, **SHORT_LEASES})
    (name,) = served(team, 1)
    team.target.delete_user(name)
    eventually(lambda: waiting(team) == [name], "the deletion waits")
    owner = team.owners([name])[name]
    for each in team.instances:
        each.kill()
        shutil.rmtree(each.state)
    others = [each for each, node in zip(team.instances, team.nodes, strict=True) if node != owner]
    for each in others:
        each.start()
    team.wait_until_settled(others)
    deletions(others[0], "drop-now", name)
    eventually(lambda: not is_there(team, name), "the database is dropped")


def test_a_listener_killed_between_the_journal_and_the_drop_loses_nothing(
    target: Target, make_daemon: Callable[..., Daemon]
) -> None:
    """The request for a drop hangs, and its process is killed; the next process drops."""
    team = Team(target, make_daemon, AT_ONCE)
    (name,) = served(team, 1)
    for node in (1, 2, 3):
        sim(team).fail(node, "hang", method="DELETE", path_regex="userdb")
    team.target.delete_user(name)
    eventually(
        lambda: any(
            each["entry"].get("state") == "dropping" for each in deletions(team.instances[0], "list")["deletions"]
        ),
        "the drop was begun",
    )
    for instance in team.instances:
        for pid in instance.listeners():
            instance.signal_listener(pid, signal.SIGKILL)
    sim(team).clear_faults()
    eventually(lambda: not is_there(team, name), "the database is dropped")
    eventually(lambda: waiting(team) == [], "nothing waits any more")


def test_nodes_that_are_gone_for_good_keep_no_database(make_daemon: Callable[..., Daemon]) -> None:
    """Lost nodes that the cluster still lists prevent no drop."""
    with open_simulated(ClusterOptions(nodes=7, q=2, n=3, spare=4)) as target:
        team = Team(target, make_daemon, AT_ONCE, nodes=[1, 2, 3])
        names = served(team, 3)
        for node in (4, 5, 6, 7):
            sim(team).join_node(node)
            sim(team).stop_node(node)
        for name in names:
            target.delete_user(name)
        eventually(lambda: not any(is_there(team, name) for name in names), "all are dropped")


def test_without_a_daemon_the_list_can_be_read(target: Target, make_daemon: Callable[..., Daemon]) -> None:
    """A stopped instance leaves no socket. Orders report that, and `list` needs no socket."""
    team = Team(target, make_daemon, LATER)
    instance = team.instances[0]
    assert (instance.state / "control.sock").exists()
    instance.stop()
    assert not (instance.state / "control.sock").exists()
    ran = peruserd("deletions", "pause", "--config", str(instance.directory / "peruserd.toml"))
    assert ran.returncode == 75
    assert waiting(team) == []
