"""Ranges without a live instance on their hosts, with real processes on a simulated cluster: every user is served."""

from collections.abc import Callable, Iterator

import pytest

from peruserd.simcluster import ClusterOptions
from tests.system.daemon import Daemon
from tests.system.target import Target, open_simulated
from tests.system.team import SHORT_LEASES, Team
from tests.waiting import eventually

# With one copy of each range, a range has one host, and loses its only instance.
ONE_COPY = ClusterOptions(nodes=3, q=3, n=1)


@pytest.fixture
def target() -> Iterator[Target]:
    """Give a simulated cluster of three nodes, each of which hosts a range alone."""
    with open_simulated(ONE_COPY) as opened:
        yield opened


def listens_through(instance: Daemon, node: str) -> bool:
    """Say whether an instance listens to a copy on another node."""
    return any(copy.partition("@")[2] == node for copy in instance.listeners().values())


def test_a_range_without_an_instance_is_adopted_and_handed_back(
    target: Target, make_daemon: Callable[..., Daemon]
) -> None:
    """Both other instances read the range through its live node, share its users, and stop at the return."""
    team = Team(target, make_daemon, SHORT_LEASES)
    lost, *others = team.instances
    node = "node1@127.0.0.1"
    before = team.target.new_names(30)
    team.target.sign_up(before)
    team.wait_until_served(before)
    lost.kill()
    orphans = team.target.new_names(60)
    team.target.sign_up(orphans)
    team.wait_until_served(orphans, team.promised_seconds)
    team.wait_until_settled(others)
    assert all(listens_through(each, node) for each in others)
    with team.acting.unsettled():
        lost.start()
        team.wait_until_settled()
        eventually(
            lambda: not any(listens_through(each, node) for each in others), "the range is its host's instance's again"
        )
    after = team.target.new_names(30)
    team.target.sign_up(after)
    team.wait_until_served(after)
    team.assert_acted_on_by_owners(after)
    assert team.target.unserved([*before, *orphans]) == []
    team.acting.assert_acted_on_by_one([*before, *orphans, *after])
