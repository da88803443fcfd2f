"""Instances come, go and take over beside live nodes: each user has one owner, and no user is lost.

On the simulated cluster, or on the real one that PERUSERD_TEST_CLUSTER names.
"""

import json
from collections.abc import Callable, Iterator

import pytest

from peruserd.simcluster import ClusterOptions
from tests.cli.running import peruserd
from tests.system.daemon import Daemon
from tests.system.signing_up import SigningUp
from tests.system.target import Target, open_target
from tests.system.team import NEVER_SECONDS, SHORT_LEASES, Team
from tests.waiting import eventually


@pytest.fixture
def target() -> Iterator[Target]:
    """Give a cluster of three nodes."""
    with open_target(ClusterOptions(nodes=3, q=2, n=3)) as opened:
        yield opened


def ask(command: str, instance: Daemon, *arguments: str) -> object:
    """Run a command with an instance's configuration and return what it prints as JSON."""
    ended = peruserd(command, *arguments, "--json", "--config", str(instance.directory / "peruserd.toml"))
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def has_planned_with(instance: Daemon, node: str) -> bool:
    """Say whether an instance counts the one beside a node as alive, and has acted on that."""
    lines = instance.lines()
    seen = [line.get("event") == "instance" and line["node"] == node and line["standing"] == "alive" for line in lines]
    return True in seen and any(line.get("event") == "plan" for line in lines[seen.index(True) :])


def test_users_of_a_killed_instance_are_served_by_the_others(
    target: Target, make_daemon: Callable[..., Daemon]
) -> None:
    """Its supervisor dies by SIGKILL in the middle of sign-ups; started again, it takes its documents back."""
    team = Team(target, make_daemon, SHORT_LEASES)
    killed, *others = team.instances
    names = team.target.new_names(120)
    with SigningUp(team.target, names):
        eventually(lambda: team.target.is_served(names[10]), "users are being served")
        killed.kill()
    team.wait_until_served(names, team.promised_seconds)
    team.wait_until_settled(others)
    team.acting.assert_acted_on_by_one(names)
    with team.acting.unsettled():
        killed.start()
        team.wait_until_settled()
    later = team.target.new_names(30)
    team.target.sign_up(later)
    team.wait_until_served(later)
    team.assert_acted_on_by_owners(later)
    killed.wait_for_total("peruserd_users_provisioned_total", 1)
    assert team.target.unserved(names) == []
    team.acting.assert_acted_on_by_one([*names, *later])


def test_users_of_living_instances_see_no_pause_while_one_is_dead(
    target: Target, make_daemon: Callable[..., Daemon]
) -> None:
    """While the dead instance counts as alive its users wait, and all others are served."""
    team = Team(target, make_daemon, {"cluster": {"lease_ttl": NEVER_SECONDS}})
    killed, *others = team.instances
    killed.kill()
    names = target.new_names(60)
    owners = team.owners(names)
    of_the_dead = [name for name in names if owners[name] == team.nodes[0]]
    of_the_living = [name for name in names if owners[name] != team.nodes[0]]
    assert of_the_dead
    target.sign_up(names, node=2)
    team.wait_until_served(of_the_living)
    assert target.unserved(of_the_dead) == of_the_dead
    assert [each.gauge("peruserd_instances_alive") for each in others] == [3, 3]
    with team.acting.unsettled():
        killed.start()
        team.wait_until_settled()
    team.wait_until_served(names)
    team.acting.assert_acted_on_by_one(names)


def test_users_of_an_instance_that_comes_are_left_to_it_at_once(team: Team) -> None:
    """An instance leaves the documents of a returning one alone, even before the view in force changes."""
    # In the ring the first instance follows the last one, and has all of its documents while it is away.
    by_name = dict(sorted(zip(team.nodes, team.instances, strict=True)))
    successor, other, coming = by_name.values()
    others = [successor, other]
    with team.acting.unsettled():
        assert coming.stop() == 0
        team.wait_until_settled(others)
    team.freeze_views(others)
    coming.start()
    eventually(lambda: has_planned_with(successor, max(by_name)), "it is seen to live")
    # Its listeners were sent the new assignment by then, and may not have read it yet.
    successor.wait_until_scanned()
    names = team.target.new_names(60)
    team.target.sign_up(names)
    team.wait_until_served(names)
    team.assert_acted_on_by_owners(names)
    assert [each.gauge("peruserd_instances_alive") for each in others] == [2, 2]


def test_users_sign_up_while_all_instances_are_restarted_one_by_one(team: Team) -> None:
    """As in an upgrade, each instance in turn is stopped, ends with 0 and is started again; nobody is lost."""
    with SigningUp(team.target) as signing_up:
        for each in team.instances:
            with team.acting.unsettled():
                assert each.stop() == 0
                each.start()
                team.wait_until_settled()
    team.wait_until_served(signing_up.names, team.promised_seconds)
    team.acting.assert_acted_on_by_one(signing_up.names)


def test_a_second_instance_beside_a_node_stands_by_and_takes_over(
    target: Target, make_daemon: Callable[..., Daemon]
) -> None:
    """The second instance stands by and touches nothing; when the first dies it acts, and goes on acting."""
    team = Team(target, make_daemon, SHORT_LEASES)
    first, *others = team.instances
    second = team.make(1).start()
    eventually(lambda: second.gauge("peruserd_standby") == 1, "the second one stands by")
    answer = second.get("/readyz")
    assert (answer.status_code, "standing by" in answer.text) == (503, True)
    assert not second.listeners()
    before = team.target.new_names(30)
    team.target.sign_up(before)
    team.wait_until_served(before)
    assert second.metrics().total("peruserd_users_provisioned_total") == 0
    assert [each.gauge("peruserd_standby") for each in team.instances] == [0, 0, 0]
    with team.acting.unsettled():
        first.kill()
        between = team.target.new_names(30)
        team.target.sign_up(between, node=2)
        team.wait_until_served(between, team.promised_seconds)
        team.wait_until_settled([second, *others])
    assert second.gauge("peruserd_standby") == 0
    second.wait_for_total("peruserd_users_provisioned_total", 1)
    first.start()
    eventually(lambda: first.gauge("peruserd_standby") == 1, "the first one stands by now")
    assert not first.listeners()
    after = team.target.new_names(30)
    team.target.sign_up(after)
    team.wait_until_served(after)
    assert second.is_ready
    assert first.metrics().total("peruserd_users_provisioned_total") == 0
    team.acting.assert_acted_on_by_one([*before, *between, *after])


def test_a_second_instance_on_the_same_state_directory_ends_at_once(
    target: Target, make_daemon: Callable[..., Daemon]
) -> None:
    """The second instance exits with 75 and gives the reason, so that systemd tries again; the first one goes on."""
    options = {"url": target.urls[0], "username": target.username, "password": target.password}
    first = make_daemon(**options).start()
    second = make_daemon(**options, config={"state": {"directory": str(first.state)}})
    second.launch()
    assert second.wait() == 75
    line = second.line("cannot start")
    assert line is not None
    assert f"{first.state} is in use" in line["error"]
    first.wait_until_ready()
    names = target.new_names(5)
    target.sign_up(names)
    eventually(lambda: not target.unserved(names), "the first one serves")


def test_the_commands_name_the_instances_that_act(team: Team) -> None:
    """`owner` and `plan` know from the leases which instance acts, with all instances running and with one stopped."""
    nodes = team.nodes
    stopped, asked, _ = team.instances
    names = team.target.new_names(30)
    for instances in (nodes, nodes[1:]):
        if instances != nodes:
            assert stopped.stop() == 0
            team.wait_until_settled(team.instances[1:])
            names = team.target.new_names(30)
        team.target.sign_up(names, node=2)
        team.wait_until_served(names)
        explained = ask("owner", asked, *names)
        assert isinstance(explained, list)
        owners = {each["user"]: each["owner"] for each in explained}
        assert owners == team.owners(names, instances)
        assert set(owners.values()) == set(instances)
        team.assert_acted_on_by_owners(names, instances)
        planned = ask("plan", asked)
        assert isinstance(planned, dict)
        plan = planned["plan"]
        assert plan["instances"] == sorted(instances)
        assert plan["unreadable"] == []
        assert all(each["listeners"] == {node: node for node in instances} for each in plan["ranges"])
        assert plan["nodes"] == sorted(nodes)
