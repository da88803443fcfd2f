"""An instance gives up its users before its node is taken down, while people sign up.

The quiet period is longer than a test may take. So whoever is served was not waiting for it.
"""

import json
import subprocess
from collections.abc import Iterator

import pytest

from peruserd.simcluster import ClusterOptions
from tests.cli.running import peruserd
from tests.system.daemon import Daemon
from tests.system.signing_up import SigningUp
from tests.system.simulated import sim
from tests.system.target import Target, open_simulated
from tests.system.team import NEVER_SECONDS, Team
from tests.waiting import eventually, eventually_each


@pytest.fixture
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """Give a simulated cluster; its journal of writes shows who acts. It has two nodes unless a test says otherwise."""
    nodes = getattr(request, "param", 2)
    with open_simulated(ClusterOptions(nodes=nodes, q=2, n=nodes)) as opened:
        yield opened


def drain(instance: Daemon, *options: str) -> subprocess.CompletedProcess[str]:
    """Give the order to an instance."""
    return peruserd("drain", *options, "--config", str(instance.directory / "peruserd.toml"))


def let_no_change_come_into_force(team: Team, quiet_period: float = NEVER_SECONDS) -> None:
    """Give all instances a quiet period that does not end, by a reload."""
    for each in team.instances:
        each.write_configuration(cluster={"quiet_period": quiet_period})
        before = len(each.lines("configuration read again"))
        each.hang_up()
        eventually(lambda: len(each.lines("configuration read again")) > before, "the file is read again")  # noqa: B023


def test_users_sign_up_while_an_instance_is_drained_and_taken_back(team: Team) -> None:
    """Each user is served, by one instance at a time, and nobody waits for the quiet period."""
    drained, other = team.instances
    let_no_change_come_into_force(team)
    with SigningUp(team.target, nodes=(1, 2)) as signing_up:
        eventually(lambda: len(signing_up.names) > 20, "some have signed up")
        done = drain(drained)
        assert (done.returncode, "can be taken down" in done.stderr) == (0, True)
        assert not drained.listeners()
        before = len(signing_up.names)
        eventually(lambda: len(signing_up.names) > before + 20, "more have signed up")
    team.wait_until_served(signing_up.names)
    team.acting.assert_acted_on_by_one(signing_up.names)
    assert {each for name in signing_up.names[before + 8 :] for each in team.acting.actors(name)} == {team.nodes[1]}
    answer = drained.get("/readyz")
    assert (answer.status_code, answer.text.startswith("drained: ")) == (503, True)
    eventually(lambda: drained.gauge("peruserd_drained") == 1, "the metric says so")
    status = json.loads(peruserd("status", "--json", "--config", str(other.directory / "peruserd.toml")).stdout)
    assert [each["drained"] for each in status["instances"]] == [False, True]
    let_no_change_come_into_force(team, 0.5)
    with team.acting.unsettled():
        assert drain(drained, "--undo").returncode == 0
        team.wait_until_settled()
    later = team.target.new_names(30)
    team.target.sign_up(later)
    team.wait_until_served(later)
    team.assert_acted_on_by_owners(later)


@pytest.mark.parametrize("target", [3], indirect=True)
def test_a_drained_node_is_taken_down_and_nobody_waits(team: Team) -> None:
    """Its instance and its CouchDB end, and all its users are others' by then."""
    drained, *others = team.instances
    let_no_change_come_into_force(team)
    assert drain(drained).returncode == 0
    assert drained.stop() == 0
    sim(team).stop_node(1)
    names = team.target.new_names(60)
    team.target.sign_up(names, node=2)
    team.wait_until_served(names)
    assert {each for name in names for each in team.acting.actors(name)} <= set(team.nodes[1:])
    eventually_each(others, lambda each: each.is_ready, "it is ready")


def test_the_last_instance_is_not_drained(team: Team) -> None:
    """The order is refused, or noted until another one is there. Users are served all the time."""
    first, last = team.instances
    with team.acting.unsettled():
        assert first.stop() == 0
        team.wait_until_settled([last])
    refused = drain(last)
    assert (refused.returncode, "no other instance" in refused.stderr) == (1, True)
    assert drain(last, "--force").returncode == 0
    names = team.target.new_names(10)
    team.target.sign_up(names)
    team.wait_until_served(names)
    with team.acting.unsettled():
        first.start()
        eventually(lambda: not last.listeners(), "it gives up its users")
    later = team.target.new_names(10)
    team.target.sign_up(later)
    team.wait_until_served(later)
    assert {each for name in later for each in team.acting.actors(name)} == {team.nodes[0]}
