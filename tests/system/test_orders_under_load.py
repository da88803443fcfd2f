"""Operators change and restart what runs, while people sign up: nobody is lost, and nobody waits for a quiet period.

Nothing that happens here changes the view of the cluster, so only one instance may act on each user from first to last.
The quiet period is longer than a test may take, and whoever is served was not waiting for it. On the simulated cluster,
or on the real one that PERUSERD_TEST_CLUSTER names.
"""

import json
from collections.abc import Iterator

import pytest

from peruserd.core.common.names import database_name
from peruserd.core.processes.status import decode_status
from peruserd.simcluster import ClusterOptions
from tests.cli.running import peruserd
from tests.system.daemon import Daemon
from tests.system.signing_up import SigningUp
from tests.system.target import PREFIX, Target, open_target
from tests.system.team import NEVER_SECONDS, Team
from tests.waiting import eventually

SHARDS = 2
"""Another number of shards of new databases than the default."""


@pytest.fixture
def target() -> Iterator[Target]:
    """Give a cluster. A simulated one has two nodes."""
    with open_target(ClusterOptions(nodes=2, q=2, n=2)) as opened:
        yield opened


def order(instance: Daemon, *words: str) -> tuple[int, object]:
    """Give an order to an instance; return the exit code, and what it prints as JSON."""
    ran = peruserd(*words, "--json", "--config", str(instance.directory / "peruserd.toml"))
    return ran.returncode, json.loads(ran.stdout)


def reloaded(at_once: list[str], with_listeners: list[str], needs_restart: list[str]) -> tuple[int, object]:
    """Return the answer to a reload."""
    done = not needs_restart
    effects = {"at_once": at_once, "with_listeners": with_listeners, "needs_restart": needs_restart}
    return 0 if done else 1, {"done": done, **effects}


def serve_all(team: Team, signing_up: SigningUp) -> None:
    """Wait until all are served, each by its owner alone."""
    team.wait_until_served(signing_up.names)
    team.assert_acted_on_by_owners(signing_up.names)
    assert team.total("peruserd_listener_restarts_total") == 0
    assert team.total("peruserd_quarantined_users") == 0


def shards(team: Team, name: str) -> int:
    """Return the number of shards of a user's database."""
    found: int = team.target.request("GET", f"/{database_name(PREFIX, name)}").json()["cluster"]["q"]
    return found


def test_users_sign_up_while_every_kind_of_key_is_reloaded(team: Team) -> None:
    """A key that is in force at once, one that needs new listeners, and one that waits for a restart."""
    team.set_quiet_period(NEVER_SECONDS)
    with SigningUp(team.target, nodes=(1, 2)) as signing_up:
        signing_up.wait_for_more(12)
        for each in team.instances:
            before = set(each.listeners())
            each.write_configuration(provisioning={"max_in_flight": 9}, audit={"rate": 1.0})
            assert order(each, "reload") == reloaded(["provisioning.max_in_flight", "audit.rate"], [], [])
            assert set(each.listeners()) == before
        first = signing_up.names[0]
        for each in team.instances:
            before = set(each.listeners())
            each.write_configuration(databases={"q": SHARDS})
            assert order(each, "reload") == reloaded([], ["databases.q"], [])
            eventually(lambda: len(set(each.listeners()) - before) == len(before), "all have a new process")  # noqa: B023
        begin = len(signing_up.names) + signing_up.GROUP
        signing_up.wait_for_more(20)
        later = signing_up.names[begin : begin + 12]
        team.wait_until_served(later)
        assert ([shards(team, first)], {shards(team, name) for name in later}) == ([1], {SHARDS})
        team.instances[0].write_configuration(http={"listen": "127.0.0.1:1"})
        assert order(team.instances[0], "reload") == reloaded([], [], ["http.listen"])
        # It answers at the old address. The new listeners scan their ranges first.
        team.instances[0].wait_until_ready()
        signing_up.wait_for_more(8)
    serve_all(team, signing_up)


def test_users_sign_up_while_every_listener_is_started_again(team: Team) -> None:
    """Each ends its work first, and goes on at its checkpoint. The status shows that, and no failure."""
    team.set_quiet_period(NEVER_SECONDS)
    before = [set(each.listeners()) for each in team.instances]
    with SigningUp(team.target, nodes=(1, 2)) as signing_up:
        signing_up.wait_for_more(12)
        for each in team.instances:
            for copy in sorted(each.listeners().values()):
                assert order(each, "restart-listener", copy.partition("@")[0]) == (0, {"done": True, "listener": copy})
                signing_up.wait_for_more(8)
    after = [set(each.listeners()) for each in team.instances]
    assert [len(pids) for pids in after] == [len(pids) for pids in before]
    assert all(map(set.isdisjoint, before, after))
    serve_all(team, signing_up)
    for each in team.instances:
        resumed = [line["why"] for line in each.lines("following")]
        assert resumed[len(resumed) // 2 :] == ["the checkpoint holds"] * (len(resumed) // 2)
        eventually(lambda: _shows_orders(each), "the status shows why they ended")  # noqa: B023


def _shows_orders(instance: Daemon) -> bool:
    status = decode_status(instance.get("/status.json").content)
    assert status.healthy.ok
    shown = {(str(each.why), each.restarts, each.failures, each.caught_up) for each in status.listeners}
    return shown == {("ordered", 0, 0, True)} and status.ready.ok
