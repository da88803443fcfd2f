"""An instance takes over another configuration while it runs and serves users.

On the simulated cluster, or on the real one that PERUSERD_TEST_CLUSTER names.
"""

import json
import os
import re
import signal
from collections.abc import Callable

import pytest

from peruserd.core.common.names import database_name, user_document_id
from tests.cli.running import peruserd
from tests.system.daemon import Daemon
from tests.system.target import LEASES, PREFIX, Target
from tests.waiting import eventually


@pytest.fixture
def instance(make_daemon: Callable[..., Daemon], one_node: Target) -> Daemon:
    """An instance with two listeners that has caught up."""
    made = make_daemon(url=one_node.urls[0], username=one_node.username, password=one_node.password)
    made.start().wait_until_scanned()
    return made


def reloaded(instance: Daemon, **changes: dict[str, object]) -> dict[str, object]:
    """Write other keys, send SIGHUP as `systemctl reload` does, and return what was said of the reload."""
    before = len(instance.lines("configuration read again"))
    instance.write_configuration(**changes)
    instance.hang_up()
    eventually(lambda: len(instance.lines("configuration read again")) > before, "the file is read again")
    return instance.lines("configuration read again")[-1]


def wait_for_success(instance: Daemon, value: int) -> None:
    """Wait until the metric says so: a scrape can be a second old."""
    eventually(lambda: instance.gauge("peruserd_config_last_reload_successful") == value, "the metric is up to date")


def test_limits_and_the_log_change_without_a_new_process(instance: Daemon, one_node: Target) -> None:
    """Listeners hear of their new limits and log at the new level, and go on."""
    listeners = instance.listeners()
    said = reloaded(instance, provisioning={"max_in_flight": 3}, audit={"rate": 1.0})
    assert said["at_once"] == ["provisioning.max_in_flight", "audit.rate"]
    before = one_node.serve(1)
    instance.write_configuration(log={"level": "warning"})
    instance.hang_up()
    # Each listener says so twice, the second time before it takes the new level.
    eventually(lambda: len(instance.lines("another configuration is in force")) == 4, "all listeners have heard of it")
    one_node.serve(1)
    assert [line["document"] for line in instance.lines("audit")] == [user_document_id(name) for name in before]
    assert instance.listeners() == listeners
    wait_for_success(instance, 1)


def test_a_mistake_is_refused_and_a_key_that_needs_a_restart_is_named(instance: Daemon, one_node: Target) -> None:
    """The instance serves users as before. The command says the same as the log."""
    file = instance.directory / "peruserd.toml"
    file.write_text(file.read_text().replace("debug", "loud"))
    instance.hang_up()
    refused = eventually(lambda: instance.line("configuration refused; the one before stays in force"))
    assert "log.level" in refused["error"]
    wait_for_success(instance, 0)
    one_node.serve(1)
    instance.write_configuration(http={"listen": "127.0.0.1:1"}, cluster={"quiet_period": 0.7})
    ran = peruserd("reload", "--config", str(file), "--json")
    assert ran.returncode == 1
    assert json.loads(ran.stdout) == {
        "done": False,
        "at_once": ["cluster.quiet_period"],
        "with_listeners": [],
        "needs_restart": ["http.listen"],
    }
    named = eventually(lambda: instance.line("restart peruserd to apply these keys; their old values are in force"))
    assert named["keys"] == ["http.listen"]
    wait_for_success(instance, 1)
    one_node.serve(1)
    assert instance.stop() == 0


def test_what_databases_depend_on_comes_with_new_listeners_one_after_the_other(
    instance: Daemon, one_node: Target
) -> None:
    """The second one stops after the first one is back. That is no failure, and the lease shows the new digest."""
    before = instance.listeners()
    (lease,) = _digests(one_node)
    said = reloaded(instance, databases={"q": 3})
    assert (said["at_once"], said["with_listeners"]) == ([], ["databases.q"])
    eventually(lambda: len(set(instance.listeners()) - set(before)) == 2, "both have a new process")
    instance.wait_until_scanned()
    ends = instance.lines("listener ended")
    assert [line["reason"] for line in ends] == ["ordered", "ordered"]
    events = [line for line in instance.lines() if line.get("event") in ("stopped", "following")]
    assert [(line["event"], line["listener"]) for line in events[2:]] == [
        (event, copy) for copy in sorted(before.values()) for event in ("stopped", "following")
    ]
    assert instance.metrics().total("peruserd_listener_restarts_total") == 0
    (name,) = one_node.serve(1)
    assert one_node.request("GET", f"/{database_name(PREFIX, name)}").json()["cluster"]["q"] == 3
    eventually(lambda: _digests(one_node) != [lease], "the lease has the new digest")


def _digests(target: Target) -> list[str]:
    rows = target.request("GET", f"/{LEASES}/_local_docs", params={"include_docs": "true"}).json()["rows"]
    return [row["doc"]["digest"] for row in rows if re.match("_local/peruserd.active", row["id"])]


@pytest.mark.anew
def test_a_signal_to_all_processes_reloads_and_ends_none_of_them(instance: Daemon, one_node: Target) -> None:
    """`pkill -HUP peruserd` reaches the listeners and the helpers too, and SIGHUP would end them by default."""
    before = instance.listeners()
    os.killpg(instance.pid, signal.SIGHUP)
    eventually(lambda: instance.line("configuration read again"), "the file is read again")
    one_node.serve(1)
    assert instance.listeners() == before
    assert instance.lines("listener ended") == []
