"""Stops over a dead network: they are in order, and nothing is left behind."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from peruserd.simcluster import SimClusterThread
from tests.sabotage import VARIABLE, orders
from tests.swallowing import Death, Line
from tests.system.daemon import Daemon
from tests.waiting import eventually

# Longer than any stop may take. A request that is not interrupted would go on for this long.
ENDLESS_SECONDS = 600.0

# The time-out of a lease's renewal, and the share of a stop's time for work in flight.
HURRIED = (
    ("peruserd.daemon.instance", "_SHORT_SECONDS", 2.0),
    ("peruserd.supervisor.listener", "_ASKED_SHARE", 0.2),
)


@pytest.mark.parametrize("how", list(Death), ids=lambda how: how.name.lower())
def test_a_stop_is_in_order_although_no_packet_comes_back(
    cluster: SimClusterThread, make_daemon: Callable[..., Daemon], how: Death, tmp_path: Path
) -> None:
    """Each request under way is interrupted, so that no part is left behind. Only the lease is not released."""
    cluster.seed_users(3)
    timeouts = {"connect_timeout": ENDLESS_SECONDS, "read_timeout": ENDLESS_SECONDS}
    with Line(cluster.urls[0]) as line:
        environment = {VARIABLE: orders(tmp_path / "sabotage", HURRIED)}
        config = {"couchdb": timeouts, "deletion": {"policy": "drop"}}
        daemon = make_daemon(url=line.url, config=config, environment=environment)
        daemon.start().wait_until_scanned()
        line.die(how)
        eventually(lambda: daemon.line("lease not written; others may take this instance for dead"), "it is noticed")
        assert daemon.stop() == 0
    assert [each["part"] for each in daemon.lines("a part of the instance does not end, and is left behind")] == []
    assert daemon.line("lease not released") is not None
    assert {each["reason"] for each in daemon.lines("listener ended")} == {"shutdown"}


def test_work_in_flight_has_its_time_and_no_more(
    cluster: SimClusterThread, make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    """The users whose requests are never answered are left to the next start."""
    timeouts = {"connect_timeout": ENDLESS_SECONDS, "read_timeout": ENDLESS_SECONDS}
    with Line(cluster.urls[0]) as line:
        environment = {VARIABLE: orders(tmp_path / "sabotage", HURRIED)}
        daemon = make_daemon(url=line.url, config={"couchdb": timeouts}, environment=environment)
        daemon.start().wait_until_scanned()
        cluster.set_delay(1, 2.0)
        cluster.seed_users(50)
        eventually(lambda: daemon.metrics().total("peruserd_listener_in_flight"), "work is in flight")
        line.die(Death.SILENT)
        assert daemon.stop() == 0
    assert "not all work in flight ended in time" in str(daemon.lines("stopped"))
    assert {each["reason"] for each in daemon.lines("listener ended")} == {"shutdown"}


@pytest.mark.anew
def test_hangups_during_the_stop_do_nothing(cluster: SimClusterThread, make_daemon: Callable[..., Daemon]) -> None:
    """They come until the very end of the process, at which Python takes the handlers of a program away."""
    daemon = make_daemon(url=cluster.urls[0])
    daemon.start()
    daemon.ask_to_stop()
    while daemon.exit_code is None:
        daemon.hang_up()
        time.sleep(0.001)
    assert daemon.exit_code == 0
