"""An instance gives up its users before its node is taken down, while people sign up.

The quiet period is longer than a test may take. So whoever is served was not waiting for it. On the simulated cluster,
or, where no node needs to be stopped, on the real one that PERUSERD_TEST_CLUSTER names.
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
from tests.system.target import Target, open_simulated, open_target
from tests.system.team import NEVER_SECONDS, Team
from tests.waiting import eventually, eventually_each


@pytest.fixture
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """Give a cluster. A simulated one has two nodes unless a test says otherwise."""
    opens, nodes = getattr(request, "param", (open_target, 2))
    with opens(ClusterOptions(nodes=nodes, q=2, n=nodes)) as opened:
        yield opened


def drain(instance: Daemon, *options: str) -> subprocess.CompletedProcess[str]:
    """Give the order to an instance."""
    return peruserd("drain", *options, "--config", str(instance.directory / "peruserd.toml"))


def test_users_sign_up_while_an_instance_is_drained_and_taken_back(team: Team) -> None:
    """Each user is served, by one instance at a time, and nobody waits for the quiet period."""
    drained, *others = team.instances
    team.set_quiet_period(NEVER_SECONDS)
    with SigningUp(team.target, nodes=(1, 2)) as signing_up:
        signing_up.wait_for_more(20)
        done = drain(drained)
        assert (done.returncode, "can be taken down" in done.stderr) == (0, True)
        assert not drained.listeners()
        begin = len(signing_up.names) + signing_up.GROUP
        signing_up.wait_for_more(28)
        meanwhile = signing_up.names[begin : begin + 20]
        team.wait_until_served(meanwhile)
        team.assert_acted_on_by_owners(meanwhile, team.nodes[1:])
        answer = drained.get("/readyz")
        assert (answer.status_code, answer.text.startswith("drained: ")) == (503, True)
        eventually(lambda: drained.gauge("peruserd_drained") == 1, "the metric says so")
        for each in others:
            status = json.loads(peruserd("status", "--json", "--config", str(each.directory / "peruserd.toml")).stdout)
            assert [seen["node"] for seen in status["instances"] if seen["drained"]] == team.nodes[:1]
        team.set_quiet_period(0.5)
        with team.acting.unsettled():
            assert drain(drained, "--undo").returncode == 0
            team.wait_until_settled()
    team.wait_until_served(signing_up.names)
    team.acting.assert_acted_on_by_one(signing_up.names)
    later = team.target.new_names(30)
    team.target.sign_up(later)
    team.wait_until_served(later)
    team.assert_acted_on_by_owners(later)


@pytest.mark.parametrize("target", [(open_simulated, 3)], indirect=True)
def test_a_drained_node_is_taken_down_and_nobody_waits(team: Team) -> None:
    """Its instance and its CouchDB end, and all its users are others' by then."""
    drained, *others = team.instances
    team.set_quiet_period(NEVER_SECONDS)
    assert drain(drained).returncode == 0
    assert drained.stop() == 0
    sim(team).stop_node(1)
    names = team.target.new_names(60)
    team.target.sign_up(names, node=2)
    team.wait_until_served(names)
    actors = team.acting.actors(names).values()
    assert {each for nodes in actors for each in nodes} <= set(team.nodes[1:])
    eventually_each(others, lambda each: each.is_ready, "it is ready")


def test_the_last_instance_is_not_drained(team: Team) -> None:
    """The order is refused, or noted until another one is there. Users are served all the time."""
    first, *more, last = team.instances
    with team.acting.unsettled():
        for each in (first, *more):
            assert each.stop() == 0
        team.wait_until_settled([last])
    refused = drain(last)
    assert (refused.returncode, "no other instance" in refused.stderr) == (1, True)
    assert drain(last, "--force").returncode == 0
    names = team.target.new_names(10)
    team.target.sign_up(names)
    team.wait_until_served(names)
    team.assert_acted_on_by_owners(names, team.nodes[-1:])
    with team.acting.unsettled():
        first.start()
        eventually(lambda: not last.listeners(), "it gives up its users")
    later = team.target.new_names(10)
    team.target.sign_up(later)
    team.wait_until_served(later)
    team.assert_acted_on_by_owners(later, team.nodes[:1])
