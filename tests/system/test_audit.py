"""The audit in daemons and by an operator's command, with instances beside each node of a simulated cluster."""

import json
from collections.abc import Callable, Iterator

import pytest

from peruserd.core.common.names import database_name
from peruserd.simcluster import ClusterOptions
from tests.cli.running import peruserd
from tests.system.daemon import Daemon
from tests.system.simulated import sim
from tests.system.target import PREFIX, Target, open_simulated
from tests.system.team import Team
from tests.waiting import eventually

# Two rounds a second, as fast as the cluster allows.
ALWAYS = {"audit": {"interval": 0.5, "rate": 10_000.0}}
# The first round begins long after the test.
NEVER = {"audit": {"interval": 86_400.0}}


@pytest.fixture
def target() -> Iterator[Target]:
    """Give a simulated cluster of three nodes."""
    with open_simulated(ClusterOptions(nodes=3, q=2, n=3)) as opened:
        yield opened


def served(team: Team, count: int) -> list[str]:
    """Sign users up, and wait until they are served."""
    names = team.target.new_names(count)
    team.target.sign_up(names)
    team.wait_until_served(names)
    return names


def delete_and_make(team: Team, name: str) -> None:
    """Change a user's database as a restore without security objects does."""
    for method in ("DELETE", "PUT"):
        answer = team.target.request(method, f"/{database_name(PREFIX, name)}")
        assert answer.ok, answer.text


def open_to_all(team: Team, name: str) -> None:
    """Empty a user's security object."""
    answer = team.target.request("PUT", f"/{database_name(PREFIX, name)}/_security", json={})
    assert answer.ok, answer.text


def findings(team: Team, kind: str, which: str = "last") -> float:
    """Return the number of findings of a kind, over all instances."""
    return team.total("peruserd_audit_findings", kind=kind, round=which)


def test_users_whom_one_copy_does_not_know_are_served(target: Target, make_daemon: Callable[..., Daemon]) -> None:
    """A listener follows one copy, and that copy may be behind for ever: replication to node 2 stands still."""
    team = Team(target, make_daemon, ALWAYS)
    sim(team).pause_replication(2, "_users")
    names = target.new_names(60)
    target.sign_up(names)
    unknown = [name for name, owner in team.owners(names).items() if owner == team.nodes[1]]
    assert len(unknown) > 5
    team.wait_until_served(names)
    eventually(lambda: findings(team, "copy_behind") >= len(unknown), "the copy that is behind is reported")
    eventually(lambda: team.total("peruserd_looks_total", reason="audit") > 0, "the looks are counted")


def test_databases_that_others_made_anew_or_opened_are_put_right(
    target: Target, make_daemon: Callable[..., Daemon]
) -> None:
    """A change of a security object shows in no feed; the next round finds it, and a later one finds nothing.

    The summary of that round is there after a restart, long before the next round begins.
    """
    team = Team(target, make_daemon, ALWAYS)
    names = served(team, 20)
    for name in names[:5]:
        delete_and_make(team, name)
    for name in names[5:10]:
        open_to_all(team, name)
    assert target.unserved(names)
    team.wait_until_served(names)
    assert [each["finding"] for instance in team.instances for each in instance.lines("audit finding")]
    eventually(lambda: team.total("peruserd_audit_users", round="last") == len(names), "a round of all has ended")
    eventually(lambda: not findings(team, "not_named") and not findings(team, "public"), "a round finds nothing")
    instance = team.instances[0]
    before = instance.metrics().total("peruserd_audit_users", round="last")
    instance.stop()
    instance.config["audit"] = dict(NEVER["audit"])
    instance.start()
    eventually(lambda: instance.gauge("peruserd_audit_age_seconds") is not None, "the last round is known")
    assert instance.metrics().total("peruserd_audit_users", round="last") == before


def test_an_operator_has_the_daemon_put_right_what_differs(target: Target, make_daemon: Callable[..., Daemon]) -> None:
    """`peruserd audit --repair` sends users of any owner to one instance, and exits 0 when no difference remains."""
    team = Team(target, make_daemon, NEVER)
    names = served(team, 12)
    for name in names[:6]:
        open_to_all(team, name)
    file = team.instances[0].directory / "peruserd.toml"
    ran = peruserd("audit", "--repair", "--json", "--config", str(file))
    result = json.loads(ran.stdout)
    assert (ran.returncode, result["left"], sorted(result["sent"])) == (0, [], sorted(names[:6])), ran.stderr
    assert target.unserved(names) == []
