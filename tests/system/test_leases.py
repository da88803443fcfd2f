"""Leases cannot be forged, and the rules while they cannot be read. On the simulated cluster."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import msgspec
import pytest
import requests

from peruserd.core.cluster.leases import Lease
from peruserd.simcluster import ClusterOptions
from tests.couch.connecting import connect
from tests.system.daemon import Daemon
from tests.system.simulated import sim
from tests.system.target import LEASES, Target, open_simulated
from tests.system.team import Team
from tests.waiting import eventually, eventually_at_least, eventually_each

NODES = ("node1@127.0.0.1", "node2@127.0.0.1", "node3@127.0.0.1")


@pytest.fixture
def target() -> Iterator[Target]:
    """Give a simulated cluster of three nodes."""
    with open_simulated(ClusterOptions(nodes=3, q=2, n=3)) as opened:
        yield opened


@pytest.fixture
def instance(target: Target, make_daemon: Callable[..., Daemon]) -> Daemon:
    """Make an instance beside the first node, which is not started yet."""
    return make_daemon(url=target.urls[0], username=target.username, password=target.password)


@contextmanager
def forger(target: Target, database: str) -> Iterator[list[int]]:
    """Let an anonymous client write leases that grow, beside every node, until the end; give the answers' statuses."""
    ended, statuses = threading.Event(), []

    def forge() -> None:
        counter = 1 << 40
        while not ended.wait(0.05):
            counter += 1
            for node in NODES:
                lie = msgspec.json.encode(Lease(node, f"lie-{node}", counter))
                url = f"{target.urls[0]}/{database}/_local/peruserd.active.{node}"
                statuses.append(requests.put(url, data=lie, timeout=30).status_code)

    thread = threading.Thread(target=forge)
    thread.start()
    try:
        eventually(lambda: len(statuses) >= 2 * len(NODES), "leases are being forged")
        yield statuses
    finally:
        ended.set()
        thread.join()


def test_leases_that_anybody_writes_into_an_open_authentication_database_have_no_effect(
    target: Target, instance: Daemon
) -> None:
    """The instance neither stands by for a forged one, nor leaves it any user."""
    assert target.sim is not None
    target.sim.open_users()
    names = target.new_names(30)
    target.sign_up(names)
    with forger(target, "_users") as statuses:
        instance.start()
        instance.wait_until_ready()
        assert target.unserved(names) == []
        later = target.new_names(30)
        target.sign_up(later)
        eventually(lambda: not target.unserved(later), "those who sign up meanwhile are served")
        assert instance.gauge("peruserd_instances_alive") == 1
        assert instance.gauge("peruserd_standby") == 0
    assert set(statuses) == {201}, "the server took every one of them"


def test_nobody_else_can_write_a_lease_where_leases_are_read(target: Target, instance: Daemon) -> None:
    """CouchDB's own access check distinguishes an instance from anybody else."""
    instance.start()
    instance.wait_until_ready()
    with forger(target, LEASES) as statuses:
        eventually(lambda: len(statuses) >= 30, "many were tried")
    assert set(statuses) == {401}
    assert instance.gauge("peruserd_instances_alive") == 1


def test_instances_that_start_together_on_a_new_cluster_share_one_database(
    target: Target, make_daemon: Callable[..., Daemon]
) -> None:
    """Each instance finds the database missing; one is made, and no instance takes it for a foreign one."""
    instances = [make_daemon(url=url, username=target.username, password=target.password) for url in target.urls]
    for each in instances:
        each.launch()
    for each in instances:
        each.wait_until_started()
    eventually_each(instances, lambda each: each.gauge("peruserd_instances_alive") == 3, "all know of each other")
    for each in instances:
        each.wait_until_ready()
        assert each.gauge("peruserd_lease_copies_live") == each.gauge("peruserd_lease_copies_expected") == 3
    assert target.sim is not None
    assert target.sim.creations() == {LEASES: 1}


@pytest.mark.parametrize("method", ["GET", None])
def test_an_instance_stops_in_order_while_the_server_hangs(
    target: Target, instance: Daemon, method: str | None
) -> None:
    """Every wait has a limit, so systemd need not kill the instance; the lease is released if possible."""
    assert target.sim is not None
    instance.start()
    instance.wait_until_ready()
    eventually(lambda: released(target) == [False], "its lease is written")
    target.sim.fail(1, "hang", method=method)
    assert instance.stop() == 0
    assert instance.line("stopped") is not None
    assert not any("text" in each for each in instance.lines()), "the last resort"
    assert released(target) == [method is not None]


def released(target: Target) -> list[bool]:
    """Return for each lease whether it is released, by a node that does not hang."""
    leases = connect(target.urls[1].replace("//", f"//{target.username}:{target.password}@")).leases(LEASES)
    return [each.released for each in leases]


def _looks_in_vain(instance: Daemon) -> int:
    return len(instance.lines("leases cannot be read"))


def test_while_leases_cannot_be_read_nobody_is_declared_dead(
    target: Target, make_daemon: Callable[..., Daemon]
) -> None:
    """An instance that dies meanwhile keeps its documents until leases are readable again; log and metrics say so."""
    team = Team(target, make_daemon, {"cluster": {"poll_interval": 0.2, "lease_ttl": 2.0}})
    *others, killed = team.instances
    for number in (1, 2):
        sim(team).fail(number, 500, path_regex=f"/{LEASES}/_local_docs")
    eventually_each(others, lambda each: each.gauge("peruserd_leases_readable") == 0, "leases cannot be read")
    for each in others:
        answer = each.get("/readyz")
        assert (answer.status_code, "leases cannot be read" in answer.text) == (503, True)
    killed.kill()
    looks = [_looks_in_vain(each) for each in others]
    for each, before in zip(others, looks, strict=True):
        # This is longer than a lease lives, counted by looks of at most five a second.
        eventually_at_least(before + 13, partial(_looks_in_vain, each), "many looks")
        assert each.gauge("peruserd_instances_alive") == 3
    names = team.target.new_names(30)
    with team.acting.unsettled():
        team.target.sign_up(names)
        mine = [name for name, owner in team.owners(names).items() if owner != NODES[2]]
        eventually(lambda: not team.target.unserved(mine), "who is not the dead one's is served all the same")
        sim(team).clear_faults()
        team.wait_until_served(names, team.promised_seconds)
        team.wait_until_settled(others)


def test_a_restart_while_leases_cannot_be_read_takes_over_nothing(
    target: Target, make_daemon: Callable[..., Daemon]
) -> None:
    """At a start a dead instance looks like an unreadable lease, so the earlier instances count as alive."""
    team = Team(target, make_daemon, {"cluster": {"poll_interval": 0.2}})
    first = team.instances[0]
    sim(team).fail(1, 500, path_regex=f"/{LEASES}/_local_docs")
    assert first.stop() == 0
    first.start()
    eventually(lambda: len(first.lines("leases cannot be read")) > 10, "it has looked many times")
    assert "leases cannot be read" in first.get("/readyz").text
    names = team.target.new_names(30)
    with team.acting.unsettled():
        team.target.sign_up(names)
        team.wait_until_served(names)
    theirs = [name for name, owner in team.owners(names).items() if owner != NODES[0]]
    assert theirs
    assert [name for name, nodes in team.acting.actors(theirs).items() if NODES[0] in nodes] == []
    sim(team).clear_faults()
    team.wait_until_settled()


def test_somebody_elses_database_found_late_ends_the_daemon_with_78(target: Target, instance: Daemon) -> None:
    """The node was away at the start. A restart would find the same, so the exit code prevents one."""
    assert target.sim is not None
    target.request("PUT", f"/{LEASES}")
    target.request("PUT", f"/{LEASES}/recipe", json={"salt": 1})
    target.sim.stop_node(1)
    instance.start()
    target.sim.start_node(1)
    assert instance.wait() == 78
    line = instance.line("cannot go on")
    assert line is not None
    assert "set cluster.database to a name that is free" in line["error"]
    assert target.request("GET", f"/{LEASES}").json()["doc_count"] == 1


def test_another_configuration_is_said_once(target: Target, make_daemon: Callable[..., Daemon]) -> None:
    """Both serve users by their own settings, and the log of each names the other."""
    account = {"username": target.username, "password": target.password}
    one = make_daemon(url=target.urls[0], **account).start()
    other = make_daemon(url=target.urls[1], **account, config={"deletion": {"policy": "keep"}}).start()
    event = "instance has another configuration of databases or templates; users are served by either"
    eventually_each((one, other), lambda each: each.line(event), "it is said")
    eventually_each((one, other), lambda each: each.metrics().total("peruserd_plans_total") >= 1, "it went on")
    for each, node in ((one, NODES[1]), (other, NODES[0])):
        assert [line["node"] for line in each.lines(event)] == [node]


def test_couch_peruser_beside_an_instance_is_said(target: Target, instance: Daemon) -> None:
    """In the log and in a metric; users are served all the same."""
    setting = f"/_node/{NODES[0]}/_config/couch_peruser/enable"
    assert target.request("PUT", setting, json="true").status_code == 200
    instance.start()
    eventually(lambda: instance.gauge("peruserd_couch_peruser_enabled") == 1, "the metric says so")
    (line,) = instance.lines("couch_peruser is on beside this instance")
    assert (line["level"], line["node"]) == ("warning", NODES[0])
    names = target.new_names(3)
    target.sign_up(names)
    eventually(lambda: not target.unserved(names), "users are served")
