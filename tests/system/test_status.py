"""The status of a running instance, as programs read it."""

import time
from collections.abc import Callable

from peruserd.core.processes.lifecycle import State
from peruserd.core.processes.messages import Stage
from peruserd.core.processes.status import InstanceRole, Status, decode_status
from peruserd.simcluster import SimClusterThread
from tests.system.daemon import Daemon
from tests.system.server import Server
from tests.waiting import eventually


def status_of(daemon: Daemon) -> Status:
    """Return the status that a daemon shows."""
    return decode_status(daemon.get("/status.json").content)


def test_the_status_follows_what_the_instance_does(
    cluster: SimClusterThread, server: Server, make_daemon: Callable[..., Daemon]
) -> None:
    """It shows the ranges, the listeners, the sign-ups and a user in quarantine, and names nobody."""
    before = time.time()
    daemon = make_daemon(url=cluster.urls[0], config={"databases": {"when_deleted": "report"}}).start()
    daemon.wait_until_ready()
    names = [f"someone-{number}" for number in range(5)]
    server.sign_up(names)
    eventually(lambda: all(map(server.is_served, names)), "all are served")
    server.ask("DELETE", server.databases().pop()).raise_for_status()
    eventually(lambda: status_of(daemon).quarantine == {"database_deleted": 1}, "the quarantine shows its kind")
    status = status_of(daemon)
    assert before - 1 <= status.started <= status.time <= time.time() + 1
    assert (status.role, status.healthy.ok, status.ready.ok) == (InstanceRole.ACTIVE, True, True)
    assert status.nodes == (status.node,)
    (me,) = status.instances
    assert (me.is_me, me.is_active, me.same_configuration, me.incarnation) == (True, True, True, status.incarnation)
    assert me.lease_age is not None
    assert [each.range for each in status.ranges] == ["00000000-7fffffff", "80000000-ffffffff"]
    for each in status.ranges:
        assert each.hosts == each.owners == each.followed_at == (status.node,)
    assert {each.pid for each in status.listeners} == set(daemon.listeners())
    for listener in status.listeners:
        assert (listener.state, listener.caught_up, listener.lag_rows) == (State.RUNNING, True, 0)
        assert listener.stage in (Stage.FOLLOWING, Stage.SCANNING)
    assert status.latency.recent.served == sum(status.latency.buckets) == 5
    assert status.latency.recent.median is not None
    assert status.counters["databases_created"] == 5
    assert (status.authentication.let_in, status.authentication.trouble) == (True, None)
    assert status.couch_peruser is False
    first = status.plans[-1]
    assert (first.reasons, first.says) == (("the first plan after the start",), "listening to 2 of 2 ranges")
    assert "someone-" not in daemon.get("/status.json").text
