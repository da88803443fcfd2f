"""Commands that speak to the daemon of their node, with a daemon that runs.

On the simulated cluster, or on the real one that PERUSERD_TEST_CLUSTER names.
"""

import json
import subprocess
from collections.abc import Callable

import pytest

from tests.cli.running import peruserd
from tests.system.daemon import Daemon
from tests.system.target import Target

RANGE = "00000000-7fffffff"


@pytest.fixture
def instance(make_daemon: Callable[..., Daemon], one_node: Target) -> Daemon:
    """An instance with two listeners that has caught up."""
    made = make_daemon(url=one_node.urls[0], username=one_node.username, password=one_node.password)
    made.start().wait_until_scanned()
    return made


def ask(instance: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command with the configuration of the instance."""
    return peruserd(*arguments, "--config", str(instance.directory / "peruserd.toml"))


def test_the_status_comes_through_the_socket(instance: Daemon, one_node: Target) -> None:
    """It needs no port, and has what the page has. After a stop nobody answers."""
    one_node.serve(1)
    shown = ask(instance, "status")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("node1@127.0.0.1: active; ")
    document = json.loads(ask(instance, "status", "--json").stdout)
    assert document.keys() == instance.get("/status.json").json().keys()
    assert document["incarnation"] in str(instance.lines())
    assert instance.stop() == 0
    assert ask(instance, "status").returncode == 75


def test_a_listener_is_started_again_while_users_are_served(instance: Daemon, one_node: Target) -> None:
    """The other one stays, the new one goes on at its checkpoint, and nothing of it counts as a failure."""
    before = {copy: pid for pid, copy in instance.listeners().items()}
    copy = f"{RANGE}@node1@127.0.0.1"
    done = ask(instance, "restart-listener", RANGE)
    assert (done.returncode, done.stdout) == (0, f"{copy}: reads its copy again\n")
    after = {copy: pid for pid, copy in instance.listeners().items()}
    assert {each for each in before if before[each] != after[each]} == {copy}
    (resumed,) = instance.lines("following")[2:]
    assert (resumed["listener"], resumed["why"]) == (copy, "the checkpoint holds")
    one_node.serve(4)
    listeners = json.loads(ask(instance, "listeners", "--json").stdout)["listeners"]
    (shown,) = [each for each in listeners if each["copy"] == copy]
    assert (shown["why"], shown["restarts"], shown["failures"]) == ("ordered", 0, 0)
    assert ask(instance, "restart-listener", "nobody").returncode == 1
