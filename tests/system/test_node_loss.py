"""Nodes die, come back, are cut off, flap, or are taken out of service, with or without their instances.

On the simulated cluster, whose controls make it happen.
"""

import time
from collections.abc import Callable, Iterator

import pytest

from peruserd.core.users.security import is_public
from peruserd.simcluster import ClusterOptions
from tests.system.daemon import Daemon
from tests.system.signing_up import SigningUp
from tests.system.simulated import Flapping, partitioned, sim
from tests.system.target import Target, open_simulated
from tests.system.team import NEVER_SECONDS, SHORT_LEASES, Team
from tests.waiting import eventually


@pytest.fixture
def target() -> Iterator[Target]:
    """Give a simulated cluster of three nodes."""
    with open_simulated(ClusterOptions(nodes=3, q=2, n=3)) as opened:
        yield opened


def quarantined(instance: Daemon) -> float:
    """Return how many users an instance keeps in quarantine."""
    return instance.metrics().total("peruserd_quarantined_users")


@pytest.mark.parametrize("also_the_instance", [False, True], ids=["node", "node and instance"])
def test_a_node_that_dies_takes_no_user_with_it(
    team: Team,
    also_the_instance: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """The other instances serve its documents until it is back; then it takes them again, and every copy is right."""
    *others, beside = team.instances
    with SigningUp(team.target, nodes=(1, 2)) as signing_up:
        eventually(lambda: len(signing_up.names) >= 20, "some have signed up")
        sim(team).stop_node(3)
        if also_the_instance:
            beside.kill()
        team.acting.owners_change()
        team.wait_until_settled(others)
        lost = [name for name, owner in team.owners(signing_up.names).items() if owner == "node3@127.0.0.1"]
        # Copies on live nodes are right; copies on the dead node do not count until it is back.
        eventually(
            lambda: all(name in str(team.target.security(name)) for name in lost),
            "the users of the dead node are served",
            within_seconds=team.promised_seconds,
        )
        with team.acting.unsettled():
            sim(team).start_node(3)
            if also_the_instance:
                beside.start()
            team.wait_until_settled()
    team.wait_until_served(signing_up.names, team.promised_seconds)
    later = team.target.new_names(30)
    team.target.sign_up(later)
    team.wait_until_served(later)
    team.assert_acted_on_by_owners(later)
    team.acting.assert_acted_on_by_one([*signing_up.names, *later])


def test_users_of_the_living_see_no_pause_when_a_node_dies(team: Team) -> None:
    """Until its death takes effect its users wait, and all others are served."""
    team.freeze_views(team.instances)
    beside = team.instances[2]
    sim(team).stop_node(3)
    beside.kill()
    names = team.target.new_names(60)
    owners = team.owners(names)
    of_the_dead = [name for name in names if owners[name] == "node3@127.0.0.1"]
    of_the_living = [name for name in names if owners[name] != "node3@127.0.0.1"]
    assert of_the_dead
    team.target.sign_up(names)
    eventually(
        lambda: all(name in str(team.target.security(name)) for name in of_the_living),
        "the users of the living are served",
    )
    assert [name for name in of_the_dead if team.target.security(name)] == []
    with team.acting.unsettled():
        sim(team).start_node(3)
        beside.start()
        team.wait_until_settled()
    team.wait_until_served(names)
    team.acting.assert_acted_on_by_one(names)


def test_both_sides_of_a_partition_serve_users_and_agree_after_it(team: Team) -> None:
    """Writes to a minority (202, no_majority) are repeated until every copy is right, although reads look right."""
    names = team.target.new_names(60)
    with team.acting.unsettled():
        with partitioned(team, [[1], [2, 3]]):
            with SigningUp(team.target, names):
                pass
            eventually(lambda: team.total("peruserd_failures_total") >= 1, "something was refused by the minority")
            on_one_side = [name for position, name in enumerate(names) if position // 10 % 3]
            eventually(
                lambda: all(name in str(team.target.security(name, node=2)) for name in on_one_side),
                "the majority's users are served during the partition",
                within_seconds=team.promised_seconds,
            )
        team.wait_until_settled()
    team.wait_until_served(names)
    assert team.target.disagreeing(names) == []
    eventually(lambda: sum(map(quarantined, team.instances)) == 0, "quarantine is empty")
    team.acting.assert_acted_on_by_one(names)


def test_access_taken_away_by_a_minority_is_taken_away_everywhere(team: Team) -> None:
    """A read shows a minority's write as if it were complete; it is repeated all the same until it is."""
    names = team.target.new_names(12)
    team.target.sign_up(names)
    team.wait_until_served(names)
    with team.acting.unsettled():
        with partitioned(team, [[1], [2, 3]]):
            for name in names:
                team.target.delete_user(name)
            here = team.instances[0].metrics
            eventually(
                lambda: here().total("peruserd_listener_waiting") == len(names), "the minority could take none away"
            )
            assert quarantined(team.instances[0]) == 0
            # The copies of the majority win once the nodes compare; until then only another write helps.
            sim(team).set_replication_delay(NEVER_SECONDS)
        eventually(lambda: not any(name in str(team.target.copies(name)) for name in names), "no copy lets a user in")
        sim(team).set_replication_delay(0.0)
        team.wait_until_settled()
    assert not any(name in str(team.target.copies(name)) for name in names)
    assert not any(is_public(each) for name in names for each in team.target.copies(name))
    eventually(lambda: sum(map(quarantined, team.instances)) == 0, "quarantine is empty")
    team.acting.assert_acted_on_by_one(names)


def test_a_flapping_node_makes_few_plans_and_holds_nobody_up(
    target: Target, make_daemon: Callable[..., Daemon]
) -> None:
    """At most one new plan a quiet period, however often the node comes and goes; users of the others do not wait."""
    quiet_period = 2.0
    team = Team(target, make_daemon, {"cluster": {"quiet_period": quiet_period}})
    *others, _ = team.instances
    names = target.new_names(60)
    unmoved = [name for name, owner in team.owners(names).items() if owner != "node3@127.0.0.1"]
    before = [each.metrics().total("peruserd_plans_total") for each in others]
    began = time.monotonic()
    with team.acting.unsettled():
        with Flapping(team, 3, down_seconds=0.4, up_seconds=0.4) as flapping:
            target.sign_up(names)
            team.wait_until_served(unmoved)
            eventually(lambda: flapping.turns >= 6, "the node has come and gone")
        after = [each.metrics().total("peruserd_plans_total") for each in others]
        at_most = (time.monotonic() - began) / quiet_period + 1
        team.wait_until_settled()
    assert all(now - then <= at_most for now, then in zip(after, before, strict=True)), (before, after, at_most)
    team.wait_until_served(names, team.promised_seconds)
    team.acting.assert_acted_on_by_one(names)


def test_a_node_in_maintenance_mode_owns_its_documents_as_before(team: Team) -> None:
    """Maintenance is reported as a metric, changes no plan, and the instance serves new users."""
    instance = team.instances[2]
    plans = team.total("peruserd_plans_total")
    sim(team).maintenance(3, on=True)
    eventually(lambda: instance.gauge("peruserd_node_maintenance") == 1, "the maintenance is reported")
    names = team.target.new_names(30)
    team.target.sign_up(names)
    team.wait_until_served(names)
    team.assert_acted_on_by_owners(names)
    sim(team).maintenance(3, on=False)
    eventually(lambda: instance.gauge("peruserd_node_maintenance") == 0, "the end of it is reported")
    assert team.total("peruserd_plans_total") == plans


def test_a_user_in_quarantine_follows_the_owner(target: Target, make_daemon: Callable[..., Daemon]) -> None:
    """The user is in quarantine of an instance that dies, is served by the next one, and is in no quarantine then."""
    team = Team(target, make_daemon, SHORT_LEASES)
    failing = team.instances[0]
    names = team.target.new_names(60)
    mine = [name for name, owner in team.owners(names).items() if owner == "node1@127.0.0.1"]
    sim(team).fail(1, 500, method="PUT", path_regex="_security")
    team.target.sign_up(names)
    eventually(lambda: quarantined(failing) == len(mine) > 0, "all of its users are kept aside")
    failing.kill()
    team.acting.owners_change()
    team.wait_until_served(names, team.promised_seconds)
    assert all(len(nodes) == 2 for nodes in team.acting.actors(mine).values())
    sim(team).clear_faults()
    with team.acting.unsettled():
        failing.start()
        team.wait_until_settled()
    eventually(lambda: sum(map(quarantined, team.instances)) == 0, "quarantine is empty")
    assert team.target.unserved(names) == []
    team.acting.assert_acted_on_by_one(names)
