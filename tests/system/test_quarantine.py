"""The quarantine of a running instance, and the operator's commands on it."""

import json
from collections.abc import Iterator

import pytest

from peruserd.core.common.names import database_name
from peruserd.simcluster import ClusterOptions
from tests.cli.running import peruserd
from tests.system.daemon import Daemon
from tests.system.simulated import sim
from tests.system.target import PREFIX, Target, open_simulated
from tests.system.team import Team
from tests.waiting import eventually


@pytest.fixture
def target() -> Iterator[Target]:
    """Give a simulated cluster of one node, whose instance has two listeners."""
    with open_simulated(ClusterOptions(nodes=1, q=2, n=1)) as opened:
        yield opened


def quarantine(instance: Daemon, *arguments: str) -> tuple[int, list[str]]:
    """Give an order as an operator beside the instance; return the exit code and the named users."""
    ran = peruserd("quarantine", *arguments, "--json", environment={"PERUSERD_STATE_DIRECTORY": str(instance.state)})
    assert ran.stdout, ran.stderr
    return ran.returncode, sorted(each["user"] for each in json.loads(ran.stdout)["users"])


def test_an_operator_lists_retries_and_forgets_users(team: Team) -> None:
    """All listeners' entries are listed, a retried user is served, and a restart brings no forgotten user back."""
    (instance,) = team.instances
    names = sorted(team.target.new_names(8))
    kept, *others = names
    # Each try fails as long as this is so.
    for name in names:
        sim(team).fail(1, 400, path_regex=f"/{database_name(PREFIX, name)}")
    team.target.sign_up(names)
    eventually(lambda: quarantine(instance, "list") == (0, names), "all are in quarantine")
    assert len({line["copy"] for line in instance.lines("listener started")}) == 2
    for name in ("peruserd_quarantined_users", "peruserd_quarantined_users_permanent"):
        instance.wait_for_total(name, 8)
    assert quarantine(instance, "show", "--kind", "rejected") == (0, names)
    assert quarantine(instance, "list", "--kind", "conflict") == (0, [])
    assert quarantine(instance, "list", kept, "nobody") == (1, [kept])
    assert quarantine(instance, "forget", kept) == (0, [kept])
    # Somebody may be tried in this moment.
    eventually(lambda: quarantine(instance, "retry", "--all") == (0, others), "all are tried")
    sim(team).clear_faults()
    team.wait_until_served(others)
    eventually(lambda: quarantine(instance, "list") == (0, []), "the quarantine is empty")
    instance.stop()
    assert (
        peruserd("quarantine", "list", environment={"PERUSERD_STATE_DIRECTORY": str(instance.state)}).returncode == 75
    )
    instance.start()
    instance.wait_until_scanned()
    assert quarantine(instance, "list") == (0, [])
    assert team.target.unserved(names) == [kept]
