"""Commands that speak to the daemon of their node, with a daemon that runs."""

import json
import subprocess
from collections.abc import Callable

import pytest

from peruserd.simcluster import SimClusterThread
from tests.cli.running import peruserd
from tests.system.daemon import Daemon
from tests.system.server import Server
from tests.waiting import eventually

RANGE = "00000000-7fffffff"


@pytest.fixture
def instance(make_daemon: Callable[..., Daemon], cluster: SimClusterThread) -> Daemon:
    """An instance with two listeners that has caught up."""
    made = make_daemon(url=cluster.urls[0])
    made.start().wait_until_scanned()
    return made


def ask(instance: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command with the configuration of the instance."""
    return peruserd(*arguments, "--config", str(instance.directory / "peruserd.toml"))


def test_the_status_comes_through_the_socket(instance: Daemon, server: Server) -> None:
    """It needs no port, and has what the page has. After a stop nobody answers."""
    server.sign_up(["ann"])
    eventually(lambda: not server.unserved(["ann"]), "the user is served")
    shown = ask(instance, "status")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("node1@127.0.0.1: active; ")
    document = json.loads(ask(instance, "status", "--json").stdout)
    assert document.keys() == instance.get("/status.json").json().keys()
    assert document["incarnation"] in str(instance.lines())
    assert instance.stop() == 0
    assert ask(instance, "status").returncode == 75


def test_a_listener_is_started_again_while_users_are_served(instance: Daemon, server: Server) -> None:
    """The other one stays, the new one goes on at its checkpoint, and nothing of it counts as a failure."""
    before = {copy: pid for pid, copy in instance.listeners().items()}
    copy = f"{RANGE}@node1@127.0.0.1"
    done = ask(instance, "restart-listener", RANGE)
    assert (done.returncode, done.stdout) == (0, f"{copy}: reads its copy again\n")
    after = {copy: pid for pid, copy in instance.listeners().items()}
    assert {each for each in before if before[each] != after[each]} == {copy}
    (resumed,) = instance.lines("following")[2:]
    assert (resumed["listener"], resumed["why"]) == (copy, "the checkpoint holds")
    server.sign_up(["ann", "bob", "cid", "dan"])
    eventually(lambda: not server.unserved(["ann", "bob", "cid", "dan"]), "the users are served")
    listeners = json.loads(ask(instance, "listeners", "--json").stdout)["listeners"]
    (shown,) = [each for each in listeners if each["copy"] == copy]
    assert (shown["why"], shown["restarts"], shown["failures"]) == ("ordered", 0, 0)
    assert ask(instance, "restart-listener", "nobody").returncode == 1
