"""A lost majority is no failure of users: listeners are on hold, and go on when it is back."""

from collections.abc import Callable, Iterator

import pytest

from peruserd.core.common.names import database_name
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.proxies import Proxy
from tests.system.daemon import Daemon
from tests.system.signing_up import SigningUp
from tests.system.simulated import sim
from tests.system.target import PREFIX, Target, open_simulated
from tests.system.team import Team
from tests.waiting import eventually

KEPT = "user not served; kept in quarantine"
ON_HOLD = "on hold: the cluster serves nobody, so no user is tried"
BACK = "the cluster serves again: all who waited are taken up"


@pytest.fixture
def target() -> Iterator[Target]:
    """Give a simulated cluster of three nodes."""
    with open_simulated(ClusterOptions(nodes=3, q=2, n=3)) as opened:
        yield opened


def on_hold(instance: Daemon) -> float:
    """Return how many listeners of an instance are on hold."""
    return instance.metrics().total("peruserd_listener_on_hold")


def test_users_who_sign_up_without_a_majority_are_served_when_it_is_back(team: Team) -> None:
    """Nobody is in quarantine meanwhile, /readyz gives the reason, and users wait only for the return."""
    here, *_ = team.instances
    with team.acting.unsettled():
        for node in (2, 3):
            sim(team).stop_node(node)
        with SigningUp(team.target, nodes=(1,)) as signing_up:
            eventually(lambda: here.get("/readyz").text.startswith("on hold"), "/readyz says that all are on hold")
            eventually(lambda: on_hold(here) == 2, "both listeners are on hold")
            already = len(signing_up.names)
            eventually(lambda: len(signing_up.names) >= already + 60, "more sign up meanwhile")
        answer = here.get("/readyz")
        assert answer.status_code == 503
        assert "no majority of the 3 copies of peruserd answers" in answer.text
        assert here.metrics().total("peruserd_quarantined_users") == 0
        assert here.lines(KEPT) == []
        lines = here.lines(ON_HOLD)
        assert len({line["listener"] for line in lines}) == len(lines) == 2
        assert len(team.target.unserved(signing_up.names)) >= 60
        for node in (2, 3):
            sim(team).start_node(node)
        eventually(lambda: on_hold(here) == 0, "nobody is on hold any more")
        team.wait_until_settled()
    team.wait_until_served(signing_up.names, team.promised_seconds)
    assert team.target.disagreeing(signing_up.names) == []
    eventually(lambda: team.total("peruserd_quarantined_users") == 0, "nobody is in quarantine")
    assert here.is_ready
    waited = sum(line["waited"] for line in here.lines(BACK))
    # A user who changes owners at the moment of the return waits for the next owner.
    assert 0 < waited <= len(signing_up.names)


def test_a_cluster_behind_a_proxy_that_forbids_nodes_is_no_failure_of_its_users(
    make_daemon: Callable[..., Daemon], target: Target
) -> None:
    """By the feed of the database, with pages of databases alone: the hold begins and ends as it does with shards."""
    cluster = target.sim
    assert isinstance(cluster, SimClusterThread)
    with Proxy(cluster.urls[0], lambda path: 403 if path.startswith("/_node") else path) as proxy:
        config = {"couchdb": {"feed": "database", "long_poll_timeout": 1}}
        instance = make_daemon(url=proxy.url, config=config).start()
        instance.wait_until_ready()
        for node in (2, 3):
            cluster.stop_node(node)
        with SigningUp(target, nodes=(1,)) as signing_up:
            eventually(lambda: instance.get("/readyz").text.startswith("on hold"), "/readyz says that all is on hold")
        assert "no majority of the hosts of _users is connected" in instance.get("/readyz").text
        assert instance.lines(KEPT) == []
        for node in (2, 3):
            cluster.start_node(node)
        instance.wait_until_ready()
        eventually(lambda: target.unserved(signing_up.names) == [], "all are served")
        assert (len(instance.lines(ON_HOLD)), len(instance.lines(BACK)), instance.lines(KEPT)) == (1, 1, [])
        assert instance.stop() == 0


def test_a_cluster_that_takes_no_writes_is_no_failure_of_its_users(
    make_daemon: Callable[..., Daemon], target: Target
) -> None:
    """Its disks are full, or a proxy refuses to write: all wait out of quarantine, and are served afterwards."""
    cluster = target.sim
    assert cluster is not None
    instance = make_daemon(url=cluster.describe()["urls"][0]).start()
    instance.wait_until_scanned()
    for node in (1, 2, 3):
        cluster.fail(node, 403, method="PUT")
    names = target.new_names(20)
    target.sign_up(names, node=2)
    eventually(lambda: instance.get("/readyz").text.startswith("on hold"), "/readyz says that all is on hold")
    assert "PUT /peruserd/_local/peruserd-probe: 403" in instance.get("/readyz").text
    cluster.clear_faults()
    eventually(lambda: target.unserved(names) == [], "all are served")
    assert instance.lines(KEPT) == []
    assert instance.stop() == 0


def test_an_enemy_whose_database_answers_errors_holds_up_nobody(team: Team) -> None:
    """The enemy's failures stay his own, with any error text: all others are served, and no listener is on hold."""
    enemy, *others = team.target.new_names(13)
    for node in (1, 2, 3):
        sim(team).fail(node, 500, method="PUT", path_regex=f"{database_name(PREFIX, enemy)}/_security")
    team.target.sign_up([enemy])
    eventually(lambda: team.total("peruserd_quarantined_users") == 1, "the enemy is in quarantine")
    team.target.sign_up(others)
    team.wait_until_served(others)
    assert team.total("peruserd_holds_total") == 0
    assert team.total("peruserd_quarantined_users") == 1
    sim(team).clear_faults()
    team.wait_until_served([enemy])
